"""Draw the README's picture from a run folder, and print the samples beside it.

    semigpt train
    python benchmarks/readme_picture.py runs/news-gpt

The picture (default: docs/two_minutes.svg) shows the bits per character on validation text against
the seconds of training, beside the baselines. It brings its own background, so it can be read on a
light page and on a dark one. The samples printed are the first, the one nearest to 20 seconds and
the last, as README.md and README.ko.md quote them: picture and text come from one run.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from semigpt.errors import SemigptError, SettingsError
from semigpt.html import escape
from semigpt.report.charts import Level, Series, svg_file

__all__ = ["draw", "samples_shown"]

Row = dict[str, Any]

BASELINES = {
    "uniform": "uniform",
    "unigram": "unigram (character frequencies)",
    "bigram": "bigram (character pairs)",
    "kneser_ney_5": "5-gram (Kneser-Ney)",
}
EARLY_SECONDS = 20.0


def read_rows(run: Path, name: str) -> list[Row]:
    """The lines of one of the run's logs; SettingsError where there is none."""
    path = run / f"{name}.jsonl"
    if not path.is_file():
        raise SettingsError(f"no {path}; give the folder of a run, such as runs/news-gpt")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def draw(run: Path) -> str:
    """The picture of a run as an SVG document."""
    metadata: Row = json.loads((run / "metadata.json").read_text(encoding="utf-8"))
    metrics = read_rows(run, "metrics")
    clock = {row["step"]: float(row["seconds"]) for row in read_rows(run, "timings")}
    bits_per_nat = metadata["tokens_per_character"] / math.log(2)
    timed = [row for row in metrics if row["step"] in clock]
    validation = [
        (clock[row["step"]], row["bits_per_character"])
        for row in timed
        if "bits_per_character" in row
    ]
    training = [(clock[row["step"]], row["loss"] * bits_per_nat) for row in timed if "loss" in row]
    levels = [
        Level(label, metadata["baselines"][key])
        for key, label in BASELINES.items()
        if metadata["baselines"].get(key) is not None
    ]
    if metadata.get("source_entropy") is not None:
        levels.append(Level("entropy of the source", metadata["source_entropy"], floor=True))
    if not validation:
        raise SettingsError(f"{run} has not been evaluated yet; train until its first evaluation")
    return svg_file(
        [Series("this model", validation), Series("training loss", training, faint=True)],
        title="Bits per character on validation text against seconds of training",
        x_label="seconds of training",
        y_label="bits per character",
        levels=levels,
    )


def samples_shown(run: Path) -> list[tuple[float, float, str]]:
    """Seconds, bits per character and text of the first sample, an early one and the last."""
    samples = read_rows(run, "samples")
    clock = {row["step"]: float(row["seconds"]) for row in read_rows(run, "timings")}
    bits = {
        row["step"]: row["bits_per_character"]
        for row in read_rows(run, "metrics")
        if "bits_per_character" in row
    }
    early = min(samples[1:-1] or samples, key=lambda row: abs(clock[row["step"]] - EARLY_SECONDS))
    chosen = (samples[0], early, samples[-1])
    return [(clock[row["step"]], bits[row["step"]], row["prompt"] + row["text"]) for row in chosen]


def excerpt(text: str, characters: int) -> str:
    """The beginning of a text on one line, cut behind a sentence where that leaves half of it."""
    shown = text[:characters].strip()
    end = shown.rfind(".") + 1
    return (shown[:end] if end >= characters / 2 else shown).replace("\n", " ↵ ")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, such as runs/news-gpt")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/two_minutes.svg"), metavar="FILE", help="the picture"
    )
    parser.add_argument("--characters", type=int, default=120, help="of each sample (default: 120)")
    options = parser.parse_args()
    try:
        picture, samples = draw(options.run), samples_shown(options.run)
        options.out.write_text(picture, encoding="utf-8")
    except (SemigptError, OSError) as error:
        print(f"readme_picture.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for head in ("**{:.0f} s**, {:.2f} bits", "**{:.0f}초**, {:.2f}비트"):
        for seconds, bits, text in samples:
            print(f"> {head.format(seconds, bits)}: {escape(excerpt(text, options.characters))}\n>")
        print()
    print(f"the picture is in {options.out}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
