"""What a model learns of a new text, and forgets of its old one: rates, LoRA, old text mixed in.

    python benchmarks/continuing.py forgetting film_reviews news_sentences
    python benchmarks/continuing.py rates film_reviews news_sentences

film_reviews is the folder that benchmarks/film_reviews.py makes; news_sentences holds dev.txt and
test.txt of Park, Hong and Cha 2016, a sentence a line. A small `gpt` learns 1.5 million characters
of reviews, then goes on with 2,000 news sentences; both texts' bits per character are told, on
800 other sentences and on 60,000 characters of other reviews. `forgetting` mixes old reviews into
the new text. `rates` tries AdamW's rate for all weights and for LoRA, in three widths.

Everything is kept in --work: what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from semigpt.config import Recipe
from semigpt.corpus.corpus import Corpus
from semigpt.corpus.staging import prepare_corpus
from semigpt.dataset import prepare_dataset
from semigpt.evaluation.evaluate import total_information
from semigpt.huggingface.open import open_run
from semigpt.recipe import train
from semigpt.run_folder import RunFolder

OLD_CHARACTERS, OLD_TEST = 1_500_000, 60_000
OLD_STEPS, NEW_STEPS = 1000, 120
LAYERS = {32: 2, 64: 2, 128: 4}  # by width
RATES = (3e-5, 3e-4, 1e-3, 3e-3, 1e-2)
LORA_RATES = (1e-3, 3e-3, 1e-2, 3e-2)
RANKS = (2, 8, 32)


def write(file: Path, texts: Iterable[str]) -> int:
    """A file of documents; how many characters they have."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    file.write_text("".join(lines), encoding="utf-8")
    return sum(len(json.loads(line)["text"]) for line in lines)


def first(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Lines of documents, so many characters of them."""
    for line in (line for text in texts for line in text.splitlines()):
        if characters <= 0:
            return
        characters -= len(line)
        yield line


def make_texts(work: Path, reviews: Corpus, news: Path) -> None:
    """old/ and new/, each with three splits; other reviews, to be mixed in."""
    lines = first(reviews.documents("train"), 10 * OLD_CHARACTERS)
    write(work / "old" / "train.jsonl", first(lines, OLD_CHARACTERS))
    sentences = (news / "test.txt").read_text("utf-8").splitlines()
    new = write(work / "new" / "train.jsonl", sentences)
    for fraction in (10, 4, 2):
        more = list(first(lines, new // (fraction - 1)))
        write(work / f"new-{fraction}" / "train.jsonl", [*sentences, *more])
    held = (news / "dev.txt").read_text("utf-8").splitlines()
    for folder in (work / name for name in ("new", "new-10", "new-4", "new-2")):
        write(folder / "validation.jsonl", held[:200])
        write(folder / "test.jsonl", held[200:])
    for split in ("validation", "test"):
        write(work / "old" / f"{split}.jsonl", first(reviews.documents(split), OLD_TEST))


def trained(folder: Path, tables: dict[str, dict[str, Any]]) -> Path:
    """The run folder of a recipe, trained unless it was."""
    if folder.is_dir() and RunFolder.open(folder).metadata().get("complete"):
        return folder
    every = {"eval_blocks": 32, "seed": 0, "teacher": "none", "batch_size": 16}
    training = {**every, **tables.get("training", {})}
    machine = {"threads": torch.get_num_threads()}
    whole = {**tables, "training": training, "machine": machine, "sample": {"max_new_tokens": 0}}
    for _ in train(Recipe.from_tables(whole), folder):
        pass
    return folder


def old_net(work: Path, width: int) -> Path:
    """A `gpt` of the old text."""
    shape = {"width": width, "num_layers": LAYERS[width], "num_heads": 2, "context_length": 64}
    tables = {
        "data": {"spec": str(work / "old")},
        "tokenizer": {"kind": "char", "min_count": 3},
        "model": {"kind": "gpt", "dropout": 0.0, **shape},
        "training": {"steps": OLD_STEPS},
    }
    return trained(work / f"net-{width}", tables)


def continued(
    work: Path, width: int, name: str, text: str = "new", steps: int = NEW_STEPS, **settings: Any
) -> Path:
    """The net of a width, trained further on a text."""
    start = {"folder": str(old_net(work, width))}
    start |= {key: settings.pop(key) for key in ("lora",) if key in settings}
    tables = {
        "data": {"spec": str(work / text)},
        "start": start,
        "training": {"steps": steps},
        "optimizer": settings,
    }
    return trained(work / f"{name}-{width}", tables)


def tell(work: Path, run: Path, *cells: str) -> None:
    """A row of Markdown: what was done, and bits per character of the new and of the old text."""
    _, model, tokenizer = open_run(run)
    bits = []
    for name in ("new", "old"):
        corpus = prepare_corpus(str(work / name))
        stream = prepare_dataset(corpus, tokenizer).stream("test")
        nats, _ = total_information(model, stream, begins_with_end_of_text=True)
        bits.append(f"{nats / math.log(2) / corpus.characters('test'):.3f}")
    print("|", " | ".join([*cells, *bits]), "|", flush=True)


def forgetting(work: Path, widths: list[int]) -> None:
    print("| width | | steps | new text | old text |\n|---|---|---|---|---|")
    for width in widths:
        tell(work, old_net(work, width), str(width), "before", "")
        plans: dict[str, tuple[str, int, dict[str, Any]]] = {
            "new text alone": ("new", NEW_STEPS, {}),
            "a tenth of the characters old": ("new-10", NEW_STEPS * 10 // 9, {}),
            "a quarter": ("new-4", NEW_STEPS * 4 // 3, {}),
            "half": ("new-2", NEW_STEPS * 2, {}),
            "new text alone, rates x 0.1": (
                "new",
                NEW_STEPS,
                {"learning_rate": 6e-4, "muon_learning_rate": 1.5e-3},
            ),
        }
        for number, (what, (text, steps, settings)) in enumerate(plans.items()):
            run = continued(work, width, f"mixed{number}", text, steps, **settings)
            tell(work, run, str(width), what, str(steps))


def rates(work: Path, widths: list[int]) -> None:
    print("| width | trained | rate | new text | old text |\n|---|---|---|---|---|")
    adamw = {"optimizer": "adamw", "weight_decay": 0.0}
    for width in widths:
        tell(work, old_net(work, width), str(width), "before", "")
        for rate in RATES:
            run = continued(work, width, f"all-{rate:g}", learning_rate=rate, **adamw)
            tell(work, run, str(width), "all weights", f"{rate:g}")
        for rank in RANKS if width == 64 else RANKS[1:2]:
            for rate in LORA_RATES if rank == 8 else LORA_RATES[1:3]:
                name = f"lora{rank}-{rate:g}"
                run = continued(work, width, name, learning_rate=rate, lora=rank, **adamw)
                tell(work, run, str(width), f"LoRA of rank {rank}", f"{rate:g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study", choices=("forgetting", "rates"))
    parser.add_argument("reviews", help="film_reviews")
    parser.add_argument("news", type=Path, help="news_sentences")
    parser.add_argument("--widths", type=int, nargs="+", choices=LAYERS)
    parser.add_argument("--work", type=Path, default=Path("continuing"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not (options.work / "old").is_dir():
        make_texts(options.work, prepare_corpus(options.reviews), options.news)
    if options.study == "forgetting":
        forgetting(options.work, options.widths or [64])
    else:
        rates(options.work, options.widths or list(LAYERS))


if __name__ == "__main__":
    main()
