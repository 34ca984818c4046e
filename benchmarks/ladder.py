"""How many times as fast a step of the ladder's bigram and blocks is as one of the book's own loop.

    python benchmarks/ladder.py [--data SPEC] [--threads N] [--json]

The book is 한권으로 끝내는 실전 LLM 파인튜닝, chapter 2. Its loop is re-written here from its
description: a batch stacked block by block, one nn.Linear per head for each of query, key and value
and a Python loop over the heads, cross-entropy of all logits, torch.optim.AdamW at its defaults.
Both sides train on the same text at the book's size (batch 32, context 8, width 32, 4 layers of 4
heads, dropout 0.1 on every branch). Ours is what `semigpt ladder --book` runs: batch, update and
report. Rounds of the two alternate, so that other work on the machine slows both, and the medians
of all steps are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semigpt.dataset import Dataset
from semigpt.preparation import prepare
from semigpt.storage import run_to_end
from semigpt.studies.ladder import LadderSettings, rung_recipe
from semigpt.training.optimizer import Optimizer
from semigpt.training.progress import Progress
from semigpt.training.trainer import training_steps

BATCH, CONTEXT, WIDTH, HEADS, LAYERS, DROPOUT = 32, 8, 32, 4, 4, 0.1


class BookBigram(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.table(inputs)


class BookHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(WIDTH, WIDTH // HEADS, bias=False)
        self.query = nn.Linear(WIDTH, WIDTH // HEADS, bias=False)
        self.value = nn.Linear(WIDTH, WIDTH // HEADS, bias=False)
        self.register_buffer("tril", torch.tril(torch.ones(CONTEXT, CONTEXT)))

    def forward(self, x: Tensor) -> Tensor:
        T, C = x.shape[1:]
        k, q = self.key(x), self.query(x)
        weights = q @ k.transpose(-2, -1) * C**-0.5
        weights = weights.masked_fill(self.tril[:T, :T] == 0, float("-inf"))
        return F.softmax(weights, dim=-1) @ self.value(x)


class BookBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(BookHead() for _ in range(HEADS))
        self.projection, self.dropout = nn.Linear(WIDTH, WIDTH), nn.Dropout(DROPOUT)
        self.network = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.ReLU(), nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(DROPOUT)
        )
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm_1(x)
        x = x + self.dropout(
            self.projection(torch.cat([head(normed) for head in self.heads], dim=-1))
        )
        return x + self.network(self.norm_2(x))


class BookBlocks(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab_size, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.Sequential(*(BookBlock() for _ in range(LAYERS)))
        self.norm, self.output = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, vocab_size)

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.tokens(inputs) + self.positions(torch.arange(inputs.shape[1]))
        return self.output(self.norm(self.blocks(x)))


def book_steps(model: nn.Module, text: Tensor) -> Iterator[None]:
    """The book's loop, one step at a time."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    while True:
        starts = torch.randint(len(text) - CONTEXT, (BATCH,))
        inputs = torch.stack([text[start : start + CONTEXT] for start in starts])
        targets = torch.stack([text[start + 1 : start + CONTEXT + 1] for start in starts])
        logits = model(inputs)
        loss = F.cross_entropy(logits.view(BATCH * CONTEXT, -1), targets.view(BATCH * CONTEXT))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        yield


def our_steps(rung: str, data: dict[str, Any]) -> tuple[Dataset, Iterator[object]]:
    """The rung as `semigpt ladder --book` trains it: its text, and its loop."""
    settings = LadderSettings(
        rungs=(rung,), steps=10**9, book=True, data=data, machine={}, sample={}
    )
    recipe, (_, _, dataset) = run_to_end(prepare(rung_recipe(settings, rung)))
    model = recipe.build_model()
    optimizer = Optimizer(model, recipe.optimizer)
    return dataset, training_steps(model, dataset, optimizer, recipe.training, Progress())


def compare(
    first: Callable[[], object], second: Callable[[], object], seconds: float
) -> tuple[float, float]:
    """The median milliseconds of each, called in alternating rounds of half a second."""
    times: tuple[list[float], list[float]] = ([], [])
    for step in (first, second):
        for _ in range(5):
            step()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for step, taken in zip((first, second), times, strict=True):
            round_end = time.perf_counter() + 0.5
            while (begin := time.perf_counter()) < round_end:
                step()
                taken.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times[0]), 1000 * statistics.median(times[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="news", metavar="SPEC", help="the text (default: news)")
    parser.add_argument("--threads", type=int, help="of torch, for both sides (default: torch's)")
    parser.add_argument("--seconds", type=float, default=12.0, help="per comparison (default: 12)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    result: dict[str, Any] = {
        "data": options.data,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    for rung, book in (("bigram", BookBigram), ("blocks", BookBlocks)):
        dataset, ours = our_steps(rung, {"spec": options.data})
        stream = dataset.stream("train")
        text = torch.from_numpy(stream.read(0, len(stream)).astype("int64"))
        theirs = book_steps(book(dataset.vocab_size), text)
        result["vocab_size"] = dataset.vocab_size
        book_ms, our_ms = compare(
            lambda it=theirs: next(it), lambda it=ours: next(it), options.seconds
        )
        result[rung] = {
            "book_ms_per_step": round(book_ms, 3),
            "ms_per_step": round(our_ms, 3),
            "ratio": round(book_ms / our_ms, 2),
            "characters_per_second": round(BATCH * CONTEXT / our_ms * 1000),
        }
        if not options.json:
            print(
                f"{rung:8} the book's {book_ms:7.2f} ms per step, ours {our_ms:6.2f}: "
                f"{book_ms / our_ms:.1f} x"
            )
    if options.json:
        print(json.dumps(result))
    else:
        print(
            f"{options.data}, {result['vocab_size']:,} tokens, {result['threads']} threads, "
            f"torch {torch.__version__}"
        )


if __name__ == "__main__":
    main()
