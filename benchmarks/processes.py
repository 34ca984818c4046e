"""Two processes of one thread against one process of two: tokens per second of a run.

    python benchmarks/processes.py [--steps N] [--size SIZE] [--rounds N]

Each round trains both ways on the practice news, in turn, and the best of each counts: what else
the machine does only slows. A run's seconds are its own clock's, from the first step on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = {
    "1 process, 2 threads": ["--set", "machine.threads=2"],
    "2 processes, 1 thread each": ["--processes", "2", "--set", "machine.threads=1"],
}


def tokens_per_second(flags: list[str], folder: Path) -> float:
    """Of one run. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "semigpt", "train", "--json", "--out", str(folder), *flags]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result = json.loads(done.stdout)
    return float(result["tokens"] / result["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Two processes against two threads.")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    flags = ["--device", "cpu", "--size", options.size, "--steps", str(options.steps)]
    for setting in (
        "gradient_accumulation=2",
        "batch_size=24",
        "teacher=none",
        f"eval_every={options.steps}",
        "save_every=1000000",
    ):
        flags += ["--set", f"training.{setting}"]
    best = dict.fromkeys(WAYS, 0.0)
    with tempfile.TemporaryDirectory() as place:
        for number in range(options.rounds):
            for i, (way, own) in enumerate(WAYS.items()):
                folder = Path(place) / f"{number}-{i}"
                best[way] = max(best[way], tokens_per_second([*flags, *own], folder))
    alone, several = best.values()
    for way, speed in best.items():
        print(f"{way:28} {speed:9,.0f} tokens per second")
    print(f"several to one: {several / alone:.2f}")


if __name__ == "__main__":
    main()
