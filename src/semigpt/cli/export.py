"""semigpt export"""

from __future__ import annotations

import argparse
from pathlib import Path

from semigpt.cli.flags import Commands, add_command, add_json_flag
from semigpt.cli.output import terminating, write, write_json

HELP = """\
  gguf     llama.cpp, LM Studio; --type f32 is exact, f16 half and q8_0 a
           quarter of its size
  ollama   the same, and a Modelfile beside it
  onnx     onnxruntime, and transformers.js in a browser

The file is tried in the program itself on Korean texts, and left only where it
gives the ids, the probabilities and the text that semigpt gives. What was
found goes into the model's card. Needs pip install 'semigpt[export]'.
"""


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "export", run, "a trained model as a file for other programs, verified", HELP
    )
    sub.add_argument("model", type=Path, metavar="RUN", help="a run or model folder")
    sub.add_argument("--to", metavar="FORMAT", required=True, help="gguf, ollama or onnx")
    sub.add_argument("--type", metavar="TYPE", help="f32 (default), f16 or q8_0; GGUF alone")
    sub.add_argument("--out", type=Path, metavar="FILE", help="(default: in the model folder)")
    add_json_flag(sub)


def run(options: argparse.Namespace) -> int:
    from semigpt.export.run import export

    with terminating():
        exported = export(options.model, options.to, kind=options.type, out=options.out)
    verdict = exported.verdict
    if options.json:
        write_json({"file": str(exported.file), "use": exported.use, **verdict.as_dict()})
        return 0
    lines = [
        f"{exported.file}: {exported.file.stat().st_size:,} bytes",
        f"tried in {verdict.runtime}: {verdict.found}",
        *exported.use,
    ]
    write("\n".join(lines) + "\n")
    return 0
