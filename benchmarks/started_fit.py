"""Fit the law of runs that begin from the starter, and say how far off it is.

    python benchmarks/started_fit.py [--write] [--describe [--text NAME=SPEC …]]

Reads started.jsonl (runs by steps of started.toml, benchmarks/law.py) and started_texts.json (what
counting and each starter say of each text before it is read). Rows with unigram tokens are of the
first starter, the others of the one in the package. `--write` puts the coefficients into
src/semigpt/started_law.toml, `--describe` measures the texts by the latter and writes
started_texts.json.

A run counts with its best weights, which are the starter's own where reading only hurt. Least
squares about where the fit begins, since the coefficients are about as many as the kinds of text.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semigpt.law import Text
from semigpt.started_law import Known, expected_bits

HERE = Path(__file__).parent
LAW = HERE.parent / "src" / "semigpt" / "started_law.toml"
# Where the fit begins, and how far each may go from there before it costs as much as an error of
# EXPECTED bits. `repeats` is the law of learning's.
BEGIN = {"learning": (-2.0, 1.0), "related": (0.5, 0.5), "counts": (0.0, 0.5)}
FIXED = {"repeats": 1.88}
EXPECTED = 0.1


@dataclass(frozen=True)
class Run:
    """A row: what was read of what, and where it ended."""

    text: Text
    known: Known
    tokens: float
    has_counts: bool
    bits: float
    name: str


def texts() -> dict[str, tuple[Text, dict[str, Known]]]:
    """The described texts by name, and what each starter knows of them, by its tokenizer."""
    tables = json.loads((HERE / "started_texts.json").read_text("utf-8"))
    return {
        name: (
            Text(**{**table["text"], "curve": tuple(map(tuple, table["text"]["curve"]))}),
            {kind: Known(**known) for kind, known in table["known"].items()},
        )
        for name, table in tables.items()
    }


def name_of(row: Mapping[str, Any]) -> str:
    return f"{row['text']}-{row['millions']:g}"


def rows() -> list[dict[str, Any]]:
    lines = (HERE / "started.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def load() -> list[Run]:
    described = texts()
    found = []
    for row in rows():
        if row["start"] != "starter":
            continue
        text, known = described[name_of(row)]
        name = f"{name_of(row)} {row['kind']} {row['steps']} steps, {row['tokenizer']}"
        read = known[row["tokenizer"]], row["tokens"], row["kind"] == "memory", row["best"]
        found.append(Run(text, *read, name))
    return found


def errors(runs: list[Run], by: Mapping[str, float]) -> np.ndarray[Any, Any]:
    """Expected less measured, in bits."""
    return np.array(
        [
            expected_bits(run.text, run.known, run.tokens, has_counts=run.has_counts, by=by)
            - run.bits
            for run in runs
        ]
    )


def fit(runs: list[Run]) -> dict[str, float]:
    """The coefficients, by Gauss and Newton's method with halved steps."""
    names = list(BEGIN)
    begin, scale = np.array([BEGIN[name] for name in names]).T

    def residuals(moved: Any) -> Any:
        by = {**dict(zip(names, begin + scale * moved, strict=True)), **FIXED}
        return np.append(errors(runs, by) / EXPECTED, moved)

    at = np.zeros(len(names))
    for _ in range(60):
        base = residuals(at)
        columns = [(residuals(at + 1e-4 * unit) - base) / 1e-4 for unit in np.eye(len(names))]
        step = np.linalg.lstsq(np.stack(columns, 1), -base, rcond=None)[0]
        for _halved in range(20):
            if np.sum(residuals(at + step) ** 2) < np.sum(base**2):
                at = at + step
                break
            step = step / 2
        else:
            break
    return {**dict(zip(names, map(float, begin + scale * at), strict=True)), **FIXED}


def describe(specs: Mapping[str, str]) -> None:
    """Write what counting and the starter say of each text that a row is of."""
    from law import corpus_of
    from semigpt.corpus import prepare_corpus
    from semigpt.evaluation.counting import describe as counted
    from semigpt.huggingface.open import open_tokenizer
    from semigpt.start import STARTER_FOLDER
    from semigpt.starter import known_of

    path = HERE / "started_texts.json"
    found = json.loads(path.read_text("utf-8")) if path.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name, row in {name_of(row): row for row in rows()}.items():
            place = corpus_of(row["text"], row["millions"], dict(specs), Path(folder))
            if place is None:
                continue
            corpus = prepare_corpus(place)
            text, known = counted(corpus), known_of(corpus)
            if known is not None:
                of = found.setdefault(name, {"known": {}})
                of["text"] = dataclasses.asdict(text)
                of["known"][open_tokenizer(STARTER_FOLDER).kind] = dataclasses.asdict(known)
    lines = (f"{json.dumps(name)}: {json.dumps(table)}" for name, table in found.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write started_law.toml")
    parser.add_argument("--describe", action="store_true", help="write started_texts.json")
    parser.add_argument("--text", action="append", default=[], metavar="NAME=SPEC")
    options = parser.parse_args()
    if options.describe:
        describe(dict(text.split("=", 1) for text in options.text))
        return 0
    runs = load()
    by = fit(runs)
    off = errors(runs, by)
    by["error"] = float(np.sqrt(np.mean(off**2)))
    for run, error in zip(runs, off, strict=True):
        print(f"{error:+.3f}  {run.bits:.3f}  {run.name}")
    print({name: round(value, 3) for name, value in by.items()})
    for text in sorted({run.name.split("-")[0] for run in runs}):
        out = [run for run in runs if run.name.split("-")[0] == text]
        left = errors(out, fit([run for run in runs if run not in out]))
        print(f"without {text}: {len(out)} runs, off by {abs(left).max():.3f} at most")
    if options.write:
        lines = [f"{name} = {value:.4g}" for name, value in by.items()]
        LAW.write_text(
            "# Written by benchmarks/started_fit.py; docs/choices.md says what each run gave.\n"
            "[coefficients]\n" + "\n".join(lines) + "\n",
            encoding="utf-8",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
