"""semigpt evaluate"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from semigpt.cli.flags import (
    Commands,
    add_command,
    add_data_flags,
    add_json_flag,
    add_machine_flags,
)
from semigpt.cli.output import write_json
from semigpt.errors import SettingsError

if TYPE_CHECKING:
    from semigpt.evaluation.evaluate import Evaluation

HELP = """\
--data takes another text than the one trained on; --split says which of its
splits (default: test).
"""


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "evaluate", run, "measure a model on a whole split, beside baselines", HELP
    )
    sub.add_argument("model", type=Path, metavar="RUN", help="a run folder")
    add_data_flags(sub)
    sub.add_argument(
        "--stride", type=int, help="tokens that windows move on by (default: half the context)"
    )
    sub.add_argument(
        "--no-xz",
        action="store_true",
        help="leave the compressor out: it takes a minute on 50 MB",
    )
    add_json_flag(sub)
    add_machine_flags(sub)


def run(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from semigpt.cli.console import error_console
    from semigpt.config import DataSettings
    from semigpt.corpus.staging import prepare_corpus
    from semigpt.device import pick_device
    from semigpt.evaluation.evaluate import evaluate
    from semigpt.huggingface.open import open_run

    found, model, tokenizer = open_run(options.model)
    other = None
    if options.data is not None:
        other = DataSettings(spec=options.data, column=options.column)
    if found is None and other is None:
        raise SettingsError(
            f"{options.model} is a model folder, which does not say its text; give --data"
        )
    data = other if found is None else DataSettings(**found.config()["data"])
    assert data is not None
    split = options.split or "test"
    # The baselines are counted on the text the model learnt from, whatever it is evaluated on.
    counted_on = prepare_corpus(data.spec, column=data.column, split=data.split)
    corpus = counted_on
    if other is not None and found is not None:
        corpus = prepare_corpus(other.spec, column=other.column, split=other.split)
    console = error_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"evaluating on {split}", total=None)
        result = evaluate(
            model.to(pick_device(options.device or "auto")),
            tokenizer,
            corpus,
            split,
            counted_on=counted_on,
            stride=options.stride,
            xz=not options.no_xz,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if options.json:
        write_json(result.as_dict())
    else:
        print_evaluation(result, split)
    return 0


def print_evaluation(result: Evaluation, split: str) -> None:
    """The table a person reads, on standard output."""
    from semigpt.cli.console import output_console
    from semigpt.cli.terminal import bits_table

    console = output_console()
    information = result.information
    rows = {**dict(result.baselines.named()), "this model": information.bits_per_character}
    console.print(
        bits_table(
            f"{split}: {information.characters:,} characters, {information.tokens:,} tokens",
            "bits per character",
            rows,
            mine="this model",
            floor=result.source_entropy,
            digits=4,
        )
    )
    console.print(
        f"loss {information.loss_nats_per_token:.4f} nats per token, perplexity "
        f"{information.perplexity:.2f}, {information.bits_per_byte:.4f} bits per byte"
    )
