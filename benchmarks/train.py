"""What so many minutes of training give, and how fast training runs, beside others' loops, in one run.

    python -P benchmarks/train.py [--data SPEC] [--peer PATH] [--minutes 2] [--seeds 3] [--only NAME,...] [--reach] [--json]
    python -P benchmarks/train.py --throughput [--peer PATH] [--seconds 5] [--rounds 5] [--width 128|384] [--only …] [--json]

PATH is a checkout of karpathy/nanoGPT, whose model.py is imported from there; its licence and commit are told with the
result. Everything runs on the CPU, with torch's own number of threads (OMP_NUM_THREADS changes it for all alike).

QUALITY: bits a character on the test split after a wall clock of so many minutes, contestants in turn, seed by seed.
  nanogpt   the setting its README documents for a CPU (4 layers of 128, blocks of 64, 12 a step, float32, no compile) with
            the rates of config/train_shakespeare_char.py, its cosine laid over the clock; it saves and evaluates nothing
  semigpt   `semigpt train --minutes M'` as a user runs it
  memory    the same with --memory, where `semigpt train` has it
  5-gram    counted, not trained: interpolated modified Kneser-Ney, with its seconds of counting
Each is a process of its own and its clock begins when it is started: imports, compilers, forecast, evaluations, saving and
the report are on it. nanoGPT stops at the first step past the end. M' is M less what a first run of a second takes beside
its training, so the whole command takes M; what it did take stands in the table. The text, its split, its ids and the
baselines are prepared before, once for all, in a cache of the benchmark's own; each run of semigpt gets a fresh copy of it,
so nothing that one run compiles or counts helps the next. All read the same characters as the same ids, and all are
measured as `semigpt evaluate` measures: windows of the context that overlap by half, end-of-text marks paid for.
`--reach` runs semigpt for one minute more (--reach-minutes) and says whether that reaches nanoGPT's final figure.

THROUGHPUT: characters a second at two shapes, each contestant in a process of its own that waits while the others have
their turn: rounds A B C A B C …, two steps of warming up not counted, the median of the rounds. A ratio is the median of
the rounds' ratios. nanoGPT, transformers' GPT-2 and litgpt's Llama (the last two where installed): float32, torch.optim.AdamW,
a plain loop; semigpt's `gpt` through its own trainer, in the precision it picks, with its own optimizer and with AdamW alone.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn

from semigpt.errors import SemigptError, SettingsError

# Nothing heavy is imported above: a peer's start-up is on its clock, and semigpt's imports are no part of it.

QUALITY = ("nanogpt", "semigpt", "memory", "5-gram")
SPEED = ("nanogpt", "transformers", "litgpt", "semigpt", "semigpt-adamw")
SHAPES = (
    {"layers": 4, "width": 128, "heads": 4, "context": 64, "batch": 12},
    {"layers": 6, "width": 384, "heads": 6, "context": 256, "batch": 16},
)
TOP_RATE, LOW_RATE, WARM_STEPS = 1e-3, 1e-4, 100  # nanoGPT's config/train_shakespeare_char.py
PROBE_MINUTES = 1 / 60
Table = dict[str, Any]


def recipe_of(data: str, shape: Table | None = None, optimizer: str | None = None) -> Any:
    """The recipe of `semigpt train --data DATA`, at a given shape and with a given optimizer where they are named."""
    from semigpt.recipe import Recipe

    tables: dict[str, Table] = {"data": {"spec": data}}
    if shape is not None:
        names = {"layers": "num_layers", "width": "width", "heads": "num_heads", "context": "context_length"}
        tables["model"] = {theirs: shape[ours] for ours, theirs in names.items()}
        tables["training"] = {"batch_size": shape["batch"], "steps": 10**9}
    if optimizer is not None:
        tables["optimizer"] = {"optimizer": optimizer}
    return Recipe.from_tables(tables)


def write_tokens(dataset: Any, path: Path) -> None:
    """The training split's ids as nanoGPT keeps them: 16 bits each, end to end."""
    if dataset.vocab_size > 1 << 16:
        raise SettingsError(
            f"{dataset.vocab_size:,} tokens do not fit nanoGPT's 16 bits; name another --data"
        )
    stream = dataset.stream("train")
    stream.read(0, len(stream)).astype("uint16").tofile(path)


# The peers, each in a process of its own


def nanogpt(job: Table) -> tuple[Any, Any]:
    """nanoGPT's model and optimizer; what its README and its config do not say is as train.py has it."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", Path(job["peer"]) / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    shape = job["shape"]
    settings = module.GPTConfig(
        block_size=shape["context"],
        vocab_size=job["vocab_size"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        n_embd=shape["width"],
        dropout=0.0,
        bias=False,
    )
    model = module.GPT(settings)
    return model, model.configure_optimizers(0.1, TOP_RATE, (0.9, 0.99), "cpu")


def plain_steps(
    job: Table,
    loss_of: Callable[[Any, Any], Any],
    optimizer: Any,
    *,
    clip: float | None = None,
    rate: Callable[[int], float] | None = None,
) -> Iterator[object]:
    """A plain float32 loop, an update at a time: blocks at random places of a memory map, stacked."""
    import numpy as np
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    text = np.memmap(job["tokens"], dtype=np.uint16, mode="r")
    length, rows = job["shape"]["context"], job["shape"]["batch"]

    def blocks(starts: list[int]) -> torch.Tensor:
        return torch.stack([torch.from_numpy(text[i : i + length].astype(np.int64)) for i in starts])

    for step in itertools.count():
        if rate is not None:
            now = rate(step)
            for group in optimizer.param_groups:
                group["lr"] = now
        starts = torch.randint(len(text) - length, (rows,)).tolist()
        loss_of(blocks(starts), blocks([start + 1 for start in starts])).backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step


def train_nanogpt(job: Table) -> Table:
    """Train nanoGPT until its clock has run out, then measure it as semigpt measures its own."""
    import torch

    torch.manual_seed(job["seed"])
    end, warm = job["started"] + 60 * job["minutes"], math.inf

    def rate(step: int) -> float:
        nonlocal warm
        if step < WARM_STEPS:
            return TOP_RATE * (step + 1) / (WARM_STEPS + 1)
        warm = min(warm, time.time())
        share = min((time.time() - warm) / max(end - warm, 1e-9), 1.0)
        return LOW_RATE + (TOP_RATE - LOW_RATE) * (1 + math.cos(math.pi * share)) / 2

    model, optimizer = nanogpt(job)
    steps = plain_steps(
        job, lambda inputs, targets: model(inputs, targets)[1], optimizer, clip=1.0, rate=rate
    )
    begin, done = time.time(), 0
    while time.time() < end:
        next(steps)
        done += 1
    now = time.time()
    tokens = done * job["shape"]["batch"] * job["shape"]["context"]
    return {
        "bits_per_character": peer_bits(model, job),
        "tokens": tokens,
        "characters_per_second": tokens / max(now - begin, 1e-9),
        "startup_seconds": begin - job["started"],
        "seconds": now - job["started"],
    }


def peer_bits(model: Any, job: Table) -> float:
    """Bits a character on the test split, by `semigpt evaluate`'s own code."""
    from semigpt.evaluation import evaluate
    from semigpt.models.base import LanguageModel, ModelSettings
    from semigpt.recipe import prepare

    class Peer(LanguageModel):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.settings = ModelSettings(
                vocab_size=job["vocab_size"], context_length=job["shape"]["context"]
            )

        def forward(self, inputs_BT: Any, targets_BT: Any = None) -> tuple[Any, Any]:
            # Without targets nanoGPT gives the last place's logits alone.
            logits, loss = self.inner(inputs_BT, inputs_BT if targets_BT is None else targets_BT)
            return logits, loss if targets_BT is not None else None

        def huggingface_config(self) -> Table:
            raise NotImplementedError

    corpus, tokenizer, _ = prepare(recipe_of(job["data"]))
    result = evaluate(Peer(), tokenizer, corpus, "test", counted_on=corpus, xz=False)
    return result.information.bits_per_character


def contestant_steps(job: Table) -> tuple[Any, Iterator[object]]:
    """A contestant of the throughput, by its name: its model and its loop."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    shape, name = job["shape"], job["contestant"]
    if name.startswith("semigpt"):
        from semigpt.device import pick_precision
        from semigpt.recipe import prepare
        from semigpt.training.optimizer import Optimizer
        from semigpt.training.trainer import Progress, training_steps

        recipe = recipe_of(job["data"], shape, "adamw" if name == "semigpt-adamw" else None)
        ours = recipe.build_model(job["vocab_size"])
        ours.compute_dtype = pick_precision(torch.device("cpu"), "auto")
        _, _, dataset = prepare(recipe)
        optimizer = Optimizer(ours, recipe.optimizer)
        return ours, training_steps(ours, dataset, optimizer, recipe.training, Progress())
    if name == "nanogpt":
        model, theirs = nanogpt(job)
        return model, plain_steps(job, lambda inputs, targets: model(inputs, targets)[1], theirs, clip=1.0)
    if name == "transformers":
        from transformers import GPT2Config, GPT2LMHeadModel

        config = GPT2Config(
            vocab_size=job["vocab_size"],
            n_positions=shape["context"],
            n_embd=shape["width"],
            n_layer=shape["layers"],
            n_head=shape["heads"],
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
        )
        model = GPT2LMHeadModel(config)
    else:
        litgpt = importlib.import_module("litgpt")
        model = litgpt.GPT(
            litgpt.Config(
                block_size=shape["context"],
                vocab_size=job["vocab_size"],
                padded_vocab_size=job["vocab_size"],
                n_layer=shape["layers"],
                n_head=shape["heads"],
                n_embd=shape["width"],
                norm_class_name="RMSNorm",
                mlp_class_name="LLaMAMLP",
                intermediate_size=math.ceil(shape["width"] * 8 / 3 / 64) * 64,
                rotary_percentage=1.0,
                parallel_residual=False,
                bias=False,
            )
        )
    model.train()

    def loss_of(inputs: Any, targets: Any) -> Any:
        answer = model(inputs)
        logits = answer.logits if name == "transformers" else answer
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return model, plain_steps(job, loss_of, torch.optim.AdamW(model.parameters(), lr=TOP_RATE))


def take_turns(job: Table, output: IO[str]) -> None:
    """Warm up, say so, then train for the seconds of a turn at each line that comes."""
    model, steps = contestant_steps(job)
    for _ in range(2):
        next(steps)
    tokens = job["shape"]["batch"] * job["shape"]["context"]
    precision = str(getattr(model, "compute_dtype", "float32")).removeprefix("torch.")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"parameters": parameters, "precision": precision}), file=output, flush=True)
    for _ in sys.stdin:
        begin, done, taken = time.perf_counter(), 0, 0.0
        while taken < job["seconds"]:
            next(steps)
            done, taken = done + 1, time.perf_counter() - begin
        print(json.dumps({"speed": done * tokens / taken}), file=output, flush=True)


def run_job(job: Table) -> None:
    """What this file does in a process of a contestant's; a library's own prints go to standard error."""
    output, sys.stdout = sys.stdout, sys.stderr
    if "contestant" in job:
        take_turns(job, output)
    else:
        print(json.dumps(train_nanogpt(job)), file=output)


# What starts them


def job_command(job: Table) -> list[str]:
    return [sys.executable, "-P", __file__, "--job", json.dumps(job)]


def failed(who: str, errors: IO[str]) -> SettingsError:
    """A process that ended badly, in one line: its own last one."""
    errors.seek(0)
    lines = [line.strip() for line in errors.read().splitlines() if line.strip()]
    return SettingsError(f"{who} failed: {lines[-1] if lines else 'it said nothing'}")


def answer_of(who: str, command: list[str], environment: dict[str, str] | None = None) -> tuple[Table, float]:
    """A process's last line as an object, and its whole seconds."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        begin = time.perf_counter()
        done = subprocess.run(
            command,
            env=os.environ | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        )
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise failed(who, errors)
    answer: Table = json.loads(done.stdout.splitlines()[-1])
    return answer, seconds


def semigpt_run(
    data: str, flags: list[str], seed: int, minutes: float, prepared: Path, *, measured: bool = True
) -> Table:
    """`semigpt train`, then `semigpt evaluate`, over a copy of the prepared text and nothing else."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(prepared, folder / "cache")
        environment = {"SEMIGPT_CACHE": str(folder / "cache")}
        semigpt, run = [sys.executable, "-P", "-m", "semigpt"], str(folder / "run")
        train = ["train", "--data", data, "--minutes", f"{minutes:.5f}", "--seed", str(seed), *flags]
        answer, whole = answer_of(
            "semigpt train",
            [*semigpt, *train, "--device", "cpu", "--out", run, "--json"],
            environment,
        )
        found: Table = {
            "tokens": answer["tokens"],
            "characters_per_second": answer["tokens"] / answer["seconds"],
            "startup_seconds": whole - answer["seconds"],
            "seconds": whole,
        }
        if measured:
            evaluate = ["evaluate", run, "--split", "test", "--no-xz", "--device", "cpu", "--json"]
            measure, _ = answer_of("semigpt evaluate", [*semigpt, *evaluate], environment)
            found["bits_per_character"] = measure["bits_per_character"]
        return found


def prepare_text(data: str, cache: Path) -> tuple[Table, Any]:
    """Stage the text, its ids and the baselines in `cache`; the counted 5-gram's row, and the ids."""
    os.environ["SEMIGPT_CACHE"] = str(cache)
    from semigpt.evaluation import check_split, measure_baselines
    from semigpt.kneser_ney import KneserNey
    from semigpt.recipe import prepare

    corpus, _, dataset = prepare(recipe_of(data))
    check_split(corpus, "test")
    _, baselines = (
        measure_baselines(corpus, split, counted_on=corpus, xz=False) for split in ("validation", "test")
    )
    stream = dataset.stream("train")
    ids = stream.read(0, len(stream))
    begin = time.perf_counter()
    KneserNey.fit(ids, dataset.vocab_size, order=5)
    seconds = time.perf_counter() - begin
    row = {
        "bits_per_character": baselines.kneser_ney_5,
        "tokens": len(ids),
        "characters_per_second": len(ids) / seconds,
        "startup_seconds": 0.0,
        "seconds": seconds,
    }
    return row, dataset


def measure_quality(options: argparse.Namespace, names: list[str]) -> Table:
    """Every contestant in turn, seed by seed."""
    runs: dict[str, list[Table]] = {name: [] for name in names}
    reached: list[Table] = []
    with tempfile.TemporaryDirectory() as name:
        cache, tokens = Path(name) / "cache", Path(name) / "train.bin"
        counted, dataset = prepare_text(options.data, cache)
        write_tokens(dataset, tokens)
        job: Table = {"data": options.data, "vocab_size": dataset.vocab_size, "shape": SHAPES[0]}
        job |= {"peer": str(options.peer), "tokens": str(tokens), "minutes": options.minutes}
        beside: dict[str, float] = {}  # minutes a command takes beside its training

        def ours(contestant: str, seed: int, minutes: float) -> Table:
            flags = ["--memory"] if contestant == "memory" else []
            if contestant not in beside:
                probe = semigpt_run(options.data, flags, seed, PROBE_MINUTES, cache, measured=False)
                beside[contestant] = probe["startup_seconds"] / 60
            # Never less than the probe's second, where the start takes longer than there is: the table says so.
            minutes = max(minutes - beside[contestant], PROBE_MINUTES)
            return semigpt_run(options.data, flags, seed, minutes, cache)

        for seed in range(options.seeds):
            for contestant in names:
                if contestant == "5-gram":
                    row = dict(counted)
                elif contestant == "nanogpt":
                    row, _ = answer_of("nanogpt", job_command({**job, "seed": seed, "started": time.time()}))
                else:
                    row = ours(contestant, seed, options.minutes)
                if contestant != "5-gram" or seed == 0:
                    runs[contestant].append({"seed": seed, **row})
                    say(f"{contestant}, seed {seed}: {row['bits_per_character']:.4f} bits a character")
            if options.reach:
                reached.append({"seed": seed, **ours("semigpt", seed, options.reach_minutes)})
    keys = ("bits_per_character", "tokens", "characters_per_second", "startup_seconds", "seconds")
    rows = []
    for contestant, found in runs.items():
        row = {key: statistics.mean(run[key] for run in found) for key in keys}
        figures = [run["bits_per_character"] for run in found]
        rows.append({"contestant": contestant, **row, "spread": max(figures) - min(figures), "runs": found})
    result: Table = {"minutes": options.minutes, "seeds": options.seeds, "rows": rows}
    nanogpt_bits = next((row["bits_per_character"] for row in rows if row["contestant"] == "nanogpt"), None)
    if nanogpt_bits is not None:
        for row in rows:
            row["difference"] = row["bits_per_character"] - nanogpt_bits
    if options.reach:
        result["reach"] = {
            "minutes": options.reach_minutes,
            "target": nanogpt_bits,
            "reached": sum(run["bits_per_character"] <= nanogpt_bits for run in reached),
            "runs": reached,
        }
    return result


def measure_throughput(options: argparse.Namespace, names: list[str]) -> Table:
    """Rounds of turns at each shape."""
    from semigpt.recipe import prepare

    _, _, dataset = prepare(recipe_of(options.data))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        tokens = Path(name) / "train.bin"
        write_tokens(dataset, tokens)
        job: Table = {"data": options.data, "vocab_size": dataset.vocab_size, "tokens": str(tokens)}
        job |= {"peer": str(options.peer), "seconds": options.seconds}
        for shape in SHAPES:
            if options.width not in (None, shape["width"]):
                continue
            with contextlib.ExitStack() as stack:
                turns = [Turns({**job, "shape": shape, "contestant": name}, stack) for name in names]
                for number in range(options.rounds):
                    for turn in turns:
                        turn.speeds.append(turn.ask("\n")["speed"])
                    say(f"{shape['layers']} x {shape['width']}: round {number + 1} of {options.rounds}")
            first = turns[0].speeds
            for turn in turns:
                ratios = [speed / base for speed, base in zip(turn.speeds, first, strict=True)]
                rows.append(
                    {
                        "shape": shape,
                        "contestant": turn.name,
                        **turn.facts,
                        "characters_per_second": statistics.median(turn.speeds),
                        "ratio": statistics.median(ratios),
                        "speeds": turn.speeds,
                    }
                )
    return {"seconds": options.seconds, "rounds": options.rounds, "compared_with": names[0], "rows": rows}


class Turns:
    """One contestant's process, warm and waiting."""

    def __init__(self, job: Table, stack: contextlib.ExitStack) -> None:
        self.name: str = job["contestant"]
        self.speeds: list[float] = []
        file = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.errors: IO[str] = stack.enter_context(file)
        pipe = subprocess.PIPE
        process = subprocess.Popen(job_command(job), stdin=pipe, stdout=pipe, stderr=file, text=True)
        self.process = stack.enter_context(process)
        self.facts = self.ask("")

    def ask(self, line: str) -> Table:
        """Send a line and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(line)
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.process.wait()
            raise failed(self.name, self.errors)
        found: Table = json.loads(answer)
        return found


# What a person sees


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def peer_facts(peer: Path) -> dict[str, str]:
    """Whose code runs: the licence's first line, and the commit or else the file's digest."""
    try:
        licence = (peer / "LICENSE").read_text(encoding="utf-8", errors="replace").strip().splitlines()[0]
    except (OSError, IndexError):
        licence = "no LICENSE file"
    facts = {"licence": licence, "model.py": hashlib.sha256((peer / "model.py").read_bytes()).hexdigest()}
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ["git", "-C", str(peer), "rev-parse", "--show-prefix", "HEAD"]
        prefix, commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[:2]
        if not prefix:  # else the folder lies in someone else's repository
            facts["commit"] = commit
    return facts


def show(result: Table) -> None:
    """The result as a table on standard output."""
    from rich.console import Console
    from rich.table import Table as Grid

    console = Console(highlight=False)
    console = Console(highlight=False, width=max(console.width, 118), soft_wrap=True)
    speed = result["measurement"] == "throughput"
    length = (
        f"turns of {result['seconds']:g} s, {result['rounds']} rounds"
        if speed
        else f"{result['minutes']:g} minutes"
    )
    grid = Grid(title=f"{result['data']}, {length}", title_justify="left")
    columns = (
        ("characters/s", "lowest", "highest", f"x {result['compared_with']}", "parameters", "numbers")
        if speed
        else (
            "bits a character",
            "spread",
            "tokens",
            "characters/s",
            "start and end, s",
            "whole, s",
            "- nanogpt",
        )
    )
    grid.add_column("")
    for column in columns:
        grid.add_column(column, justify="right")
    shape: Table | None = None
    for row in result["rows"]:
        if speed:
            if row["shape"] != shape:
                shape = row["shape"]
                grid.add_section()
                grid.add_row("{layers} x {width}, {batch} of {context}".format(**row["shape"]), style="bold")
            speeds = (row["characters_per_second"], min(row["speeds"]), max(row["speeds"]))
            cells = [f"{value:,.0f}" for value in speeds]
            cells += [f"{row['ratio']:.2f}", f"{row['parameters']:,}", row["precision"]]
        else:
            spread = "" if len(row["runs"]) == 1 else f"{row['spread']:.4f}"
            cells = [f"{row['bits_per_character']:.4f}", spread, f"{row['tokens']:,.0f}"]
            cells += [f"{row['characters_per_second']:,.0f}", f"{row['startup_seconds']:.1f}"]
            cells += [f"{row['seconds']:.1f}", f"{row['difference']:+.4f}" if "difference" in row else ""]
        grid.add_row(row["contestant"], *cells)
    console.print(grid)
    if reach := result.get("reach"):
        found = statistics.mean(run["bits_per_character"] for run in reach["runs"])
        console.print(
            f"semigpt within {statistics.mean(run['seconds'] for run in reach['runs']):.1f} s: {found:.4f} bits a "
            f"character; at or below nanogpt's {reach['target']:.4f} in {reach['reached']} of {len(reach['runs'])} runs"
        )
    if peer := result["peer"]:
        version = peer.get("commit") or f"model.py {peer['model.py'][:12]} (SHA-256)"
        console.print(f"nanogpt: {peer['licence']}, {version}")
    console.print(f"torch {result['torch']}, {result['threads']} threads")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


def contestants(options: argparse.Namespace) -> list[str]:
    """Those that can take part, with a line for each of the rest; SettingsError where one that was named cannot."""
    known = SPEED if options.throughput else QUALITY
    named = [name.strip() for name in options.only.split(",")] if options.only else list(known)
    missing = {
        name: f"no {name} is installed"
        for name in ("transformers", "litgpt")
        if not importlib.util.find_spec(name)
    }
    if options.peer is None:
        missing["nanogpt"] = "no --peer PATH names its checkout"
    if "memory" in named and not options.throughput:
        command = [sys.executable, "-P", "-m", "semigpt", "train", "--help"]
        if "--memory" not in subprocess.run(command, capture_output=True, text=True).stdout:
            missing["memory"] = "`semigpt train` has no --memory"
    for name in named:
        if name not in known:
            raise SettingsError(f"no contestant {name!r}; there are {', '.join(known)}")
        if name in missing:
            if options.only:
                raise SettingsError(f"{name} cannot take part: {missing[name]}")
            say(f"{name} is left out: {missing[name]}")
    return [name for name in known if name in named and name not in missing]


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="news", metavar="SPEC", help="the text (default: news)")
    parser.add_argument("--peer", type=Path, metavar="PATH", help="a checkout of nanoGPT")
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="each contestant's wall clock (default: 2)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument("--only", metavar="NAME,…", help=f"{', '.join(QUALITY)}; or {', '.join(SPEED)}")
    parser.add_argument("--reach", action="store_true", help="does semigpt reach nanoGPT's figure sooner?")
    parser.add_argument("--reach-minutes", type=float, default=1.0, help="how soon (default: 1)")
    parser.add_argument("--throughput", action="store_true", help="characters a second instead")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a turn (default: 5)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default: 5)")
    parser.add_argument("--width", type=int, choices=[s["width"] for s in SHAPES], help="this shape alone")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    try:
        options = parser.parse_args()
        if options.job is not None:
            run_job(options.job)
            return 0
        for name in ("minutes", "seeds", "reach_minutes", "seconds", "rounds"):
            if not 0 < getattr(options, name) < math.inf:
                raise SettingsError(
                    f"--{name.replace('_', '-')} must be more than 0, not {getattr(options, name)}"
                )
        if options.peer is not None and not (options.peer / "model.py").is_file():
            raise SettingsError(f"no model.py in {options.peer}: give a checkout of nanoGPT to --peer")
        names = contestants(options)
        if options.reach and (options.throughput or "nanogpt" not in names):
            raise SettingsError("--reach needs nanogpt among the contestants: give --peer PATH")
        import torch

        result: Table = {
            "measurement": "throughput" if options.throughput else "quality",
            "data": options.data,
            "peer": peer_facts(options.peer) if "nanogpt" in names else None,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        result |= (measure_throughput if options.throughput else measure_quality)(options, names)
    except SemigptError as error:
        print(f"train.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
