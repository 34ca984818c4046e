"""How long the net of a run takes over a text's test split, without loading and baselines.

    python benchmarks/evaluate.py RUN --data SPEC [--tokens 130000] [--repeats 3]

Prints the seconds of each repeat and the information in nats, which depends on no clock. `--tokens`
takes the beginning of the split alone.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from semigpt.corpus.staging import prepare_corpus
from semigpt.dataset import TokenStream, prepare_dataset
from semigpt.evaluation.evaluate import total_information
from semigpt.huggingface.open import open_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--data", required=True, metavar="SPEC")
    parser.add_argument("--tokens", type=int, help="default: all of the split")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    _, model, tokenizer = open_run(options.run)
    corpus = prepare_corpus(options.data)
    stream = prepare_dataset(corpus, tokenizer).stream("test")
    if options.tokens is not None:
        stream = TokenStream([stream.read(0, options.tokens)], 1)
    for _ in range(options.repeats):
        begun = time.perf_counter()
        nats, tokens = total_information(model, stream, begins_with_end_of_text=True)
        seconds = time.perf_counter() - begun
        print(f"{tokens:,} tokens, {seconds:.2f} s, {nats:.6f} nats", flush=True)


if __name__ == "__main__":
    main()
