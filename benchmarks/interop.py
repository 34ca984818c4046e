"""What is exact in which program: every tokenizer, rung and type, in one table.

    python benchmarks/interop.py                    # random nets, tokenizers learnt from news
    python benchmarks/interop.py runs/news-gpt ...  # models of one's own

Each file is written, run in llama.cpp or onnxruntime as `semigpt export` does, and thrown away. A
row says what was found, or in one line why there is no such file. Exit code 1 where a file that
should be exact is not. Needs `semigpt[export]`.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import torch

from semigpt.corpus.staging import prepare_corpus
from semigpt.errors import CheckpointError, SettingsError
from semigpt.export.gguf_file import GGUF_TYPES
from semigpt.export.run import export
from semigpt.huggingface.folder import save_model
from semigpt.huggingface.open import open_run
from semigpt.models import build_model
from semigpt.tokenizers import Kind, train_tokenizer

SHAPES = {
    "gpt": {"width": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2},
    "blocks": {"width": 128, "num_layers": 4, "num_heads": 4},
}
WAYS = [*(("gguf", kind) for kind in GGUF_TYPES), ("onnx", None)]
COLUMNS = ("tokenizer", "model", "file", "bytes", "max |Δ log p|", "bits per token", "greedy")


def random_models(folder: Path) -> Iterator[Path]:
    """A model of each tokenizer and rung, saved; every weight says something."""
    documents = list(itertools.islice(prepare_corpus("news").documents("train"), 500))
    for kind in get_args(Kind):
        tokenizer = train_tokenizer(kind, documents, normalization="NFC")
        for rung, shape in SHAPES.items():
            torch.manual_seed(0)
            model = build_model(rung, tokenizer.vocab_size, {"context_length": 128, **shape})
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.05 * torch.randn_like(parameter)
            path = folder / f"{kind}-{rung}"
            path.mkdir()
            save_model(path, model, tokenizer, "")
            yield path


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path)
    runs = parser.parse_args().runs
    failed = 0
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "file"
        for path in runs or random_models(Path(name)):
            _, model, tokenizer = open_run(path)
            for to, kind in WAYS:
                row = [tokenizer.kind, model.kind, f"{to} {kind or ''}".strip()]
                try:
                    exported = export(path, to, kind=kind, out=out)
                except SettingsError as error:
                    row.append(f"refused: {error}")
                except CheckpointError as error:
                    failed += 1
                    row.append(f"NOT EXACT: {error}")
                else:
                    verdict = exported.verdict
                    row += [
                        f"{out.stat().st_size:,}",
                        f"{verdict.difference:.1e}",
                        f"{verdict.divergence:.1e}",
                        f"{verdict.same}/{verdict.prompts}",
                    ]
                print("| " + " | ".join(row) + " |", flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
