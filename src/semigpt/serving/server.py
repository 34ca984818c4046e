"""Opening the models, and listening."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from semigpt.device import pick_device
from semigpt.errors import SettingsError
from semigpt.generation.engine import Engine
from semigpt.generation.quantize import Precision
from semigpt.huggingface.hub import local_folder
from semigpt.huggingface.open import open_run
from semigpt.serving.guard import MOST_HEAD, GuardedProtocol
from semigpt.serving.http import make_app
from semigpt.serving.loop import Loop, ServedModel

__all__ = ["check_host", "make_server", "open_models", "read_key", "serve"]

SHORTEST_KEY = 16  # characters


def read_key(path: Path | None) -> str | None:
    """The key of a file, else of the variable SEMIGPT_KEY: a command line is seen by everybody.

    Raises SettingsError for one that is too short, or that no header can hold.
    """
    where = str(path) if path is not None else "SEMIGPT_KEY"
    try:
        key = os.environ.get("SEMIGPT_KEY") if path is None else path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        key = "\n"
    if key is None:
        return None
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            f"{where} needs a key of at least {SHORTEST_KEY} ASCII letters, digits and signs; "
            "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return key


def check_host(host: str, key: str | None) -> None:
    """Raises SettingsError for a host that others can reach, without a key."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and key is None:
        raise SettingsError(
            f"--host {host} lets others in: give a key with --key-file FILE, or leave --host out"
        )


def open_models(
    paths: Sequence[Path], *, precision: Precision = "float32", device: str = "auto"
) -> list[ServedModel]:
    """The models of runs, of all runs in a folder such as a ladder's, or of model folders.

    Raises SettingsError where two have one name, and what `open_run` raises.
    """
    models: dict[str, ServedModel] = {}
    for named in paths:
        path = local_folder(named)
        found = [path]
        if not (path / "config.toml").is_file() and not (path / "config.json").is_file():
            inside = sorted(path.glob("*/model/model.safetensors"))
            found = [file.parent.parent for file in inside] or [path]
        for each in found:
            name = named.name if each == path != named else each.resolve().name
            if name in models:
                raise SettingsError(f"two models are called {name!r}; rename one of the folders")
            run, model, tokenizer = open_run(each)
            model = model.to(pick_device(device))
            rows = [] if run is None else run.rows("metrics")
            measured = [row["bits_per_character"] for row in rows if "bits_per_character" in row]
            engine = Engine(model, tokenizer, precision=precision)
            models[name] = ServedModel(name, engine, min(measured, default=None))
    return list(models.values())


class Server(uvicorn.Server):
    """uvicorn's server, which tells the loop and the caller of the signal that ended it."""

    loop: Loop | None = None
    stopped_by = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit, self.stopped_by = True, sig
        if self.loop is not None:
            self.loop.draining = True


def make_server(app: Any, host: str, port: int) -> Server:
    """uvicorn, with what it would choose by what is installed chosen here.

    Python's threads change every millisecond from here on: a pattern that is being prepared would
    hold up each step of the loop by five.
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
    )
    return Server(config)


def serve(models: Sequence[ServedModel], host: str, port: int, key: str | None) -> int:
    """Serve until a signal, and return its number. Raises SettingsError for a port that is taken.

    SIGINT and SIGTERM let answers that are being written end for five seconds; a second one does
    not.
    """
    loop = Loop(list(models))
    server = make_server(make_app(loop, key), host, port)
    server.loop = loop
    loop.start()
    try:
        server.run()
        return server.stopped_by
    except SystemExit:  # uvicorn has logged why it cannot listen
        raise SettingsError(f"{host}:{port} cannot be listened on; give another --port") from None
    finally:
        loop.stop()
