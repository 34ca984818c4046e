"""semigpt serve"""

from __future__ import annotations

import argparse
from pathlib import Path

from semigpt.cli.flags import Commands, add_command
from semigpt.cli.output import note
from semigpt.errors import SettingsError
from semigpt.language import _


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "serve", run, _("answer over HTTP as OpenAI's API does, with your own models")
    )
    sub.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL",
        help=_("run folders, a folder of runs such as a ladder's, model folders, or hf:USER/NAME"),
    )
    sub.add_argument(
        "--host",
        default="127.0.0.1",
        help=_("others than 127.0.0.1 need a key (default: 127.0.0.1)"),
    )
    sub.add_argument("--port", type=int, default=8080, help=_("default: 8080"))
    sub.add_argument(
        "--socket",
        type=Path,
        metavar="PATH",
        help=_("listen at a Unix socket of this user's instead of a port"),
    )
    sub.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help=_("a file with the key that requests must send; or set SEMIGPT_KEY"),
    )
    sub.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help=_("let pages of this origin ask, such as http://localhost:3000; may be repeated"),
    )
    sub.add_argument("--no-chat", action="store_true", help=_("answer no chat completions"))
    sub.add_argument(
        "--no-landlock",
        action="store_true",
        help=_("keep the way to the disk that is given up on Linux once the models are read"),
    )
    sub.add_argument("--device", default="auto", help=_("auto (default), cpu, cuda or mps"))
    sub.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help=_("of the weights: float32 (default), bfloat16 or int8"),
    )


def run(options: argparse.Namespace) -> int:
    if not 0 < options.port < 2**16:
        raise SettingsError(
            _("--port must be from 1 to 65535, not {port}").format(port=options.port)
        )
    try:
        from semigpt.serving import server
    except ModuleNotFoundError as error:
        raise SettingsError(
            _("semigpt serve needs {name}: pip install 'semigpt[serve]'").format(name=error.name)
        ) from None
    from semigpt.serving import listen

    key = listen.read_key(options.key_file)
    listen.check_origins(options.allow_origin)
    models = server.Models.find(options.models, precision=options.precision, device=options.device)
    if options.socket is None:
        listen.check_host(options.host, key)
        where = listen.address(options.host, options.port)
        opened = listen.listening(options.host, options.port)
    else:
        where = str(options.socket)
        opened = listen.listening_at(options.socket)
    with opened as sockets:
        signal = server.serve(
            models,
            sockets,
            key=key,
            origins=options.allow_origin,
            chat=not options.no_chat,
            lock_in=not options.no_landlock,
            ready=lambda: note(
                _("{paths}: a page at {where}/, the API at {where}/v1 (Ctrl-C ends it)").format(
                    paths=", ".join(models.paths), where=where
                )
            ),
        )
    return 128 + signal
