"""semigpt serve"""

from __future__ import annotations

import argparse
from pathlib import Path

from semigpt.cli.flags import Commands, add_command
from semigpt.cli.output import note
from semigpt.errors import SettingsError


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "serve", run, "answer over HTTP as OpenAI's API does, with your own models"
    )
    sub.add_argument(
        "models",
        nargs="+",
        type=Path,
        metavar="MODEL",
        help="run folders, a folder of runs such as a ladder's, model folders, or hf:USER/NAME",
    )
    sub.add_argument(
        "--host", default="127.0.0.1", help="others than 127.0.0.1 need a key (default: 127.0.0.1)"
    )
    sub.add_argument("--port", type=int, default=8080, help="default: 8080")
    sub.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="a file with the key that requests must send; or set SEMIGPT_KEY",
    )
    sub.add_argument("--device", default="auto", help="auto (default), cpu, cuda or mps")
    sub.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="of the weights: float32 (default), bfloat16 or int8",
    )


def run(options: argparse.Namespace) -> int:
    if not 0 < options.port < 2**16:
        raise SettingsError(f"--port must be from 1 to 65535, not {options.port}")
    try:
        from semigpt.serving import server
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"semigpt serve needs {error.name}: pip install 'semigpt[serve]'"
        ) from None
    key = server.read_key(options.key_file)
    server.check_host(options.host, key)
    models = server.open_models(options.models, precision=options.precision, device=options.device)
    host = f"[{options.host}]" if ":" in options.host else options.host
    names = ", ".join(model.name for model in models)
    note(f"{names}: http://{host}:{options.port}/v1 (Ctrl-C ends it)")
    return 128 + server.serve(models, options.host, options.port, key)
