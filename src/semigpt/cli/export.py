"""semigpt export"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from semigpt.cli.flags import Commands, add_command, add_json_flag
from semigpt.cli.output import note, terminating, write, write_json
from semigpt.errors import SettingsError
from semigpt.language import N_, _

HELP = N_(
    """\
  gguf     llama.cpp, LM Studio; --type f32 is exact, f16 half and q8_0 a
           quarter of its size
  ollama   the same, and a Modelfile beside it
  onnx     onnxruntime, and transformers.js in a browser
  html     the model itself in one page that opens without a network: every
           rung, up to 20 million parameters; needs no other package

But for html, the file is tried in the program itself on Korean texts, and left
only where it gives the ids, the probabilities and the text that semigpt gives.
What was found goes into the model's card. Needs pip install 'semigpt[export]'.
"""
)


def add(commands: Commands) -> None:
    sub = add_command(
        commands,
        "export",
        run,
        _("a trained model as a file for other programs, verified"),
        _(HELP),
    )
    sub.add_argument("model", type=Path, metavar="RUN", help=_("a run or model folder"))
    sub.add_argument("--to", metavar="FORMAT", help=_("gguf, ollama, onnx or html"))
    sub.add_argument("--type", metavar="TYPE", help=_("f32 (default), f16 or q8_0; GGUF alone"))
    sub.add_argument(
        "--checkpoints",
        type=int,
        metavar="N",
        help=_("html: a slider over the weights of N checkpoints that the run kept"),
    )
    sub.add_argument(
        "--out", type=Path, metavar="FILE", help=_("(default: in the model folder; html in RUN)")
    )
    sub.add_argument(
        "--push",
        metavar="hf:USER/NAME",
        help=_("upload the model folder and its files"),
    )
    add_json_flag(sub)


def run(options: argparse.Namespace) -> int:
    from semigpt.export.card import verified_files
    from semigpt.export.run import export
    from semigpt.huggingface.open import open_run
    from semigpt.huggingface.push import push

    if options.to is None and options.push is None:
        raise SettingsError(
            _("nothing to do: give --to gguf, ollama, onnx or html, or --push hf:USER/NAME")
        )
    found: dict[str, Any] = {}
    with terminating():
        if options.to is not None:
            exported = export(
                options.model,
                options.to,
                kind=options.type,
                out=options.out,
                checkpoints=options.checkpoints,
            )
            found = exported.as_dict()
            if exported.verdict is not None:
                note(
                    _("tried in {runtime}: {found}").format(
                        runtime=exported.verdict.runtime, found=exported.verdict.found
                    )
                )
            for program, line in exported.use.items():
                note(f"{program}: {line}")
        if options.push is not None:
            opened, *_rest = open_run(options.model)
            folder = options.model if opened is None else opened.model_folder
            verified = verified_files(folder)
            for file in (*folder.glob("*.gguf"), *folder.glob("onnx/*.onnx")):
                if (name := file.relative_to(folder).as_posix()) not in verified:
                    note(
                        _(
                            "{name} stays: the card does not list it for this "
                            "model; export it again"
                        ).format(name=name)
                    )
            found["pushed"] = push(folder, options.push, verified)
            note(_("uploaded: {pushed}").format(pushed=found["pushed"]))
    if options.json:
        write_json(found)
    elif options.to is not None:
        write(f"{exported.file}\n")
    return 0
