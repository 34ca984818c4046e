"""No module outside its one home calls what one operating system alone has."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import semigpt

SOURCE = Path(semigpt.__file__).parent
# The third is a program of its own, which imports nothing of semigpt.
HOMES = {"storage.py", "system.py", "corpus/kinds/pdf_pages.py", "native/landlock.py"}
UNIX_MODULES = ("fcntl", "resource", "pwd", "grp", "termios")
MODULES = {
    *(*UNIX_MODULES, "tty", "pty", "posix", "syslog", "curses", "readline", "crypt"),
    *("msvcrt", "winreg", "_winapi"),
}
NAMES = {
    "os": {
        *("fork", "forkpty", "kill", "killpg", "wait", "wait3", "wait4", "waitpid", "waitid"),
        *("WNOHANG", "WEXITED", "WNOWAIT", "P_PID", "WIFSIGNALED", "WIFEXITED", "WEXITSTATUS"),
        *("nice", "getpriority", "setpriority", "sched_getaffinity", "sched_setaffinity"),
        *("getuid", "geteuid", "getgid", "getegid", "getgroups", "setsid", "setuid", "umask"),
        *("chown", "lchown", "fchmod", "fchown", "chroot", "mkfifo", "mknod", "openpty", "ttyname"),
        *("O_DIRECTORY", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_SYNC", "O_TMPFILE"),
        *("sysconf", "getloadavg", "statvfs", "fstatvfs", "uname", "sync", "posix_fallocate"),
        *("posix_fadvise", "pread", "pwrite", "sendfile", "memfd_create", "copy_file_range"),
    },
    "signal": {
        *("SIGKILL", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE"),
        *("SIGSTOP", "SIGTSTP", "SIGCONT", "SIGWINCH", "alarm", "setitimer", "pause", "sigwait"),
        *("pthread_kill", "pthread_sigmask", "siginterrupt", "signal"),  # handlers: `handled`
    },
}
KEYWORDS = {"preexec_fn", "start_new_session", "process_group", "pass_fds"}


def unportable(tree: ast.AST) -> Iterator[str]:
    """What a module's code names of one system alone, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".")[0]
            names = [alias.name for alias in node.names]
            found = [module] * (module in MODULES)
            found += [f"{module}.{name}" for name in names if name in NAMES.get(module, ())]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            of = node.value.id
            found = [f"{of}.{node.attr}"] * (node.attr in NAMES.get(of, ()))
        elif isinstance(node, ast.Call):
            found = [f"{word.arg}=" for word in node.keywords if word.arg in KEYWORDS]
        else:
            continue
        yield from (f"{name}, line {node.lineno}" for name in found)


def test_what_one_system_alone_has_is_called_in_its_home_alone() -> None:
    found = {
        str(path.relative_to(SOURCE)): list(unportable(ast.parse(path.read_text("utf-8"))))
        for path in SOURCE.rglob("*.py")
    }
    homes = {name for name, names in found.items() if names}
    assert homes == HOMES, {name: found[name] for name in homes ^ HOMES}


@pytest.mark.parametrize(
    "code",
    [
        "import fcntl",
        "def f():\n    import resource",
        "from os import fork",
        "import os\nos.kill(1, 9)",
        "import os\nos.open('.', os.O_RDONLY | os.O_DIRECTORY)",
        "import signal\nsignal.SIGKILL",
        "import signal\nsignal.signal(2, print)",
        "import subprocess\nsubprocess.run([], preexec_fn=print)",
    ],
)
def test_it_is_found_wherever_it_is_called(code: str) -> None:
    assert list(unportable(ast.parse(code)))


PROGRAM = """\
import importlib, pkgutil, sys
for name in sys.argv[2].split():
    sys.modules[name] = None  # an import of it now raises ImportError
import semigpt
for module in pkgutil.walk_packages(semigpt.__path__, "semigpt."):
    if module.name != "semigpt.__main__":
        importlib.import_module(module.name)
from semigpt.cli import main
try:
    main(["--help"])
except SystemExit as end:
    assert end.code == 0
sys.exit(main([
    "train", "--data", "news#articles=60", "--model", "bigram", "--size", "tiny", "--steps", "10",
    "--out", sys.argv[1], "--device", "cpu", "--set", "training.eval_blocks=4",
    "--set", "sample.max_new_tokens=4",
]))
"""


def test_every_module_imports_and_a_run_ends_without_the_modules_of_unix(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run), " ".join(UNIX_MODULES)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: semigpt")
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "report.html").is_file()
