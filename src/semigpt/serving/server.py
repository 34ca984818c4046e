"""Opening the models, and serving them."""

from __future__ import annotations

import contextlib
import gc
import site
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

import semigpt
from semigpt.device import pick_device
from semigpt.errors import SemigptError, SettingsError
from semigpt.generation.engine import Engine
from semigpt.generation.quantize import Precision
from semigpt.huggingface.hub import local_folder
from semigpt.huggingface.open import open_run
from semigpt.language import _
from semigpt.native import decode, landlock, ngrams, tokenize
from semigpt.native.compiler import NativeUnavailableError
from semigpt.run_folder import RunFolder
from semigpt.run_lock import RunLock
from semigpt.serving.guard import MOST_HEAD, GuardedProtocol
from semigpt.serving.http import make_app
from semigpt.serving.loop import Loop, ServedModel
from semigpt.serving.watch import Training, Watcher
from semigpt.storage import cache_folder
from semigpt.system import step_back

__all__ = ["Models", "make_server", "restrict", "serve"]


@dataclass
class Models:
    """What is served: models by the names of their folders, and the runs among these.

    trainings: what is known of the runs; one without weights is there to be watched alone
    """

    paths: Mapping[str, Path]
    precision: Precision
    device: str
    trainings: dict[str, Training] = field(default_factory=dict)

    @classmethod
    def find(
        cls, paths: Sequence[Path], *, precision: Precision = "float32", device: str = "auto"
    ) -> Models:
        """Runs, all runs in a folder such as a ladder's, or model folders.

        Raises SettingsError where two have one name.
        """
        found: dict[str, Path] = {}
        for named in paths:
            path = local_folder(named)
            own = _is_model(path) or not path.is_dir()
            inside = [] if own else filter(_is_model, sorted(path.iterdir()))
            for each in list(inside) or [path]:
                name = named.name if each == path != named else each.resolve().name
                if name in found:
                    raise SettingsError(
                        _("two models are called {name!r}; rename one of the folders").format(
                            name=name
                        )
                    )
                found[name] = each
        return cls(found, precision, device)

    def open(self) -> list[ServedModel]:
        """Open all that have weights. Raises what `open_run` raises."""
        models = []
        for name, path in self.paths.items():
            if (path / "config.toml").is_file():
                training = self.trainings[name] = Training(RunFolder.open(path))
                training.read()
                if not training.has_new_weights:
                    continue
                training.served()
            models.append(self.load(name))
        return models

    def load(self, name: str) -> ServedModel:
        """A model as it is on disk now. Raises what `open_run` raises."""
        _, model, tokenizer = open_run(self.paths[name])
        training = self.trainings.get(name)
        engine = Engine(model.to(pick_device(self.device)), tokenizer, precision=self.precision)
        # What is loaded at first use is loaded now: later there may be no way to the disk.
        with contextlib.suppress(SemigptError):
            engine.generate("가", max_new_tokens=1, logprobs=1)
        return ServedModel(name, engine, training.bits_per_character if training else None)


def _is_model(path: Path) -> bool:
    """Whether a run folder or a Hugging Face folder lies there."""
    return (path / "config.toml").is_file() or (path / "config.json").is_file()


class Server(uvicorn.Server):
    """uvicorn's server, which tells the loop and the caller of the signal that ended it."""

    loop: Loop | None = None
    stopped_by = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit, self.stopped_by = True, sig
        if self.loop is not None:
            self.loop.draining = True


def make_server(app: Any, host: str = "127.0.0.1", port: int = 8080) -> Server:
    """uvicorn, with what it would choose by what is installed chosen here.

    A step of the loop waits for Python's lock twice, and a request or a pattern that is being read
    gives it away at this interval: five milliseconds, unless it is set.
    """
    sys.setswitchinterval(0.001)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=GuardedProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_level="warning",
        h11_max_incomplete_event_size=MOST_HEAD,
        timeout_graceful_shutdown=5,
        backlog=128,  # as many are accepted at once before any is counted
    )
    return Server(config)


def restrict(folders: Sequence[Path]) -> bool:
    """Take from this process all files but Python's libraries and these folders, to read.

    False where the system cannot.
    """
    for library in (decode.library, ngrams.library, tokenize.library):
        with contextlib.suppress(NativeUnavailableError):
            library()
    standard = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    libraries = map(Path, (*standard, *site.getsitepackages(), site.getusersitepackages()))
    own = Path(semigpt.__file__).parent
    places = [path for path in (*libraries, own, cache_folder(), *folders) if path.is_dir()]
    return landlock.restrict(places)


def serve(
    models: Models,
    sockets: list[socket.socket],
    *,
    key: str | None = None,
    origins: Sequence[str] = (),
    chat: bool = True,
    lock_in: bool = True,
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Serve until a signal, and return its number.

    SIGINT and SIGTERM let answers that are being written end for five seconds; a second one does
    not. Beside a run that is training the server steps back.

    origins: of pages from elsewhere that may ask
    chat: whether to answer chat completions
    lock_in: give up the disk, where the system has Landlock and no model is on a GPU
    ready: called once the models are open
    """
    served, trainings = models.open(), models.trainings
    if any(RunLock(models.paths[name]).held for name in trainings):
        step_back(10)
    loop = Loop(served)
    app = make_app(loop, key, origins=origins, chat=chat, trainings=trainings)
    server = make_server(app)
    server.loop = loop
    # What is loaded stays. A search for garbage in it would hold Python's lock for 140 ms.
    gc.freeze()
    ready()
    if lock_in and all(model.engine.model.device.type == "cpu" for model in served):
        restrict([models.paths[name] for name in trainings])

    def newer(name: str) -> None:
        model = models.load(name)
        if model.fingerprint not in {known.fingerprint for known in loop.models}:
            loop.swap(model)

    with _started(loop), _started(Watcher(trainings, newer)):
        server.run(sockets)
    return server.stopped_by


@contextlib.contextmanager
def _started(thread: Loop | Watcher) -> Iterator[None]:
    thread.start()
    try:
        yield
    finally:
        thread.stop()
