"""Where the seconds go before the first step of `semigpt train`, and after its last one.

    python benchmarks/film_reviews.py nsmc
    python benchmarks/start_end.py film_reviews

The command runs in a fresh process, first with an empty cache folder and then with the one that it
left. The table is in seconds. The stages are the log `semigpt.stages`; what lies between them is
"the rest". Evaluations and baselines between the first and the last step are on the run's clock.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """\
import logging, sys
log = logging.getLogger("semigpt.stages")
log.setLevel(logging.DEBUG)
log.propagate = False
handler = logging.FileHandler(sys.argv.pop(1))
handler.setFormatter(logging.Formatter("%(created)f %(message)s"))
log.addHandler(handler)
from semigpt.cli import main
code = main(sys.argv[1:])
log.debug("returned")
sys.exit(code)
"""
Line = tuple[float, str, float | None]  # seconds since the command began, what, how long it took


def run(data: str, minutes: float, folder: Path, more: list[str]) -> tuple[list[Line], float]:
    """Run the command once: its log, and the seconds that it took in all."""
    log = folder / "stages.log"
    log.unlink(missing_ok=True)
    command = ["train", "--data", data, "--minutes", str(minutes), "--from", "none", *more]
    with tempfile.TemporaryDirectory(dir=folder) as out:
        begin = time.time()
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(log), *command, "--out", f"{out}/run"],
            env={**os.environ, "SEMIGPT_CACHE": str(folder / "cache")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        seconds = time.time() - begin
    if done.returncode:
        raise SystemExit(f"semigpt {' '.join(command)}: exit {done.returncode}\n{done.stderr}")
    lines: list[Line] = []
    for line in log.read_text(encoding="utf-8").splitlines():
        created, message = line.split(" ", 1)
        what, _, took = message.partition(": ")
        lines.append((float(created) - begin, what, float(took) if took else None))
    return lines, seconds


def table(lines: list[Line], seconds: float) -> dict[str, float]:
    """Seconds by stage, in the order in which they came, with the sums."""
    moments = {what: at for at, what, took in lines if took is None}
    first, last = moments["first step"], moments["last step"]
    rows = {"imports": moments["begun"]}
    for at, what, took in lines:
        if took is not None and at <= first:
            rows[what] = rows.get(what, 0.0) + took
    rows["the rest of the start"] = first - sum(rows.values())
    rows["TO THE FIRST STEP"] = first
    for at, what, took in lines:
        if took is not None and first < at <= last:
            name = f"on the clock: {what}"
            rows[name] = rows.get(name, 0.0) + took
    after = {f"last {what}": took for at, what, took in lines if took is not None and at > last}
    rows |= after
    rows["the rest of the end"] = seconds - last - sum(after.values())
    rows["FROM THE LAST STEP"] = seconds - last
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="a text, as --data takes it")
    parser.add_argument(
        "--minutes", type=float, default=0.2, help="of training; a test of its two ends"
    )
    parser.add_argument(
        "flags", nargs="*", help="more flags of semigpt train, behind --, such as --memory"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (
            table(*run(options.data, options.minutes, Path(folder), options.flags))
            for _ in range(2)
        )
    print(f"{'seconds':34} empty cache  warm")
    for name in dict.fromkeys([*cold, *warm]):
        values = (f"{rows[name]:.2f}" if name in rows else "-" for rows in (cold, warm))
        print("{:34} {:>11} {:>5}".format(name, *values))
    return 0


if __name__ == "__main__":
    sys.exit(main())
