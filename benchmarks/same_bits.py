"""Compare what seeded runs leave, byte for byte, between two checkouts or two machines.

    python benchmarks/same_bits.py --write before.json      # in one checkout
    python benchmarks/same_bits.py --against before.json    # in another

Every rung is trained for a few steps on the bundled corpus in several ways (compiled kernels and
plain PyTorch, dropout, a teacher, gradient accumulation, bfloat16), then asked for text. A digest
is kept of the weights, the optimizer, the metrics, the corpus, the token shards,
each tokenizer's ids and the generated text. Names of keys and files do not count, so a rename is no
difference. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from safetensors.numpy import load_file

LADDER = ("bigram", "attention", "multihead", "feedforward", "blocks", "gpt", "memory")
TEXT = "서울시는 12일 첫눈이 내렸다고 밝혔다. 쀍끼햏 GPT-2 🙂\n한국어 형태소"
PLAIN = ("machine.backend=plain", "machine.backend=plain")  # the key's name now, and before 0.1.0
WAYS = {
    "native": [],
    "plain": ["PLAIN"],
    "accumulated": ["training.gradient_accumulation=2"],
    "dropout": ["model.dropout=0.1"],
    "dropout, plain": ["model.dropout=0.1", "PLAIN"],
    "taught": ["training.teacher=counts"],
    "taught, plain": ["training.teacher=counts", "PLAIN"],
    "bfloat16": ["machine.precision=bfloat16"],
}
SOME = {  # ways that not every rung has
    "dropout": ("feedforward", "blocks", "gpt", "memory"),
    "dropout, plain": ("blocks", "gpt", "memory"),
    "plain": ("blocks", "gpt", "memory"),
    "taught": ("attention", "blocks", "gpt", "memory"),
    "taught, plain": ("gpt", "memory"),
    "bfloat16": ("gpt", "memory"),
}
GENERATE = {
    "drawn": ["--seed", "1", "--num-samples", "3", "--temperature", "0.9", "--top-p", "0.95"],
    "penalties": [
        "--seed",
        "2",
        "--top-k",
        "40",
        "--repetition-penalty",
        "1.2",
        "--no-repeat-ngram-size",
        "4",
    ],
    "plain": ["--seed", "1", "--no-native"],
    "beams": ["--num-beams", "3"],
    "pattern": ["--seed", "1", "--pattern", "[가-힣 ]{5,30}", "--ban", "니다"],
    "int8": ["--seed", "1", "--precision", "int8"],
}


def semigpt(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "semigpt", *arguments], capture_output=True, text=True
    )
    if check and done.returncode:
        raise SystemExit(f"semigpt {' '.join(arguments)}: exit {done.returncode}\n{done.stderr}")
    return done


def digest(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()[:16]


def tensors(path: Path) -> str:
    """Of the tensors' dtypes, shapes and bytes, sorted: their names do not count."""
    arrays = load_file(path).values()
    return digest(sorted(f"{a.dtype} {a.shape} ".encode() + a.tobytes() for a in arrays))


def values(path: Path) -> str:
    """Of every value of a `.jsonl` file, without the keys."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return digest(json.dumps(list(row.values())).encode() for row in rows)


def train(rung: str, settings: list[str], run: Path) -> None:
    keys = PLAIN if "PLAIN" in settings else PLAIN[:1]
    for plain in keys:
        flags = [f for s in settings for f in ("--set", plain if s == "PLAIN" else s)]
        done = semigpt(
            *(
                "train",
                "--data",
                "news",
                "--model",
                rung,
                "--size",
                "tiny",
                "--steps",
                "12",
                "--seed",
                "3",
            ),
            *(
                "--out",
                str(run),
                "--set",
                "training.eval_every=6",
                "--set",
                "training.eval_blocks=8",
            ),
            *("--set", "sample.max_new_tokens=40", "--set", "machine.threads=2", *flags),
            check=plain == keys[-1],
        )
        if done.returncode == 0:
            return


def measured(only: str, folder: Path) -> Iterator[tuple[str, str]]:
    for rung in LADDER:
        for way, settings in WAYS.items():
            name = f"{rung}: {way}"
            if only not in name or rung not in SOME.get(way, LADDER):
                continue
            run = folder / f"{rung}-{way.replace(', ', '-')}"
            train(rung, settings, run)
            (checkpoint,) = sorted((run / "checkpoints").glob("step-*"))[-1:]
            for group in ("model", "optimizer"):
                yield f"{name}: {group}", tensors(checkpoint / f"{group}.safetensors")
            yield f"{name}: saved", tensors(run / "model" / "model.safetensors")
            yield f"{name}: metrics", values(run / "metrics.jsonl")
            yield f"{name}: samples", values(run / "samples.jsonl")
            for kind, flags in GENERATE.items() if way == "native" else ():
                if kind == "int8" and rung not in ("gpt", "blocks"):
                    continue
                done = semigpt("generate", str(run), "기상", "--max-new-tokens", "60", *flags)
                yield f"{name}: generate {kind}", digest([done.stdout.encode()])
    for kind in ("char", "byte", "jamo", "bpe", "char_bpe", "unigram"):
        if only in f"tokenizer: {kind}":
            out = folder / f"tokenizer-{kind}"
            size = ["--vocab-size", "2000"] if kind in ("bpe", "char_bpe", "unigram") else []
            semigpt("tokenizer", "train", "--kind", kind, "--out", str(out), *size)
            done = semigpt("tokenizer", "show", TEXT, "--tokenizer", str(out), "--json")
            ids = [token["id"] for token in json.loads(done.stdout)["tokenizers"][0]["tokens"]]
            yield f"tokenizer: {kind}", digest([json.dumps(ids).encode()])
    if not only:
        cached = [
            p.read_bytes()
            for p in Path(os.environ["SEMIGPT_CACHE"]).rglob("*")
            if p.suffix in (".npy", ".txt")
        ]
        yield "corpus and token shards", digest(sorted(cached))


def main() -> int:
    parser = argparse.ArgumentParser(description="Digests of what seeded runs leave.")
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--against", type=Path, metavar="FILE")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="cases whose name holds this, such as 'gpt: '"
    )
    options = parser.parse_args()
    before = {} if options.against is None else json.loads(options.against.read_text())
    found, differences = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SEMIGPT_CACHE"] = str(Path(folder) / "cache")
        for name, value in measured(options.only, Path(folder)):
            found[name] = value
            same = name not in before or before[name] == value
            differences += not same
            print(
                f"{value}  {name}" + ("" if same else f"   DIFFERS from {before[name]}"), flush=True
            )
    if options.write is not None:
        options.write.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(found)} digests, {differences} differ")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
