"""Speed of the tokenizers as ratios measured in one run, and the memory of encoding a stream.

    python benchmarks/compare_tokenizers.py [--json] [--megabytes 18] [--data FOLDER]

The text is the training split of a data set folder with a column `document` (default: film_reviews,
which benchmarks/film_reviews.py makes), read with `datasets`. Compared are:

- character encoding and decoding with the book's comprehensions (한권으로 끝내는 실전 LLM 파인튜닝,
  chapter 2);
- learning 8,000 byte-level BPE tokens with the `tokenizers` library's own trainer and, where they
  are installed (`pip install rustbpe sentencepiece`), with rustbpe, which must learn the same
  tokens, and with sentencepiece, which learns other ones (of characters, not of bytes) and only
  gives an idea;
- BPE encoding on all cores with one core, and with the `tokenizers` library on all cores;
- learning and encoding BPE over whole characters (`char_bpe`) with BPE over bytes.

Contestants take turns, so that other work on the machine slows all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from semigpt.native import tokenize as native
from semigpt.tokenizers import BPETokenizer, CharBPETokenizer, CharTokenizer, load_tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("film_reviews"),
        metavar="FOLDER",
        help="a data set folder",
    )
    parser.add_argument("--megabytes", type=float, default=18)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--part", choices=["encode", "memory"], help=argparse.SUPPRESS)
    parser.add_argument("--tokenizer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.data.exists():
        parser.error(
            f"there is no {options.data}: make it with benchmarks/film_reviews.py, or name another "
            "data set folder with --data"
        )
    if options.part == "memory":
        print(json.dumps(memory(options.tokenizer)))
        return
    if options.part == "encode":
        print(json.dumps(encoding_speed(options.tokenizer, read(options.data, options.megabytes))))
        return

    with tempfile.TemporaryDirectory() as folder:
        CharTokenizer(map(chr, range(0xAC00, 0xD7A4))).save(Path(folder) / "char")
        # First, while this process is small: on Linux a child's peak starts at its parent's.
        results = child("memory", Path(folder) / "char", options)
        documents = read(options.data, options.megabytes)
        results |= {"megabytes": round(size(documents), 1), "cores": os.cpu_count() or 1}
        results |= characters(documents)
        results |= bpe(documents, Path(folder), options)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for name, value in results.items():
            shown = f"{value:,.2f}" if isinstance(value, float) else value
            print(f"{name:42} {shown}")


def read(folder: Path, megabytes: float) -> list[str]:
    """Documents of the training split, until they have that many megabytes of UTF-8."""
    from datasets import load_dataset

    documents: list[str] = []
    left = megabytes * 1e6
    for row in load_dataset(str(folder), split="train", streaming=True):
        documents.append(row["document"])
        left -= len(row["document"].encode())
        if left <= 0:
            break
    return documents


def size(documents: list[str]) -> float:
    """Megabytes of UTF-8."""
    return sum(len(document.encode()) for document in documents) / 1e6


def seconds(function: Callable[[], Any], repeats: int = 5) -> float:
    """The median time of one call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def characters(documents: list[str]) -> dict[str, float]:
    text = "\n".join(documents)
    megabytes = len(text.encode()) / 1e6
    stoi = {character: i for i, character in enumerate(sorted(set(text)))}
    itos = {i: character for character, i in stoi.items()}
    tokenizer = CharTokenizer(text)
    common = sorted(stoi, key=text.count, reverse=True)[: len(stoi) // 2]
    half = CharTokenizer(common)
    ids = tokenizer.encode(text)
    assert ids.tolist() == [stoi[character] for character in text]
    assert tokenizer.decode(ids) == half.decode(half.encode(text)) == text

    numbers = ids.tolist()
    book_encode = seconds(lambda: [stoi[character] for character in text])
    book_decode = seconds(lambda: "".join([itos[i] for i in numbers]))
    encode = seconds(lambda: tokenizer.encode(text))
    decode = seconds(lambda: tokenizer.decode(ids))
    half_ids = half.encode(text)
    return {
        "book, encode MB/s": megabytes / book_encode,
        "char, encode MB/s": megabytes / encode,
        "char, encode, times the book": book_encode / encode,
        "char, encode with rare ones as bytes, times": (
            book_encode / seconds(lambda: half.encode(text))
        ),
        "book, decode MB/s": megabytes / book_decode,
        "char, decode MB/s": megabytes / decode,
        "char, decode, times the book": book_decode / decode,
        "char, decode with rare ones as bytes, times": (
            book_decode / seconds(lambda: half.decode(half_ids))
        ),
    }


CHAR_BPE = "semigpt's char_bpe (other tokens)"

# GPT-2's words (Radford and others 2019), as the `tokenizers` library's ByteLevel splits them.
WORDS = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def trainers_of_bpe(documents: list[str], folder: Path) -> dict[str, Callable[[], Any]]:
    """Every trainer of 8,000 tokens by name; ours ends with the saved tokenizer.json."""
    from tokenizers import Tokenizer as Engine
    from tokenizers import models, pre_tokenizers, trainers

    def theirs() -> None:
        engine = Engine(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        engine.train_from_iterator(
            documents,
            trainers.BpeTrainer(vocab_size=8000, initial_alphabet=alphabet, show_progress=False),
        )

    contestants: dict[str, Callable[[], Any]] = {
        "semigpt": lambda: BPETokenizer.train(documents).save(folder / "bpe"),
        CHAR_BPE: lambda: CharBPETokenizer.train(documents).save(folder / "char_bpe"),
        "tokenizers": theirs,
    }
    if importlib.util.find_spec("rustbpe"):
        import rustbpe

        def by_rustbpe() -> Any:
            engine = rustbpe.Tokenizer()
            engine.train_from_iterator(documents, 7999, pattern=WORDS)
            return engine

        tokenizer = BPETokenizer.train(documents)
        ours = [tokenizer.token_bytes(i) for i in range(7999)]
        theirs_by_rank = [bytes(token) for token, _ in by_rustbpe().get_mergeable_ranks()]
        assert theirs_by_rank == ours, "rustbpe learnt other tokens"
        contestants["rustbpe"] = by_rustbpe
    if importlib.util.find_spec("sentencepiece"):
        import sentencepiece

        lines = [line for document in documents for line in document.split("\n") if line]
        trainer = sentencepiece.SentencePieceTrainer
        contestants["sentencepiece (other tokens)"] = lambda: trainer.train(
            sentence_iterator=iter(lines), model_writer=io.BytesIO(), vocab_size=8000,
            model_type="bpe", byte_fallback=True, character_coverage=1.0, minloglevel=2,
        )  # fmt: skip
    return contestants


def bpe(documents: list[str], folder: Path, options: argparse.Namespace) -> dict[str, float]:
    contestants = trainers_of_bpe(documents, folder)
    for name in ("rustbpe", "sentencepiece"):
        if not any(contestant.startswith(name) for contestant in contestants):
            print(f"left out, not installed: {name}", file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(3):
        for name, train in contestants.items():
            times[name].append(seconds(train, 1))
    took = {name: statistics.median(values) for name, values in times.items()}
    fastest = min(
        value for name, value in took.items() if name != "semigpt" and "other" not in name
    )
    every_core = child("encode", folder / "bpe", options)["MB/s"]
    alone = {"RAYON_NUM_THREADS": "1", "ONE_CORE": "1"}
    one_core = child("encode", folder / "bpe", options, alone)["MB/s"]
    library = child("encode", folder / "bpe", options, {"LIBRARY": "1"})["MB/s"]
    whole_characters = child("encode", folder / "char_bpe", options, alone)["MB/s"]
    return {
        **{f"bpe, train seconds, {name}": value for name, value in took.items()},
        "bpe, train, ours over the fastest other": took["semigpt"] / fastest,
        "bpe, encode MB/s, one core": one_core,
        "bpe, encode MB/s, all cores": every_core,
        "bpe, encode, all cores over one": every_core / one_core,
        "bpe, encode MB/s, all cores, tokenizers": library,
        "bpe, encode, times the tokenizers library": every_core / library,
        "char_bpe, train, times bpe": took["semigpt"] / took[CHAR_BPE],
        "char_bpe, encode MB/s, one core": whole_characters,
        "char_bpe, encode, one core, times bpe": whole_characters / one_core,
    }


def child(
    part: str,
    tokenizer: Path,
    options: argparse.Namespace,
    environment: dict[str, str] | None = None,
) -> dict[str, float]:
    """One part in a process of its own: threads of the library and peak memory are per process."""
    command = [sys.executable, __file__, "--part", part, "--tokenizer", str(tokenizer)]
    command += ["--data", str(options.data), "--megabytes", str(options.megabytes)]
    done = subprocess.run(
        command, env=os.environ | (environment or {}), capture_output=True, text=True, check=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def encoding_speed(folder: Path, documents: list[str]) -> dict[str, float]:
    tokenizer = load_tokenizer(folder)
    if "LIBRARY" in os.environ:
        native.available = lambda: False
    if "ONE_CORE" in os.environ and hasattr(os, "sched_setaffinity"):
        # One thread of the library is not one core: Python's side would run beside it on another.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    def encode() -> None:
        for _ in tokenizer.encode_documents(documents):
            pass

    return {"MB/s": size(documents) / seconds(encode, 3)}


def memory(folder: Path) -> dict[str, float]:
    """Growth of the process's peak while 100 MB of generated text are written to a file as ids."""
    tokenizer = load_tokenizer(folder)
    assert isinstance(tokenizer, CharTokenizer)
    pool = "".join(tokenizer.characters)
    megabytes = 0.0

    def stream() -> Iterator[str]:
        nonlocal megabytes
        while megabytes < 100:
            document = "".join(random.choices(pool, k=2000))
            megabytes += len(document.encode()) / 1e6
            yield document

    def peak() -> float:
        return (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * (1 if sys.platform == "darwin" else 1024)
            / 1e6
        )

    before = peak()
    with tempfile.TemporaryFile() as file:
        for ids in tokenizer.encode_documents(stream()):
            file.write(ids.tobytes())
    return {"char, 100 MB of text, memory MB": peak() - before, "char, loaded, memory MB": before}


if __name__ == "__main__":
    main()
