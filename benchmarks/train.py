"""What minutes of training give, and how fast training runs, beside other projects, in one run.

    python benchmarks/train.py [--data SPEC] [--peer PATH] [--minutes 2] [--seeds 3] [--only NAME,…]
                               [--reach] [--out FILE] [--json]
    python benchmarks/train.py --throughput [--data SPEC] [--peer PATH] [--seconds 5] [--rounds 5]
                               [--width 128] [--only NAME,…] [--json]

PATH is a checkout of karpathy/nanoGPT, whose model.py is imported from there; its licence and
commit are printed with the result. Everything runs on the CPU with torch's own number of threads
(OMP_NUM_THREADS changes it for all alike). With `--device cuda` the trained contestants of QUALITY
run on the GPU.

QUALITY: bits per character on the test split after M minutes of wall clock, contestants in turn,
seed by seed.
  nanogpt     the setting that its README documents for a CPU (4 layers, width 128, context 64,
              batch 12, float32, no compile) with the rates of config/train_shakespeare_char.py, its
              cosine laid over the clock; it saves and evaluates nothing. On a GPU that file's model
              and batch (6 layers, width 384, context 256, batch 64), as train.py runs it there:
              bfloat16 by autocast, TF32, compiled, the next batch copied while the GPU is busy; no
              dropout, since the text is not repeated
  semigpt     `semigpt train --from none --minutes M'` as a user runs it
  characters  the same with --tokenizer char
  memory      the same with --memory
  5-gram      counted, not trained: interpolated modified Kneser-Ney, with its seconds of counting
Each is a process of its own, and its clock begins when it is started: imports, compilers, forecast,
evaluations, saving and the report are on it. nanoGPT stops at the first step past the end. M' is M
less what a first run of one second takes beside its training, so the whole command takes M; the
table has what it did take. The text, its split, its ids and the baselines are prepared once, in a
cache of the benchmark's own. Each run of semigpt gets a fresh copy of it, so nothing that one run
compiles or counts helps the next. Only characters are prepared: if semigpt picks another tokenizer,
training it is on the clock. All read the same text and all are measured as `semigpt evaluate`
measures: windows of the context that overlap by half, end-of-text tokens included, bits per
character of the text. FILE keeps a line per run, and a run that it holds is not repeated: hours of
them may be stopped and resumed. `--reach` also runs semigpt for one minute (--reach-minutes) and
says whether it reaches nanoGPT's final figure.

THROUGHPUT: characters per second at two shapes. Each contestant is a process of its own that waits
while the others have their turn: rounds A B C A B C …, two warm-up steps not counted, the median of
the rounds. A ratio is the median of the rounds' ratios. nanoGPT, transformers' GPT-2 and litgpt's
Llama (the last two where installed): float32, torch.optim.AdamW, a plain loop; semigpt's `gpt`
through its own trainer, in the precision it picks, with its own optimizer and with AdamW alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from operator import truediv
from pathlib import Path
from typing import IO, Any, NoReturn

from contestants import GPU_SHAPE, SHAPES, Table, recipe_of, write_tokens
from semigpt.errors import SemigptError, SettingsError

QUALITY = ("nanogpt", "semigpt", "characters", "memory", "5-gram")
FLAGS = {"memory": ["--memory"], "characters": ["--tokenizer", "char"]}
SPEED = ("nanogpt", "transformers", "litgpt", "semigpt", "semigpt-adamw")
COLUMNS = {
    "quality": {
        **{
            "bits_per_character": ".4f",
            "spread": ".4f",
            "characters": ",.0f",
            "characters_per_second": ",.0f",
        },
        **{"start_and_end_seconds": ".1f", "seconds": ".2f", "difference_to_nanogpt": "+.4f"},
    },
    "throughput": {
        **dict.fromkeys(("characters_per_second", "lowest", "highest"), ",.0f"),
        **{"ratio": ".2f", "parameters": ",", "precision": ""},
    },
}
PROBE_MINUTES = 1 / 60
SEMIGPT = (sys.executable, "-m", "semigpt")


# What starts those processes


def job_command(job: Table) -> list[str]:
    script = str(Path(__file__).with_name("contestants.py"))
    return [sys.executable, script, json.dumps(job)]


def failed(who: str, errors: IO[bytes]) -> SettingsError:
    """The error for a process that failed, with the last line that it printed."""
    errors.seek(0)
    lines = errors.read().decode("utf-8", "replace").split("\n")
    last = next(filter(str.strip, reversed(lines)), "it said nothing")
    return SettingsError(f"{who} failed: {last}")


def answer_of(who: str, command: list[str], **environment: str) -> tuple[Table, float]:
    """The last line of a process as an object, and the seconds that the process took."""
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        done = subprocess.run(
            command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=errors
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise failed(who, errors)
    answer: Table = json.loads(done.stdout.splitlines()[-1])
    return answer, seconds


def turns(job: Table) -> Generator[Table]:
    """A process of the throughput: its facts once it is warm, then a turn's result per `next`."""
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(job_command(job), stdin=pipe, stdout=pipe, stderr=errors) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        while line := process.stdout.readline():
            yield json.loads(line)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(b"\n")
                process.stdin.flush()
        process.wait()
        raise failed(job["contestant"], errors)


def semigpt_run(
    data: str,
    flags: list[str],
    seed: int,
    minutes: float,
    prepared: Path,
    *,
    device: str = "cpu",
    measured: bool = True,
) -> Table:
    """`semigpt train`, then `semigpt evaluate`, over a fresh copy of the prepared text."""
    with tempfile.TemporaryDirectory() as name:
        cache, run = str(Path(name) / "cache"), str(Path(name) / "run")
        shutil.copytree(prepared, cache)
        # From random weights, as the others: the starter has read film reviews already.
        train = ["train", "--data", data, "--from", "none", "--seed", str(seed)]
        train += ["--minutes", f"{minutes:.5f}"]
        train += [*flags, "--device", device, "--out", run, "--json"]
        done, whole = answer_of("semigpt train", [*SEMIGPT, *train], SEMIGPT_CACHE=cache)
        figures: Table = {}
        if measured:
            evaluate = ["evaluate", run, "--split", "test", "--no-xz", "--json", "--device", device]
            figures, _ = answer_of("semigpt evaluate", [*SEMIGPT, *evaluate], SEMIGPT_CACHE=cache)
    read = done["tokens"] * figures["characters"] / figures["tokens"] if figures else math.nan
    return {
        "bits_per_character": figures.get("bits_per_character", math.nan),
        "characters": read,  # at the test split's characters per token
        "characters_per_second": read / done["seconds"],
        "start_and_end_seconds": whole - done["seconds"],
        "seconds": whole,
    }


def prepare_text(data: str, cache: Path) -> tuple[Table, Any]:
    """Prepare text, ids and baselines in `cache`; return the 5-gram's row and the dataset."""
    os.environ["SEMIGPT_CACHE"] = str(cache)
    from semigpt.evaluation.baselines import measure_baselines
    from semigpt.evaluation.evaluate import check_split
    from semigpt.ngrams.counts import Counts
    from semigpt.preparation import prepare
    from semigpt.storage import run_to_end

    _, (corpus, _, dataset) = run_to_end(prepare(recipe_of(data)))
    check_split(corpus, "test")
    measure_baselines(corpus, "validation", counted_on=corpus, xz=False)
    baselines = measure_baselines(corpus, "test", counted_on=corpus, xz=False)
    stream = dataset.stream("train")
    ids = stream.read(0, len(stream))
    begin = time.perf_counter()
    Counts.fit(ids, dataset.vocab_size, order=5)
    seconds = time.perf_counter() - begin
    row = {"bits_per_character": baselines.kneser_ney_5, "characters": len(ids), "seconds": seconds}
    return row, dataset


def measure_quality(options: argparse.Namespace, names: list[str]) -> Table:
    """Every contestant in turn, seed by seed."""
    runs: dict[str, list[Table]] = {name: [] for name in names}
    if options.reach:
        runs["reach"] = []
    beside: dict[str, float] = {}  # minutes that a command takes beside its training, by its flags
    kept: list[Table] = []
    if options.out and options.out.exists():
        kept = [json.loads(line) for line in options.out.read_text(encoding="utf-8").splitlines()]
    device = options.device
    asked = {"data": options.data, "minutes": options.minutes, "device": device}
    with tempfile.TemporaryDirectory() as folder:
        cache, tokens = Path(folder) / "cache", Path(folder) / "train.bin"
        counted, dataset = prepare_text(options.data, cache)
        write_tokens(dataset, tokens)
        job: Table = {"data": options.data, "vocab_size": dataset.vocab_size, "device": device}
        job["shape"] = SHAPES[0] if device == "cpu" else GPU_SHAPE
        job |= {"peer": str(options.peer), "tokens": str(tokens), "minutes": options.minutes}

        def run(name: str, seed: int) -> Table:
            if name == "5-gram":
                return counted
            if name == "nanogpt":
                return answer_of(name, job_command({**job, "seed": seed, "started": time.time()}))[
                    0
                ]
            flags = FLAGS.get(name, [])
            if str(flags) not in beside:
                # So short a run is not compiled by default; the one that is measured will be.
                compiled = device == "cuda" and name != "memory"
                probe = semigpt_run(
                    options.data,
                    flags + (["--set", "machine.compile=true"] if compiled else []),
                    seed,
                    PROBE_MINUTES,
                    cache,
                    device=device,
                    measured=False,
                )
                beside[str(flags)] = probe["start_and_end_seconds"] / 60
            minutes = options.reach_minutes if name == "reach" else options.minutes
            # Where starting takes longer than there is, one second is left: the table shows it.
            minutes = max(minutes - beside[str(flags)], PROBE_MINUTES)
            return semigpt_run(options.data, flags, seed, minutes, cache, device=device)

        for seed, name in itertools.product(range(options.seeds), runs):
            if name != "5-gram" or seed == 0:
                this = {**asked, "contestant": name, "seed": seed}
                held = next((line for line in kept if this.items() <= line.items()), None)
                last = held or {**this, **run(name, seed)}
                if options.out and held is None:
                    with options.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(last) + "\n")
                runs[name].append(
                    {key: value for key, value in last.items() if key == "seed" or key not in this}
                )
                bits, seconds = last["bits_per_character"], last["seconds"]
                say(f"{name}, seed {seed}: {bits:.4f} in {seconds:.1f} s")
    rows = [summary(name, runs[name]) for name in names]
    result: Table = {"minutes": options.minutes, "rows": rows}
    figures = {row["contestant"]: row["bits_per_character"] for row in result["rows"]}
    target = figures.get("nanogpt", math.nan)
    for row in result["rows"] if "nanogpt" in figures else []:
        row["difference_to_nanogpt"] = row["bits_per_character"] - target
    if options.reach:
        reached = sum(run["bits_per_character"] <= target for run in runs["reach"])
        result["reach"] = {
            **summary("semigpt", runs["reach"]),
            "target": target,
            "reached": reached,
        }
    return result


def summary(name: str, runs: list[Table]) -> Table:
    """The means over a contestant's runs, and the spread of its bits per character."""
    figures = [run["bits_per_character"] for run in runs]
    means = {key: statistics.mean(run[key] for run in runs) for key in runs[0] if key != "seed"}
    return {"contestant": name, **means, "spread": max(figures) - min(figures), "runs": runs}


def measure_throughput(options: argparse.Namespace, names: list[str]) -> Table:
    """Characters per second of every contestant, in rounds of turns, at each shape."""
    from semigpt.preparation import prepare
    from semigpt.storage import run_to_end

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "train.bin"
        _, (_, _, dataset) = run_to_end(prepare(recipe_of(options.data)))
        write_tokens(dataset, tokens)
        job: Table = {"data": options.data, "vocab_size": dataset.vocab_size, "tokens": str(tokens)}
        job["device"] = "cpu"
        job |= {"peer": str(options.peer), "seconds": options.seconds}
        for shape in (shape for shape in SHAPES if options.width in (None, shape["width"])):
            speeds: dict[str, list[float]] = {name: [] for name in names}
            with contextlib.ExitStack() as stack:
                asked = {name: turns({**job, "shape": shape, "contestant": name}) for name in names}
                for turn in asked.values():
                    stack.callback(turn.close)
                facts = {name: next(turn) for name, turn in asked.items()}
                for number in range(options.rounds):
                    for name, turn in asked.items():
                        speeds[name].append(next(turn)["speed"])
                    size = f"{shape['layers']} x {shape['width']}"
                    say(f"{size}: round {number + 1} of {options.rounds}")
            for name, found in speeds.items():
                ratio = statistics.median(map(truediv, found, speeds[names[0]]))
                row = {
                    "contestant": name,
                    "shape": shape,
                    "ratio": ratio,
                    **facts[name],
                    "speeds": found,
                }
                row |= {"lowest": min(found), "highest": max(found)}
                rows.append({**row, "characters_per_second": statistics.median(found)})
    return {
        "seconds": options.seconds,
        "rounds": options.rounds,
        "compared_with": names[0],
        "rows": rows,
    }


# What a person sees


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def peer_facts(peer: Path) -> str:
    """The first line of the peer's licence, and its commit or, without git, its file's digest."""
    digest = hashlib.sha256((peer / "model.py").read_bytes()).hexdigest()
    licence, version = "no LICENSE file", f"model.py {digest[:12]} (SHA-256)"
    with contextlib.suppress(OSError, IndexError):
        text = (peer / "LICENSE").read_text(encoding="utf-8", errors="replace")
        licence = text.strip().splitlines()[0]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(peer), "rev-parse", "--show-prefix", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        prefix, commit = done.stdout.splitlines()[:2]
        version = version if prefix else f"commit {commit}"  # a prefix: someone else's repository
    return f"{licence}, {version}"


def show(result: Table) -> None:
    """The result as a table on standard output."""
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(highlight=False, soft_wrap=True, width=max(Console().width, 118))
    columns = COLUMNS[result["measurement"]]
    if "minutes" in result:
        length = f"{result['minutes']:g} minutes"
    else:
        length = f"turns of {result['seconds']:g} s"
    grid = Grid("", title=f"{result['data']}, {length}", title_justify="left")
    for key in columns:
        grid.add_column(key.replace("_", " "), justify="right")
    shape: Table | None = None
    for row in result["rows"]:
        if row.get("shape") != shape:
            shape = row["shape"]
            grid.add_section()
            grid.add_row("{layers} x {width}, {batch} of {context}".format(**shape), style="bold")
        cells = [format(row[key], columns[key]) if key in row else "" for key in columns]
        grid.add_row(row["contestant"], *cells)
    console.print(grid)
    if "compared_with" in result:
        console.print(
            f"ratio: to {result['compared_with']}, the median of {result['rounds']} rounds"
        )
    if reach := result.get("reach"):
        console.print(
            f"semigpt in {reach['seconds']:.1f} s: {reach['bits_per_character']:.4f} bits per "
            f"character; at or below nanogpt's {reach['target']:.4f} in {reach['reached']} of "
            f"{len(reach['runs'])} runs"
        )
    if result["peer"]:
        console.print(f"nanogpt: {result['peer']}")
    console.print(f"torch {result['torch']}, threads: {result['threads']}")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


def contestants_of(options: argparse.Namespace) -> list[str]:
    """The contestants that can take part; a line for each that cannot.

    Raises SettingsError for one that was named and cannot.
    """
    known = SPEED if options.throughput else QUALITY
    named = options.only.split(",") if options.only else known
    libraries = [name for name in ("transformers", "litgpt") if not importlib.util.find_spec(name)]
    missing = dict.fromkeys(libraries, "it is not installed")
    if options.peer is None:
        missing["nanogpt"] = "no --peer PATH names its checkout"
    for name in named:
        if name not in known:
            raise SettingsError(f"no contestant {name!r}; there are {', '.join(known)}")
        if name in missing and options.only:
            raise SettingsError(f"{name} cannot take part: {missing[name]}")
        if name in missing:
            say(f"{name} is left out: {missing[name]}")
    return [name for name in known if name in named and name not in missing]


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="news", metavar="SPEC", help="the text (default: news)")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="a checkout of nanoGPT")
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="each one's wall clock (default: 2)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument(
        "--only", metavar="NAME,…", help=f"some of {', '.join(QUALITY)}; or of {', '.join(SPEED)}"
    )
    parser.add_argument(
        "--reach", action="store_true", help="does semigpt reach nanoGPT's figure sooner?"
    )
    parser.add_argument("--reach-minutes", type=float, default=1.0, help="how soon (default: 1)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="keep each run there, and do not repeat those kept"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="for training (default: cpu)"
    )
    parser.add_argument("--throughput", action="store_true", help="characters per second instead")
    parser.add_argument("--seconds", type=float, default=5.0, help="per turn (default: 5)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    widths = [shape["width"] for shape in SHAPES]
    parser.add_argument("--width", type=int, choices=widths, help="this shape alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    for name in ("minutes", "seeds", "reach_minutes", "seconds", "rounds"):
        if not 0 < getattr(options, name) < math.inf:
            raise SettingsError(f"--{name.replace('_', '-')} must be more than 0")
    if options.peer is not None and not (options.peer / "model.py").is_file():
        raise SettingsError(f"no model.py in {options.peer}: give a checkout of nanoGPT to --peer")
    return options


def main() -> int:
    try:
        options = parse()
        names = contestants_of(options)
        if options.reach and (options.throughput or "nanogpt" not in names):
            raise SettingsError(
                "--reach compares with nanogpt: give --peer PATH, and leave --throughput out"
            )
        import torch

        if options.device == "cuda" and options.throughput:
            raise SettingsError("the throughput is measured on a CPU: leave --device out")
        if options.device == "cuda" and not torch.cuda.is_available():
            raise SettingsError("torch sees no NVIDIA GPU here: leave --device out")

        measure = measure_throughput if options.throughput else measure_quality
        result: Table = {
            "measurement": "throughput" if options.throughput else "quality",
            "data": options.data,
            "peer": peer_facts(options.peer) if "nanogpt" in names else None,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            **measure(options, names),
        }
    except SemigptError as error:
        say(f"train.py: {' '.join(str(error).split())}")
        return 2
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
