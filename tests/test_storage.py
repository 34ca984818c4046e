"""What is written is whole or not there, and nothing but semigpt's own temporary folders is ever
removed.
"""

from __future__ import annotations

import ast
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from semigpt import storage, system
from semigpt.storage import (
    JOURNAL,
    has_resumable,
    publish,
    resumable_folder,
    write_journal,
)


def make_old(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize(
    "name", [".staging-photos", ".semigpt-photos", ".semigpt-ab12-0123456789ab", ".photos.partial"]
)
def test_a_strangers_folder_is_let_be(tmp_path: Path, name: str) -> None:
    """Whatever it is called, however old it is, whether or not there is a lock file beside it."""
    for folder in (tmp_path / name, tmp_path / f"{name}-2"):
        folder.mkdir()
        (folder / "photo.jpg").write_bytes(b"mine")
        (folder / "lock").touch()
    (tmp_path / f"{name}-2.lock").write_text("held by my own program")
    make_old(*tmp_path.iterdir())
    with resumable_folder(tmp_path, "ab12") as temporary:
        publish(temporary, tmp_path / "whole")
    assert (tmp_path / name / "photo.jpg").read_bytes() == b"mine"
    assert (tmp_path / f"{name}-2" / "photo.jpg").read_bytes() == b"mine"
    assert (tmp_path / f"{name}-2.lock").is_file()


KILLED = """
import os, signal, sys
from pathlib import Path
from semigpt.storage import resumable_folder, write_journal
with resumable_folder(Path(sys.argv[1]), "ab12") as folder:
    (folder / "text").write_text("half")
    if sys.argv[2] == "journal":
        write_journal(folder, {"bytes": 4})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while_writing(parent: Path, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(parent), how], timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_a_folder_without_a_journal_is_removed_by_the_next_process(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, "no journal")
    assert len(list(tmp_path.iterdir())) == 2
    with resumable_folder(tmp_path, "ab12") as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_journal_is_taken_over(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, "journal")
    assert has_resumable(tmp_path, "ab12")
    with resumable_folder(tmp_path, "cd34"):  # another key leaves it
        pass
    with resumable_folder(tmp_path, "ab12") as folder:
        assert (folder / "text").read_text() == "half"
        publish(folder, tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert [path.name for path in (tmp_path / "whole").iterdir()] == ["text"]


def test_a_folder_with_a_journal_is_removed_on_demand_and_after_a_week(tmp_path: Path) -> None:
    kill_while_writing(tmp_path, "journal")
    with resumable_folder(tmp_path, "ab12", from_scratch=True) as folder:
        assert list(folder.iterdir()) == []
    kill_while_writing(tmp_path, "journal")
    (left,) = tmp_path.glob(".semigpt-ab12-*/")
    make_old(left / JOURNAL)
    with resumable_folder(tmp_path, "cd34"):
        assert not left.exists()


def test_a_folder_that_a_process_holds_is_not_taken_over(tmp_path: Path) -> None:
    with resumable_folder(tmp_path, "ab12") as first:
        write_journal(first, {})
        with resumable_folder(tmp_path, "ab12") as second:
            assert second != first
            publish(second, tmp_path / "whole")
        assert first.is_dir()


def test_a_published_folder_replaces_the_old_one_only_where_asked(tmp_path: Path) -> None:
    for text, replace in (("one", False), ("two", False), ("three", True)):
        with resumable_folder(tmp_path) as folder:
            (folder / "text").write_text(text)
            publish(folder, tmp_path / "whole", replace=replace)
        expected = {"one": "one", "two": "one", "three": "three"}[text]
        assert (tmp_path / "whole" / "text").read_text() == expected
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_stopped_folder_stays_only_with_a_journal(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), resumable_folder(tmp_path, "ab12"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), resumable_folder(tmp_path, "ab12") as folder:
        write_journal(folder, {})
        raise KeyboardInterrupt
    assert has_resumable(tmp_path, "ab12")
    with pytest.raises(ValueError, match="broken"), resumable_folder(tmp_path, "ab12"):
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_is_one_process_at_a_time(tmp_path: Path) -> None:
    with (tmp_path / "a").open("wb") as one, (tmp_path / "a").open("rb") as other:
        assert storage.try_lock(one)
        assert not storage.try_lock(other)
    with (tmp_path / "a").open("rb") as after:
        assert storage.try_lock(after)


def test_processes_that_publish_replace_and_sweep_at_once_lose_nothing(tmp_path: Path) -> None:
    """A lock belongs to an open file, so threads stand for processes."""
    end, problems = time.monotonic() + 1, []

    def work(number: int) -> None:
        draw = random.Random(number)
        while time.monotonic() < end:
            key = draw.choice(("aa", "bb"))
            try:
                with resumable_folder(tmp_path, key, from_scratch=draw.random() < 0.1) as folder:
                    if draw.random() < 0.5:
                        write_journal(folder, {})
                    (folder / "text").write_text(key * 1000)
                    if draw.random() < 0.2:
                        raise KeyboardInterrupt
                    publish(folder, tmp_path / f"whole-{key}", replace=draw.random() < 0.5)
            except KeyboardInterrupt:
                pass
            except BaseException as error:
                problems.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    for key in ("aa", "bb"):
        assert (tmp_path / f"whole-{key}" / "text").read_text() == key * 1000
    with resumable_folder(tmp_path, "aa"), resumable_folder(tmp_path, "bb"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole-aa", "whole-bb"]


def test_what_is_written_is_whole_or_as_it_was(tmp_path: Path) -> None:
    """Of several files too, and a stranger's file of a temporary's name is let be."""
    storage.write_files(tmp_path, {"a": b"1", "b": b"1"})
    mine = tmp_path / ".a.0123456789ab.partial-of-mine"
    mine.write_bytes(b"mine")
    (tmp_path / "c").mkdir()
    with pytest.raises(OSError, match="directory"):
        storage.write_files(tmp_path, {"c": b"2", "a": b"2"})
    assert (tmp_path / "a").read_bytes() == b"1"
    left = tmp_path / ".a.0123456789ab.partial"
    left.write_bytes(b"half")
    storage.remove_partial(tmp_path, ["a", "b"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "a", "b", "c"]


def test_a_folder_is_private_where_nobody_else_can_write_on_the_way_to_it(tmp_path: Path) -> None:
    below = tmp_path / "above" / "below"
    below.mkdir(parents=True, mode=0o700)
    assert system.is_private(below)
    (tmp_path / "above").chmod(0o1777)  # sticky, as /tmp is
    assert system.is_private(below)
    (tmp_path / "above").chmod(0o777)
    assert not system.is_private(below)
    (tmp_path / "above").chmod(0o700)
    (tmp_path / "link").symlink_to(below)
    below.chmod(0o707)
    assert not system.is_private(tmp_path / "link")


REMOVING = {"rmtree", "unlink", "rmdir", "removedirs", "rename", "renames", "truncate", "move"}
# Every module that removes, renames or cuts files, and why it harms nobody's.
ALLOWED = {
    "storage.py": "folders with our mark whose lock it holds; temporaries of random names",
    "run_lock.py": "the content of a lock file that says it is ours",
    "run_logs.py": "a log of a run whose lock is held, cut to a checkpoint's length",
    "run_folder.py": "checkpoints of a run whose lock it holds, by their exact names",
    "preparation.py": "a tokenizer it has just written, in a folder of a random name",
    "cli/tokenizer.py": "the same, to a name that is free",
    "parts.py": "the part of its number, while it holds that part's lock",
    "corpus/parting.py": "files in its own resumable folder",
    "corpus/staging.py": "scratch files in its own resumable folder",
    "corpus/writer.py": "the same",
    "corpus/splits.py": "the same",
    "corpus/kinds/archives.py": "a copy of a member that it has just made",
    "corpus/kinds/source.py": "a copy of a file that it has just unpacked",
    "export/run.py": "a file it has just written, or to rename to the one it was asked for",
    "corpus/standard_input.py": "a temporary of a random name",
    "corpus/doctor/run.py": "a folder it has just written in its own, to a name that is free",
    "corpus/doctor/shards.py": "files in it",
    "shards.py": "files in its own resumable folder",
    "token_parts.py": "the same",
    "huggingface/cut.py": "a model folder it has just written, to a name that is free",
    "serving/listen.py": "a socket that nobody listens at",
    "tour/session.py": "a buffer in memory",
    "cli/ladder.py": "a line for a terminal",
    "tensor_file.py": "a file that it has just begun, made as long as it will be",
    "training/muon.py": "numbers, between processes",
    "training/sharding.py": "the same",
}


def test_only_known_modules_remove_or_rename() -> None:
    """A new one is looked at by its author: does it guess the name of what it removes?"""
    source = Path(storage.__file__).parent
    found = set()
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in REMOVING:
                found.add(path.relative_to(source).as_posix())
    assert found == set(ALLOWED)
