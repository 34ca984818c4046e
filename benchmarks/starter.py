"""Make the starter: the model that `semigpt train --from starter` begins from.

    semigpt train --data REVIEWS --from none --size tiny --tokenizer char_bpe --vocab-size 8000 \
        --steps 1765 --set training.batch_size=48 --set machine.threads=1 --out runs/starter
    python benchmarks/starter.py runs/starter

REVIEWS is the folder that benchmarks/film_reviews.py makes. A training that was stopped is resumed
like any run: `semigpt train --resume runs/starter`.

This script rounds the best weights to bfloat16, measures what they lose by that and how often they
swear, and writes the folder with its card into the package.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from semigpt.corpus.corpus import Corpus
from semigpt.corpus.staging import prepare_corpus
from semigpt.dataset import prepare_dataset
from semigpt.evaluation.evaluate import estimate_loss
from semigpt.evaluation.information import bits
from semigpt.generation.engine import generate_text
from semigpt.huggingface.folder import load_model
from semigpt.huggingface.integrity import with_digests
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.start import STARTER_FOLDER
from semigpt.storage import replace_file
from semigpt.tokenizers import load_tokenizer
from semigpt.tokenizers.base import Tokenizer

LARGEST = 8_000_000  # bytes of the whole folder
# A review swears where it holds one of these, in any spelling that the source has often.
SWEAR_WORDS = (
    "씨발",
    "시발",
    "씨바",
    "ㅅㅂ",
    "병신",
    "ㅂㅅ",
    "새끼",
    "지랄",
    "존나",
    "좆",
    "미친놈",
)


def swearing(reviews: list[str]) -> float:
    """How many of 1,000 reviews hold a swear word."""
    return (
        1000 * sum(any(word in review for word in SWEAR_WORDS) for review in reviews) / len(reviews)
    )


def written_reviews(model: LanguageModel, tokenizer: Tokenizer, count: int) -> list[str]:
    """So many whole reviews as the model writes them, a line each."""
    reviews: list[str] = []
    seed = 0
    while len(reviews) < count:
        for text in generate_text(model, tokenizer, num_samples=16, max_new_tokens=400, seed=seed):
            lines = [line for line in text.split("\n")[:-1] if line.strip()]
            reviews += lines
        seed += 1
    return reviews[:count]


def source_reviews(corpus: Corpus) -> list[str]:
    """The reviews of the validation split, a line each."""
    return [line for text in corpus.documents("validation") for line in text.split("\n") if line]


def bits_per_character(model: LanguageModel, tokenizer: Tokenizer, corpus: Corpus) -> float:
    stream = prepare_dataset(corpus, tokenizer).stream("validation")
    context = model.settings.context_length
    estimate = estimate_loss(model, stream, context_length=context, blocks=256)
    return bits(estimate.loss) * len(stream) / corpus.characters("validation")


def pack(source: Path, to: Path, card: str) -> None:
    """Write a model folder with its weights in bfloat16."""
    from safetensors.torch import load_file, save

    to.mkdir(parents=True, exist_ok=True)
    for name in ("generation_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, to / name)
    config = (source / "config.json").read_text("utf-8").replace('"float32"', '"bfloat16"')
    replace_file(to / "config.json", config.encode())
    replace_file(to / "README.md", card.encode())
    weights = {name: t.bfloat16() for name, t in load_file(source / "model.safetensors").items()}
    content = with_digests(save(weights, metadata={"format": "pt"}), to, {})
    replace_file(to / "model.safetensors", content)


def card_of(facts: dict[str, str]) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        "---\nlanguage: ko\nlicense: cc0-1.0\nlibrary_name: transformers\n"
        "pipeline_tag: text-generation\ntags:\n- semigpt\n- korean\n---\n\n"
        "# The starter of semigpt\n\n"
        "A small GPT of Korean film reviews, to begin from: `semigpt train --from starter --data "
        "글.txt`.\nMade by `benchmarks/starter.py`, which says how.\n\n"
        f"| | |\n|---|---|\n{rows}\n\n"
        "## Limits\n\nIt writes like people who review films on the web, and swears at times. "
        "It knows no facts.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="the run folder of the training")
    parser.add_argument("--data", help="its text, where that has moved")
    parser.add_argument("--out", type=Path, default=STARTER_FOLDER)
    parser.add_argument(
        "--reviews", type=int, default=1000, help="how many are written and counted"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder.open(options.run)
    corpus = prepare_corpus(options.data or run.config()["data"]["spec"])
    tokenizer = load_tokenizer(run.model_folder)
    whole = load_model(run.model_folder)
    pack(run.model_folder, options.out, card_of({}))
    packed = load_model(options.out)
    before, after = (bits_per_character(m, tokenizer, corpus) for m in (whole, packed))
    reviews = source_reviews(corpus)
    written = swearing(written_reviews(packed, tokenizer, options.reviews))
    metrics = run.rows("metrics")
    best = min((row for row in metrics if "val_loss" in row), key=lambda row: row["val_loss"])
    baselines = run.metadata().get("baselines") or {}
    facts = {
        "parameters": f"{packed.parameter_count():,}, in bfloat16",
        "context length": f"{packed.settings.context_length} tokens",
        "tokenizer": f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens",
        "text": f"Naver sentiment movie corpus (e9t/nsmc), CC0 1.0, "
        f"{corpus.characters('train'):,} characters",
        "trained for": f"{best['step']:,} steps, {best['tokens_seen']:,} tokens",
        "bits per character on unseen reviews": f"{after:.3f} ({before:.3f} before rounding; "
        f"{baselines.get('kneser_ney_5', float('nan')):.3f} by a 5-gram of characters)",
        "swearing": f"{written:.1f} of 1,000 reviews that it writes hold one of "
        f"{len(SWEAR_WORDS)} common swear words, {swearing(reviews):.1f} of 1,000 in its source",
        "licence": "CC0 1.0, as its text; the weights are given away in the same way",
    }
    pack(run.model_folder, options.out, card_of(facts))
    size = sum(path.stat().st_size for path in options.out.iterdir())
    for name, value in facts.items():
        print(f"{name}: {value}")
    print(f"{options.out}: {size:,} bytes")
    if size > LARGEST:
        raise SystemExit(f"larger than {LARGEST:,} bytes")


if __name__ == "__main__":
    main()
