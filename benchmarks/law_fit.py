"""Fit the law of learning to its runs, and say how far off it is where it has not been fitted.

    python benchmarks/law_fit.py [--write] [--leave-out] [--choices] [--matrix]

Reads law.jsonl (runs by steps, benchmarks/law.py), the runs of started.jsonl that begin from
nothing, law_minutes.csv (runs of docs/choices.md and docs/results.md, by the tokens that they read)
and law_texts.json (what counting says of each text). `--write` writes src/semigpt/law.toml: the
coefficients and the errors, of each kind of text left out too. `--leave-out` fits again without
each text, and without the minute rows of each machine and number of minutes, and prints the errors
of what was left out. `--choices` holds its choice against the ways that were measured beside each
other. `--matrix` prints what `semigpt train` then chooses on five machines.

Least squares with Huber's loss, by Levenberg and Marquardt's method with finite differences.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import started_fit
from semigpt import auto
from semigpt.config import Recipe, shape_of
from semigpt.law import Learner, Text, expected_bits
from semigpt.output_layer import output_sample
from semigpt.training.speed import Speed

HERE = Path(__file__).parent
LAW = HERE.parent / "src" / "semigpt" / "law.toml"
PRIOR = 0.05  # weight of where the fit begins
HUBER = 0.06  # bits, from which an error counts linearly
SHAPES = {
    size: shape_of(Recipe.from_tables({"model": {"size": size}, "training": {"steps": 1}}))
    for size in ("tiny", "small", "base")
}
TESTED = {"news": -0.11, "reviews": 0.03}  # bits by which a test split differs from the blocks
# Tokens per character of the texts that the minute rows read.
PER_CHARACTER = {
    "reviews": {2000: 0.712, 4000: 0.592, 8000: 0.515, 12000: 0.475},
    "news": {2000: 0.712, 4000: 0.555, 8000: 0.433},
}
BYTE_PAIRS = {4000: 0.575, 8000: 0.5}
# Where the fit begins, and how far each coefficient may go from there before it costs as much as
# an error of 0.1 bits.
BEGIN: dict[str, tuple[float, float]] = {
    "offset": (-0.5, 1.0),
    "slope": (0.3, 0.3),
    "token_offset": (0.3, 0.5),
    "token_slope": (-0.1, 0.2),
    "vocabulary_offset": (0.0, 0.15),
    "vocabulary_slope": (0.08, 0.01),
    "token_depth": (0.0, 0.5),
    "vocabulary_depth": (0.3, 0.5),
    "other_tokens": (-0.5, 0.3),
    "size_offset": (0.8, 0.5),
    "size_slope": (0.1, 0.2),
    "depth_offset": (0.5, 1.0),
    "depth_slope": (0.5, 0.5),
    "batch": (13.5, 0.5),
    "batch_depth": (4.0, 1.0),
    "batch_growth": (0.8, 0.2),
    "taught": (-3.0, 1.0),
    "taught_slope": (0.4, 0.3),
    "taught_depth": (-2.0, 2.0),
    "taught_cost": (0.01, 0.01),
    "taught_sharpness": (1.0, 0.5),
    "ratio": (0.9, 0.03),
    "repeats": (8.0, 4.0),
    "heart": (0.006, 0.005),
    "heart_power": (1.1, 0.1),
    "heart_scarcity": (0.8, 0.2),
    "heart_size": (1.0, 0.4),
    "heart_vocabulary": (0.0, 0.5),
    "heart_dropout": (8.0, 4.0),
    "dropout_cost": (4.0, 2.0),
    "decay_cost": (1.0, 0.5),
    "memory": (0.0, 0.5),
    "memory_tokens": (0.0, 0.5),
    "memory_token_depth": (0.0, 1.0),
    "memory_net": (0.0, 0.1),
    "memory_slope": (0.0, 0.05),
    "memory_gain": (0.2, 0.05),
    "bigrams": (0.15, 0.1),
    "bigrams_growth": (0.5, 0.3),
}
POSITIVE = (
    *("repeats", "heart", "heart_power", "taught_sharpness", "heart_dropout"),
    *("dropout_cost", "decay_cost", "memory_gain"),
)
LEAST = {"heart": 1e-4, "bigrams": 1e-3}


@dataclass(frozen=True)
class Run:
    """A row: what was trained on what, and where it ended."""

    text: str
    described: Text
    learner: Learner
    tokens: float
    bits: float
    shift: float  # between the split of the row and the blocks of the validation split
    weight: float
    group: str  # what a row is left out with
    name: str


def load_texts() -> dict[str, Text]:
    tables = json.loads((HERE / "law_texts.json").read_text("utf-8"))
    return {
        name: Text(**{**table, "curve": tuple(map(tuple, table["curve"]))})
        for name, table in tables.items()
    }


def load() -> list[Run]:
    texts = load_texts()
    lines = (HERE / "law.jsonl").read_text("utf-8").splitlines()
    runs = [by_steps(json.loads(line), texts) for line in lines]
    short = {name: text for name, (text, _known) in started_fit.texts().items()}
    runs += [by_steps(row, short) for row in started_fit.rows() if row["start"] == "none"]
    with (HERE / "law_minutes.csv").open("r", encoding="utf-8") as file:
        runs += [by_minutes(row, texts) for row in csv.DictReader(file)]
    return runs


def by_steps(row: dict[str, Any], texts: Mapping[str, Text]) -> Run:
    name = f"{row['text']}-{row['millions']:g}"
    batch = row["batch_size"] or SHAPES[row["size"]].batch_size
    learner = Learner(
        block_parameters=SHAPES[row["size"]].block_parameters,
        kind=row["tokenizer"],
        vocab_size=row["vocab_size"] or None,
        per_character=row["training_tokens"] / row["characters"],
        batch_tokens=batch * SHAPES[row["size"]].context_length,
        dropout=row["dropout"],
        weight_decay=row["weight_decay"],
        taught=row["teacher"] == "counts",
        bigrams=row.get("embeddings") == "bigrams",
        memory=row["kind"] == "memory",
    )
    said = f"{name} {row['kind']} {row['size']} {row['tokenizer']} {row['vocab_size']}"
    weight = 1.0 if row["tokens"] > 150_000 else 0.25
    return Run(
        *(row["text"], texts[name], learner, row["tokens"], row["bits"], 0.0, weight),
        "steps",
        f"{said} {row['steps']} steps of {batch}, teacher {row['teacher']}, "
        f"dropout {row['dropout']}, {row.get('embeddings', 'random')} embeddings",
    )


def by_minutes(row: dict[str, str], texts: Mapping[str, Text]) -> Run:
    name = f"{row['text']}-{float(row['millions']):g}"
    kind, vocab_size = row["tokenizer"], int(row["vocab_size"])
    batch = int(row["batch_size"])
    ratio = BYTE_PAIRS[vocab_size] if kind == "bpe" else 1.0 if kind == "char" else 0.0
    learner = Learner(
        block_parameters=SHAPES[row["size"]].block_parameters,
        kind=kind,
        vocab_size=vocab_size or None,
        per_character=ratio or PER_CHARACTER[row["text"]][vocab_size],
        batch_tokens=batch * SHAPES[row["size"]].context_length,
        dropout=float(row["dropout"]),
        weight_decay=float(row["weight_decay"]),
        taught=row["teacher"] == "counts",
        sampled=row["sampled"] == "1",
        bigrams=row["embeddings"] == "bigrams",
        memory=row["kind"] == "memory",
    )
    shift = TESTED[row["text"]] if row["split"] == "test" else 0.0
    # Runs beside each other, of the same steps on the same blocks, say more than runs by minutes.
    beside = row["text"] == "reviews" and not shift and vocab_size > 0
    weight = 3.0 if beside or learner.memory else 0.7  # no other runs of a memory are as long
    group = f"{row['machine']} {row['minutes']}" + " memory" * learner.memory
    said = f"{name} {row['kind']} {row['size']} {kind} {vocab_size}"
    return Run(
        *(
            row["text"],
            texts[name],
            learner,
            float(row["tokens"]),
            float(row["bits"]),
            shift,
            weight,
        ),
        group,
        f"{said} {float(row['tokens']) / 1e6:.2f}M of {batch}, teacher {row['teacher']}, "
        f"dropout {row['dropout']} ({row['machine']})",
    )


def errors(runs: list[Run], by: Mapping[str, float]) -> np.ndarray[Any, Any]:
    """Expected less measured, in bits."""
    return np.array(
        [
            expected_bits(run.described, run.learner, run.tokens, by) + run.shift - run.bits
            for run in runs
        ]
    )


def fit(runs: list[Run]) -> dict[str, float]:
    """The coefficients, from where BEGIN has them: a net's alone first, then a memory's."""
    by = {name: at for name, (at, _) in BEGIN.items()}
    for memory in (False, True):
        names = [name for name in BEGIN if name.startswith("memory") is memory]
        by |= fitted([run for run in runs if run.learner.memory is memory], by, names)
    return by


def fitted(runs: list[Run], begin: Mapping[str, float], names: list[str]) -> dict[str, float]:
    """The named coefficients that a beginning leads to, all others as they are there."""
    prior = np.array([BEGIN[name][0] for name in names])
    scale = np.array([BEGIN[name][1] for name in names])
    values = np.array([begin[name] for name in names])
    weights = np.array([run.weight for run in runs])
    low = np.array([0.05 if name in POSITIVE else -np.inf for name in names])
    for name, least in LEAST.items():
        if name in names:
            low[names.index(name)] = least
    values = np.maximum(values, low)

    def off(values: Any) -> Any:
        return errors(runs, {**begin, **dict(zip(names, values, strict=True))})

    def cost(values: Any) -> float:
        scaled = off(values) / HUBER
        pull = (values - prior) / scale
        return float(np.sum(weights * (np.sqrt(1 + scaled**2) - 1)) + 0.5 * PRIOR * np.sum(pull**2))

    damping, now = 1e-2, cost(values)
    for _ in range(100):
        base = off(values)
        columns = []
        for j in range(len(names)):
            moved = values.copy()
            moved[j] += 1e-4 * scale[j]
            columns.append((off(moved) - base) / (1e-4 * scale[j]))
        jacobian = np.stack(columns, 1)
        robust = weights / np.sqrt(1 + (base / HUBER) ** 2) / HUBER**2
        normal = (jacobian.T * robust) @ jacobian + PRIOR * np.diag(1 / scale**2)
        gradient = jacobian.T @ (robust * base) + PRIOR * (values - prior) / scale**2
        for _ in range(10):
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
            tried = np.maximum(values + step, low)
            found = cost(tried)
            if found < now:
                break
            damping *= 4
        else:
            break
        gained, values, now, damping = now - found, tried, found, max(damping / 4, 1e-7)
        if gained < 1e-5:
            break
    return dict(zip(names, map(float, values), strict=True))


def show(runs: list[Run], off: Any, worst: int = 12) -> None:
    print(
        f"{len(runs)} runs: median error {np.median(abs(off)):.3f}, "
        f"root of the mean square {np.sqrt(np.mean(off**2)):.3f}, worst {abs(off).max():.3f}"
    )
    for i in np.argsort(-abs(off))[:worst]:
        print(f"  {off[i]:+.3f}  {runs[i].bits:.3f}  {runs[i].name}")


def error_row(name: str, off: Any) -> str:
    return f"| {name} | {len(off)} | {np.median(abs(off)):.3f} | {abs(off).max():.3f} |"


def corpus_name(run: Run) -> str:
    return f"{run.text} {run.described.characters / 1e6:.1f}"


def leave_out(runs: list[Run], key: Callable[[Run], str]) -> Any:
    """Fit without each group in turn; the errors on what was left out."""
    every = np.zeros(len(runs))
    for group in dict.fromkeys(map(key, runs)):
        kept = [run for run in runs if key(run) != group]
        out = [i for i, run in enumerate(runs) if key(run) == group]
        off = errors([runs[i] for i in out], fit(kept))
        every[out] = off
        print(error_row(group, off))
    return every


def write(runs: list[Run], by: Mapping[str, float]) -> None:
    """Write law.toml: the coefficients, what the law is off by, and what it was fitted to."""
    fitted_error = float(np.sqrt(np.mean(errors(runs, by) ** 2)))
    kinds = np.array([run.text for run in runs])
    off = leave_out(runs, lambda run: run.text)
    left_out = np.sqrt(np.mean([np.mean(off[kinds == kind] ** 2) for kind in set(kinds)]))
    texts = {corpus_name(run): run.described for run in runs}
    lines = [
        "# Written by benchmarks/law_fit.py; docs/choices.md says what each run gave.",
        "[coefficients]",
        *(f"{name} = {value:.5g}" for name, value in by.items()),
        "\n[errors] # bits: a root of the mean square, each kind alike where it is left out",
        f"fitted = {fitted_error:.3g}\nleft_out = {left_out:.3g}",
        "\n[texts] # depth and entropy of those that it was fitted to",
        *(f'"{name}" = [{at.depth:.3f}, {at.entropy:.2f}]' for name, at in texts.items()),
    ]
    LAW.write_text("\n".join(lines) + "\n", encoding="utf-8")


def choices(runs: list[Run]) -> None:
    """Print, for each text and time in which several ways were measured on one machine, how much
    higher the way ends that the law takes of them than the best.
    """
    by = fit(runs)
    cells: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        if run.group not in ("steps", f"{run.group.split()[0]} "):
            cells.setdefault((run.text, run.described.characters, run.group), []).append(run)
    print("| text, machine, minutes | ways | taken | above the best |\n|---|---|---|---|")
    for (text, characters, group), ways in cells.items():
        if len(ways) > 1:
            taken = ways[int(np.argmin(errors(ways, by) + [run.bits for run in ways]))]
            above = taken.bits - min(run.bits for run in ways)
            cell = f"{text} {characters / 1e6:.1f}, {group}"
            print(f"| {cell} | {len(ways)} | {taken.name} | {above:.3f} |")


# As fast as a slow laptop, as E, and two, five and ten times as fast as E.
MACHINES = {"0.3 x E": 0.3, "E": 1.0, "2 x E": 2.0, "5 x E": 5.0, "10 x E": 10.0}
E_GIGAFLOPS = 130  # of `semigpt.training.speed.step_work`, quiet
MINUTES = (1.0, 2.0, 5.0, 20.0, 60.0)


def matrix() -> None:
    """Print what is chosen on five machines, and what is expected of it, for each text and time."""
    for name, text in load_texts().items():
        print(f"\n| {name}, million characters | " + " | ".join(f"{m:g} min" for m in MINUTES))
        print("|---" * (len(MINUTES) + 1) + "|")
        for machine, times in MACHINES.items():
            cells = []
            for minutes in MINUTES:
                cpu = {"device": "cpu", "precision": "float32"}
                recipe = Recipe.from_tables({"training": {"minutes": minutes}, "machine": cpu})
                left = replace(recipe.open_choices(text.characters), bigrams=True)
                speed = Speed(0.0, 1 / (E_GIGAFLOPS * times))
                models = {size: recipe.of_size(size).model for size in left.shapes}

                def sampled(size: auto.Size, vocab_size: int, batch_size: int) -> int:
                    model = replace(models[size], vocab_size=vocab_size)  # noqa: B023
                    return output_sample(recipe, model, batch_size, text.characters)  # noqa: B023

                def fitting(size: auto.Size, vocab_size: int, batch_size: int) -> float:
                    model: Any = replace(models[size], vocab_size=vocab_size)  # noqa: B023
                    rows = sampled(size, vocab_size, batch_size)
                    step = speed.seconds(model, batch_size, output_sample=rows)  # noqa: B023
                    steps = 57 * minutes / step  # noqa: B023
                    return max(steps, 1.0) * batch_size * model.context_length

                way, *_ = auto.candidates(
                    *(text, left, fitting),
                    may_end_early=True,
                    sampled=lambda *asked: sampled(*asked) > 0,
                )
                cells.append(f"{way.expected:.2f}: {short(way)}")
            print(f"| {machine} | " + " | ".join(cells) + " |")


def short(way: Any) -> str:
    tokens = "char" if way.vocab_size is None else f"{way.vocab_size:,}"
    parts = [way.size, tokens, f"x{way.batch_size}"]
    parts += ["taught"] if way.taught else []
    parts += [f"dropout {way.dropout:g}"] if way.dropout else []
    parts += ["early end"] if way.early else []
    return " ".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write law.toml")
    parser.add_argument("--leave-out", action="store_true", help="errors where it was not fitted")
    parser.add_argument("--all", action="store_true", help="show every run")
    parser.add_argument("--choices", action="store_true", help="its choice of what was measured")
    parser.add_argument("--matrix", action="store_true", help="what is chosen where")
    options = parser.parse_args()
    if options.matrix:
        matrix()
        return 0
    runs = load()
    if options.choices:
        choices(runs)
        return 0
    by = fit(runs)
    show(runs, errors(runs, by), len(runs) if options.all else 14)
    print({name: round(value, 4) for name, value in by.items()})
    if options.leave_out:
        print("| left out | runs | median | worst |\n|---|---|---|---|")
        show(runs, leave_out(runs, corpus_name))
        off = leave_out(runs, lambda run: run.text)
        show(runs, off)
        memory = np.array([run.learner.memory for run in runs])
        print(error_row("a memory's of them", off[memory]))
        minutes = [run for run in runs if run.group != "steps"]
        steps = [run for run in runs if run.group == "steps"]
        found = []
        for group in dict.fromkeys(run.group for run in minutes):
            out = [run for run in minutes if run.group == group]
            kept = [run for run in minutes if run.group != group] + steps
            off = errors(out, fit(kept))
            found += list(zip(out, off, strict=True))
            print(error_row(f"{group} min", off))
        minutes_off = np.array([off for _, off in found])
        show([run for run, _ in found], minutes_off)
    if options.write:
        write(runs, by)
    return 0


if __name__ == "__main__":
    sys.exit(main())
