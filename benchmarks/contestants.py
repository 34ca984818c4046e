"""What a contestant of benchmarks/train.py does in its own process: a peer's loop, or ours.

benchmarks/train.py starts it as `python benchmarks/contestants.py JOB`, a job as JSON. The answer
is one line of JSON; what libraries print goes to standard error.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from semigpt.errors import SemigptError, SettingsError

# Nothing heavy is imported above: a peer's start-up is on its clock, without semigpt's imports.

__all__ = ["GPU_SHAPE", "SHAPES", "Table", "recipe_of", "write_tokens"]

SHAPES = (
    {"layers": 4, "width": 128, "heads": 4, "context": 64, "batch": 12},
    {"layers": 6, "width": 384, "heads": 6, "context": 256, "batch": 16},
)
GPU_SHAPE = {"layers": 6, "width": 384, "heads": 6, "context": 256, "batch": 64}
TOP_RATE, LOW_RATE, WARM_STEPS = 1e-3, 1e-4, 100  # nanoGPT's config/train_shakespeare_char.py
Table = dict[str, Any]


def recipe_of(data: str, shape: Table | None = None, **optimizer: str) -> Any:
    """The recipe of `semigpt train --data DATA`, with this shape and optimizer where given."""
    from semigpt.recipe import Recipe

    tables: dict[str, Table] = {"data": {"spec": data}, "optimizer": optimizer}
    tables["tokenizer"] = {"kind": "char"}  # as the peers read it
    if shape is not None:
        names = {
            "layers": "num_layers",
            "width": "width",
            "heads": "num_heads",
            "context": "context_length",
        }
        tables["model"] = {theirs: shape[ours] for ours, theirs in names.items()}
        tables["training"] = {"batch_size": shape["batch"], "steps": 10**9}
    return Recipe.from_tables(tables)


def write_tokens(dataset: Any, path: Path) -> None:
    """Write the training split's ids as nanoGPT keeps them: 16 bits each, end to end."""
    if dataset.vocab_size > 1 << 16:
        raise SettingsError(
            f"16 bits do not hold {dataset.vocab_size:,} tokens; name another --data"
        )
    stream = dataset.stream("train")
    stream.read(0, len(stream)).astype("uint16").tofile(path)


def nanogpt(job: Table) -> tuple[Any, Any]:
    """nanoGPT's model and optimizer; what README and config leave open is as in its train.py."""
    sys.path.insert(0, job["peer"])
    module = importlib.import_module("model")
    names = {"block_size": "context", "n_layer": "layers", "n_head": "heads", "n_embd": "width"}
    sizes = {theirs: job["shape"][ours] for theirs, ours in names.items()}
    config = module.GPTConfig(vocab_size=job["vocab_size"], dropout=0.0, bias=False, **sizes)
    model = module.GPT(config)
    model.to(job["device"])
    return model, model.configure_optimizers(0.1, TOP_RATE, (0.9, 0.99), job["device"])


def plain_steps(
    job: Table,
    loss_of: Callable[[Any, Any], Any],
    optimizer: Any,
    clip: float = math.inf,
    rate: Callable[[int], float] | None = None,
) -> Iterator[int]:
    """A plain loop, one update at a time: blocks at random places of a memory map, stacked."""
    import numpy as np
    import torch

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    text = np.memmap(job["tokens"], dtype=np.uint16, mode="r")
    length, batch_size = job["shape"]["context"], job["shape"]["batch"]

    def blocks(starts: list[int]) -> torch.Tensor:
        rows = [torch.from_numpy(text[i : i + length].astype(np.int64)) for i in starts]
        block = torch.stack(rows)
        if job["device"] == "cpu":
            return block
        return block.pin_memory().to(job["device"], non_blocking=True)

    def batch() -> tuple[torch.Tensor, torch.Tensor]:
        starts = torch.randint(len(text) - length, (batch_size,)).tolist()
        return blocks(starts), blocks([start + 1 for start in starts])

    inputs, targets = batch()
    for step in itertools.count():
        if rate is not None:
            now = rate(step)
            for group in optimizer.param_groups:
                group["lr"] = now
        loss = loss_of(inputs, targets)
        inputs, targets = batch()
        loss.backward()
        if clip < math.inf:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step


def train_nanogpt(job: Table) -> Table:
    """Train nanoGPT until its time is up, then measure it as semigpt measures its own."""
    import torch

    torch.manual_seed(job["seed"])
    end, warm = job["started"] + 60 * job["minutes"], math.inf

    def rate(step: int) -> float:
        nonlocal warm
        if step < WARM_STEPS:
            return TOP_RATE * (step + 1) / (WARM_STEPS + 1)
        warm = min(warm, time.time())
        fraction = min((time.time() - warm) / max(end - warm, 1e-9), 1.0)
        return LOW_RATE + (TOP_RATE - LOW_RATE) * (1 + math.cos(math.pi * fraction)) / 2

    model, optimizer = nanogpt(job)
    gpu, trained = job["device"] == "cuda", model
    if gpu:
        torch.set_float32_matmul_precision("high")
        trained = torch.compile(model)

    def loss_of(inputs: Any, targets: Any) -> Any:
        with torch.autocast(job["device"], torch.bfloat16, enabled=gpu):
            return trained(inputs, targets)[1]

    steps = plain_steps(job, loss_of, optimizer, 1.0, rate)
    begin, tokens = time.time(), 0
    while time.time() < end:
        done = next(steps)
        tokens += job["shape"]["batch"] * job["shape"]["context"]
        if (
            gpu and done % 10 == 0
        ):  # as often as its train.py reads the loss: kernels queue no further
            torch.cuda.synchronize()
    if gpu:
        torch.cuda.synchronize()
    now = time.time()
    return {
        "bits_per_character": peer_bits(model, job),
        "characters": tokens,
        "characters_per_second": tokens / max(now - begin, 1e-9),
        "start_and_end_seconds": begin - job["started"],
        "seconds": now - job["started"],
    }


def peer_bits(model: Any, job: Table) -> float:
    """Bits per character on the test split, by `semigpt evaluate`'s own code."""
    from semigpt.evaluation.evaluate import evaluate
    from semigpt.models.base import LanguageModel, ModelSettings
    from semigpt.preparation import prepare
    from semigpt.storage import run_to_end

    class PeerSettings(ModelSettings):
        @property
        def parameter_count(self) -> int:
            return sum(parameter.numel() for parameter in model.parameters())

    class Peer(LanguageModel):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            length = job["shape"]["context"]
            self.settings = PeerSettings(vocab_size=job["vocab_size"], context_length=length)

        def forward(self, inputs_BT: Any, targets_BT: Any = None) -> tuple[Any, Any]:
            # Without targets nanoGPT returns the last position's logits alone.
            targets_BT = inputs_BT if targets_BT is None else targets_BT
            answer: tuple[Any, Any] = self.inner(inputs_BT, targets_BT)
            return answer

        def huggingface_config(self) -> Table:
            raise NotImplementedError  # only needed for saving, and this model is not saved

        @classmethod
        def defaults(cls, size: Any) -> dict[str, Table]:
            raise NotImplementedError  # only needed for a recipe, and this model has none

    _, (corpus, tokenizer, _) = run_to_end(prepare(recipe_of(job["data"])))
    result = evaluate(Peer(), tokenizer, corpus, "test", counted_on=corpus, xz=False)
    return result.information.bits_per_character


def contestant_steps(job: Table) -> tuple[Any, Iterator[object]]:
    """A contestant of the throughput by its name: its model and its loop."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    shape, name, vocab_size = job["shape"], job["contestant"], job["vocab_size"]
    if name.startswith("semigpt"):
        from semigpt.device import pick_precision
        from semigpt.preparation import prepare
        from semigpt.storage import run_to_end
        from semigpt.training.optimizer import Optimizer
        from semigpt.training.progress import Progress
        from semigpt.training.trainer import training_steps

        optimizer_table = {"optimizer": "adamw"} if name == "semigpt-adamw" else {}
        recipe = recipe_of(job["data"], shape, **optimizer_table)
        recipe, (_, _, dataset) = run_to_end(prepare(recipe))
        ours = recipe.build_model()
        ours.compute_dtype = pick_precision(torch.device("cpu"), "auto")
        optimizer = Optimizer(ours, recipe.optimizer)
        return ours, training_steps(ours, dataset, optimizer, recipe.training, Progress())
    if name == "nanogpt":
        model, theirs = nanogpt(job)
        return model, plain_steps(
            job, lambda inputs, targets: model(inputs, targets)[1], theirs, 1.0
        )
    sizes = {"n_embd": shape["width"], "n_layer": shape["layers"], "n_head": shape["heads"]}
    if name == "transformers":
        from transformers import GPT2Config, GPT2LMHeadModel

        free = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        settings: Table = {"n_positions": shape["context"], **sizes, **free, **ends}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=vocab_size, use_cache=False, **settings))
    else:
        litgpt = importlib.import_module("litgpt")
        settings = {"block_size": shape["context"], "padded_vocab_size": vocab_size, **sizes}
        settings |= {
            "norm_class_name": "RMSNorm",
            "mlp_class_name": "LLaMAMLP",
            "rotary_percentage": 1.0,
        }
        settings |= {"parallel_residual": False, "bias": False}
        settings["intermediate_size"] = math.ceil(shape["width"] * 8 / 3 / 64) * 64  # as semigpt's
        model = litgpt.GPT(litgpt.Config(vocab_size=vocab_size, **settings))
    model.train()

    def loss_of(inputs: Any, targets: Any) -> Any:
        answer = model(inputs)
        logits = answer.logits if name == "transformers" else answer
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    return model, plain_steps(job, loss_of, torch.optim.AdamW(model.parameters(), lr=TOP_RATE))


def take_turns(job: Table, output: IO[str]) -> None:
    """Warm up, print the model's facts, then train for one turn per line of standard input."""
    model, steps = contestant_steps(job)
    for _ in range(2):
        next(steps)
    tokens = job["shape"]["batch"] * job["shape"]["context"]
    precision = str(getattr(model, "compute_dtype", "float32")).removeprefix("torch.")
    facts = {"parameters": sum(part.numel() for part in model.parameters()), "precision": precision}
    print(json.dumps(facts), file=output, flush=True)
    for _ in sys.stdin:
        begin, done, taken = time.perf_counter(), 0, 0.0
        while taken < job["seconds"]:
            next(steps)
            done, taken = done + 1, time.perf_counter() - begin
        print(json.dumps({"speed": done * tokens / taken}), file=output, flush=True)


def main() -> int:
    job: Table = json.loads(sys.argv[1])
    output, sys.stdout = sys.stdout, sys.stderr
    try:
        if "contestant" in job:
            take_turns(job, output)
        else:
            print(json.dumps(train_nanogpt(job)), file=output)
    except SemigptError as error:
        print(f"contestants.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
