"""The runs behind the law of learning: bits per character by text, model, tokenizer and tokens.

    python benchmarks/law.py [--text NAME=SPEC …] [--cells FILE] [--rows FILE]
                             [--commands] [--describe]

FILE of cells (default: benchmarks/law.toml) lists runs by *steps*, never by the clock, so a row
comes out the same on any machine. A cell whose settings are lists stands for every combination.
FILE of rows (default: benchmarks/law.jsonl) keeps a line per run, and a run that it holds is not
repeated: the whole takes hours, and may be stopped and resumed. `--commands` prints the command of
each row and runs nothing; `--describe` writes law_texts.json, which law_fit.py reads too.

A text is called NAME and is SPEC's beginning: the first so many million characters of its training
split, and its held-out splits cut to 300,000 characters each. `news`, `pydoc` (the topics of
Python's help) and `stdlib` (the files of its library) need no SPEC; cells of a text that has none
are left out. `reviews` is the folder that benchmarks/film_reviews.py makes, `sentences` one of news
sentences; `play` is Tiny Shakespeare, `statutes` Korean statutes in Markdown (legalize-kr) and
`handbook` the Markdown of React's documentation in Korean, each one file, laid end to end.

    OMP_NUM_THREADS=1 python benchmarks/law.py --text reviews=film_reviews --threads 1
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import math
import shlex
import sys
import sysconfig
import tempfile
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parts_of_texts import SPLITS, write_beginning
from semigpt.auto import LONG_TOKENS
from semigpt.errors import SemigptError

HERE = Path(__file__).parent
EVALUATED_BLOCKS = 256
# What a cell may say, and what it says where it does not.
DEFAULTS: dict[str, Any] = {
    "text": "news",
    "millions": 0.0,  # of characters; 0 is the whole text
    "kind": "gpt",
    "size": "tiny",
    "tokenizer": "unigram",
    "vocab_size": 4000,  # nothing to characters
    "batch_size": 0,  # the size's own
    "steps": 195,
    "dropout": 0.0,
    "weight_decay": 0.0,
    "teacher": "none",
    "seed": 0,
    "start": "none",  # or starter, which brings its own size and tokenizer
    "embeddings": "random",  # or bigrams
}
Row = dict[str, Any]


def cells(path: Path) -> Iterator[Row]:
    """Every run that the file lists, in its order, each once."""
    found = set()
    for group in tomllib.loads(path.read_text(encoding="utf-8"))["cells"]:
        if unknown := group.keys() - DEFAULTS.keys():
            raise SystemExit(f"{path}: a cell has no {', '.join(sorted(unknown))}")
        lists = [
            value if isinstance(value, list) else [value]
            for value in ({**DEFAULTS, **group}[name] for name in DEFAULTS)
        ]
        for values in itertools.product(*lists):
            cell = dict(zip(DEFAULTS, values, strict=True))
            if cell["start"] != "none":
                cell |= {"tokenizer": LONG_TOKENS, "vocab_size": 8000}
            if cell["tokenizer"] == "char":
                cell["vocab_size"] = 0
            if tuple(cell.values()) not in found:
                found.add(tuple(cell.values()))
                yield cell


def flags(cell: Row) -> list[str]:
    """The flags of `semigpt train` that make a cell's run on its text."""
    found = ["--model", cell["kind"]]
    if cell["start"] != "none":
        found += ["--from", cell["start"]]
    else:
        found += ["--size", cell["size"], "--tokenizer", cell["tokenizer"]]
        if cell["vocab_size"]:
            found += ["--vocab-size", str(cell["vocab_size"])]
    found += ["--steps", str(cell["steps"]), "--seed", str(cell["seed"])]
    settings = {
        "training.teacher": cell["teacher"],
        "optimizer.weight_decay": cell["weight_decay"],
        "training.eval_every": cell["steps"] if cell["steps"] < 300 else -(-cell["steps"] // 2),
        "training.eval_blocks": EVALUATED_BLOCKS,
    }
    if cell["kind"] in ("gpt", "memory"):
        settings["model.dropout"] = cell["dropout"]
        settings["training.embeddings"] = cell["embeddings"]
    if cell["batch_size"]:
        settings["training.batch_size"] = cell["batch_size"]
    for name, value in settings.items():
        found += ["--set", f"{name}={value}"]
    return found


# Texts


def own_documents(name: str) -> dict[str, list[str]] | None:
    """The documents of a text that Python brings, nine of ten to learn from; None for another."""
    if name == "pydoc":
        from pydoc_data.topics import topics

        texts = [topics[name] for name in sorted(topics)]
    elif name == "stdlib":
        files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        texts = [file.read_text(encoding="utf-8") for file in files]
    else:
        return None
    held_out = texts[::10]
    return {
        "train": [text for i, text in enumerate(texts) if i % 10],
        "validation": held_out[::2],
        "test": held_out[1::2],
    }


def corpus_of(name: str, millions: float, specs: dict[str, str], folder: Path) -> str | None:
    """The SPEC of a text, written to `folder` where it is a part; None where there is none of that
    name.
    """
    if name == "news" and not millions:
        return "news"
    target = folder / f"{name}-{millions:g}"
    if target.is_dir():
        return str(target)
    if (own := own_documents(name)) is not None:
        splits = {split: iter(texts) for split, texts in own.items()}
    elif name in specs:
        from semigpt.corpus import prepare_corpus

        corpus = prepare_corpus(specs[name])
        splits = {split: corpus.documents(split) for split in SPLITS}
    else:
        return None
    write_beginning(target, splits, millions * 1e6 or math.inf)
    return str(target)


def describe_texts(cells_file: Path, specs: dict[str, str], folder: Path) -> None:
    """Write what counting learns of each text that a row is of to law_texts.json."""
    from semigpt.corpus import prepare_corpus
    from semigpt.evaluation.counting import describe

    path = HERE / "law_texts.json"
    described = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    texts = {(cell["text"], cell["millions"]) for cell in cells(cells_file)}
    with (HERE / "law_minutes.csv").open(encoding="utf-8") as file:
        texts |= {(row["text"], float(row["millions"])) for row in csv.DictReader(file)}
    for name, millions in sorted(texts):
        if (corpus := corpus_of(name, millions, specs, folder)) is not None:
            text = describe(prepare_corpus(corpus))
            described[f"{name}-{millions:g}"] = dataclasses.asdict(text)
    path.write_text(json.dumps(described) + "\n", encoding="utf-8")


def measure(cell: Row, corpus: str, threads: int | None) -> Row:
    """Run a cell: its bits per character on validation at the end and at their best, and what it
    read.
    """
    from semigpt.cli.train import add, recipe_tables
    from semigpt.config import Recipe
    from semigpt.recipe import train
    from semigpt.run_events import Evaluated, Finished, Prepared

    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    options = parser.parse_args(["train", "--data", corpus, *flags(cell)])
    tables = recipe_tables(options)
    if threads is not None:
        tables.setdefault("machine", {})["threads"] = threads
    row: Row = {}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for event in train(Recipe.from_tables(tables, "the cell"), Path(folder) / "run"):
            match event:
                case Prepared():
                    row["characters"] = event.corpus.characters("train")
                    row["training_tokens"] = len(event.dataset.stream("train"))
                    row["vocabulary"] = event.tokenizer.vocab_size
                    row["parameters"] = event.model.parameter_count()
                case Evaluated(step=step) if step:
                    row["bits"] = round(event.bits_per_character, 5)
                    row["error"] = round(
                        event.estimate.standard_error
                        * event.bits_per_character
                        / event.estimate.loss,
                        5,
                    )
                case Finished():
                    row["tokens"] = event.tokens_seen
                    row["best"] = round(event.best.bits_per_character, 5)
                    row["best_step"] = event.best.step
                    row["seconds"] = round(event.seconds, 1)
                    assert event.baselines is not None
                    row["kneser_ney_5"] = round(event.baselines.kneser_ney_5, 5)
    row["wall"] = round(time.perf_counter() - begun, 1)
    return row


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="NAME=SPEC", help="where a text is"
    )
    parser.add_argument("--cells", type=Path, default=HERE / "law.toml", metavar="FILE")
    parser.add_argument("--rows", type=Path, default=HERE / "law.jsonl", metavar="FILE")
    parser.add_argument("--texts", type=Path, metavar="FOLDER", help="where to keep the texts")
    parser.add_argument("--threads", type=int, help="of the products")
    parser.add_argument("--commands", action="store_true", help="print the commands, run nothing")
    parser.add_argument("--describe", action="store_true", help="write law_texts.json, run nothing")
    return parser.parse_args()


def main() -> int:
    options = parse()
    specs = dict(text.split("=", 1) for text in options.text)
    if options.commands:
        for cell in cells(options.cells):
            data = cell["text"] + (f"-{cell['millions']:g}" if cell["millions"] else "")
            print(shlex.join(["semigpt", "train", "--data", data, *flags(cell)]))
        return 0
    rows_file: Path = options.rows
    lines = rows_file.read_text(encoding="utf-8").splitlines() if rows_file.exists() else []
    rows = [{**DEFAULTS, **json.loads(line)} for line in lines]  # some are older than a field
    held = {tuple(row[name] for name in DEFAULTS) for row in rows}
    with tempfile.TemporaryDirectory() as temporary:
        texts = options.texts or Path(temporary)
        if options.describe:
            describe_texts(options.cells, specs, texts)
            return 0
        for cell in cells(options.cells):
            if tuple(cell.values()) in held:
                continue
            try:
                corpus = corpus_of(cell["text"], cell["millions"], specs, texts)
                if corpus is None:
                    continue
                row = {**cell, **measure(cell, corpus, options.threads)}
            except SemigptError as error:
                print(f"law.py: {cell}: {error}", file=sys.stderr, flush=True)
                continue
            with rows_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
