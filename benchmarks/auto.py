"""The table behind the automatic choices: bits per character by text length, minutes and flags.

    python benchmarks/auto.py --data SPEC [--characters 1 5 22] [--minutes 1 5 20 60]
                              [--try=FLAGS …] [--out FILE]

For each number C of millions of characters, the corpus is the first C million of SPEC's training
split. For each number M of minutes, `semigpt train --minutes M FLAGS` runs on it as a user would
run it, then `semigpt evaluate --split test`. All corpora share SPEC's validation and test splits,
cut to 300,000 characters, so bits per character compare across rows and columns. FILE (default:
auto.jsonl) keeps a line per run, and a run that it holds is not repeated: the whole takes hours,
and may be stopped and resumed. The table is printed from FILE.

    python benchmarks/auto.py --data film_reviews --characters 1 --minutes 5 \\
        --try="--size tiny" --try=--memory

`film_reviews` is the folder that benchmarks/film_reviews.py makes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts_of_texts import SPLITS, write_beginning
from semigpt.errors import SemigptError, SettingsError

SEMIGPT = (sys.executable, "-m", "semigpt")
Row = dict[str, Any]


def write_corpus(folder: Path, spec: str, millions: float) -> None:
    """Write the beginning of SPEC's training split, and its held-out splits cut short."""
    from semigpt.corpus import prepare_corpus
    from semigpt.evaluation.evaluate import check_split

    corpus = prepare_corpus(spec)
    for split in SPLITS:
        check_split(corpus, split)
    write_beginning(folder, {split: corpus.documents(split) for split in SPLITS}, millions * 1e6)


def answer(command: list[str], **environment: str) -> Row:
    """The object that a command of semigpt prints; SettingsError with its last line if it fails."""
    done = subprocess.run(
        [*SEMIGPT, *command], env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise SettingsError(f"semigpt {' '.join(command)}: {last}")
    found: Row = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(corpus: Path, minutes: float, flags: str, seed: int, cache: str) -> Row:
    """One run: its bits per character on the test split, and how much it read."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        length = ["--minutes", f"{minutes:g}", "--seed", str(seed)]
        train = [
            "train",
            "--data",
            str(corpus),
            *length,
            # The starter has read these reviews.
            *("--from", "none"),
            *shlex.split(flags),
            "--out",
            run,
            "--json",
        ]
        done = answer(train, SEMIGPT_CACHE=cache)
        figures = answer(
            ["evaluate", run, "--split", "test", "--no-xz", "--json"], SEMIGPT_CACHE=cache
        )
    counted = {"5-gram": figures["baselines"]["kneser_ney_5"]}
    return {
        "bits_per_character": figures["bits_per_character"],
        **counted,
        **{key: done[key] for key in ("steps", "tokens")},
    }


def show(rows: list[Row]) -> None:
    """Print a row per set of flags, a column per text and time; the best of a column is starred."""
    from rich.console import Console
    from rich.table import Table

    cells: dict[tuple[float, float], dict[str, list[Row]]] = {}
    for row in rows:
        column = cells.setdefault((row["characters"], row["minutes"]), {})
        column.setdefault(row["flags"], []).append(row)
    grid = Table("")
    mean = {
        column: {
            flags: sum(r["bits_per_character"] for r in runs) / len(runs)
            for flags, runs in ways.items()
        }
        for column, ways in cells.items()
    }
    for characters, minutes in sorted(cells):
        grid.add_column(f"{characters:g} M, {minutes:g} min", justify="right")
    for flags in dict.fromkeys(row["flags"] for row in rows):
        cells_of_row = [
            f"{ways[flags]:.3f}{' *' if ways[flags] == min(ways.values()) else ''}"
            if flags in ways
            else ""
            for _, ways in sorted(mean.items())
        ]
        grid.add_row(flags or "defaults", *cells_of_row)
    counted = [f"{next(iter(ways.values()))[0]['5-gram']:.3f}" for _, ways in sorted(cells.items())]
    grid.add_row("5-gram", *counted)
    Console(highlight=False, soft_wrap=True, width=max(Console().width, 118)).print(grid)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, metavar="SPEC", help="the text, best with a test split of its own"
    )
    parser.add_argument(
        "--characters",
        type=float,
        nargs="+",
        default=[1, 5, 22],
        help="of training text, in millions",
    )
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 5, 20, 60])
    more = "flags of semigpt train, as --try=FLAGS; may be given again"
    parser.add_argument("--try", dest="ways", action="append", metavar="FLAGS", help=more)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, default=Path("auto.jsonl"), help="the results, one line per run"
    )
    return parser.parse_args()


def main() -> int:
    try:
        options = parse()
        lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
        rows: list[Row] = [json.loads(line) for line in lines]
        names = ("data", "characters", "minutes", "flags", "seed")
        held = {tuple(row[name] for name in names) for row in rows}
        with tempfile.TemporaryDirectory() as folder:
            for characters, minutes, flags in itertools.product(
                options.characters, options.minutes, options.ways or [""]
            ):
                asked = (options.data, characters, minutes, flags, options.seed)
                cell = dict(zip(names, asked, strict=True))
                if tuple(cell.values()) in held:
                    continue
                corpus = Path(folder) / f"{characters:g}M"
                if not corpus.exists():
                    write_corpus(corpus, options.data, characters)
                cache = str(Path(folder) / "cache")
                row = {**cell, **measure(corpus, minutes, flags, options.seed, cache)}
                rows.append(row)
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
                print(
                    f"{characters:g} M, {minutes:g} min, {flags or 'defaults'}: "
                    f"{row['bits_per_character']:.4f}",
                    file=sys.stderr,
                    flush=True,
                )
    except SemigptError as error:
        print(f"auto.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
