"""A training step beside other busy programs, by how PyTorch's threads wait for each other.

    python benchmarks/busy.py [--busy 0,1,2] [--seconds 4] [--shape tiny]

Each cell is a process of its own: the median step of a shape of benchmarks/step.py, while so many
other processes each keep a core busy. Rows: threads that spin as GNU's OpenMP does by itself, as
semigpt sets it, and not at all; and one thread. A cell is milliseconds, and in brackets the steps
per second as a fraction of one thread's on the quiet machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from semigpt.environment import SPINS

WAYS = {
    "two threads, OpenMP's own 300,000 spins": (2, {"GOMP_SPINCOUNT": "300000"}),
    f"two threads, semigpt's {int(SPINS):,} spins": (2, {"GOMP_SPINCOUNT": SPINS}),
    "two threads, no spinning": (2, {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "PASSIVE"}),
    "one thread": (1, {}),
}


def median_step(shape: str, threads: int, seconds: float) -> float:
    """Milliseconds of this process's steps."""
    import torch

    from step import SHAPES, Trial

    torch.set_num_threads(threads)
    trial = Trial(SHAPES[shape], "native")
    trial.run()
    trial.run()
    trial.seconds.clear()
    trial.run_for(seconds)
    while len(trial.seconds) < 5:
        trial.run()
    return 1000 * statistics.median(trial.seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", default="0,1,2", help="how many other processes, each in turn")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--shape", default="tiny")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        print(median_step(options.shape, options.threads, options.seconds))
        return
    counts = [int(count) for count in options.busy.split(",")]
    rows: dict[str, list[float]] = {way: [] for way in WAYS}
    for count in counts:
        others = [
            subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)
        ]
        try:
            for way, (threads, environment) in WAYS.items():
                command = [sys.executable, str(Path(__file__)), "--threads", str(threads)]
                command += ["--seconds", str(options.seconds), "--shape", options.shape]
                done = subprocess.run(
                    command,
                    capture_output=True,
                    text=True,
                    check=True,
                    env={**os.environ, **environment},
                )
                rows[way].append(float(done.stdout))
        finally:
            for other in others:
                other.kill()
    quiet_core = rows["one thread"][0]
    print(f"| | {' | '.join(f'{count} busy' for count in counts)} |")
    print("|---" * (len(counts) + 1) + "|")
    for way, taken in rows.items():
        cells = " | ".join(f"{ms:,.0f} ({quiet_core / ms:.2f})" for ms in taken)
        print(f"| {way} | {cells} |")


if __name__ == "__main__":
    main()
