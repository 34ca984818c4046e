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
from semigpt.cli.output import note, write_json
from semigpt.errors import SemigptError, SettingsError
from semigpt.language import N_, _

if TYPE_CHECKING:
    from semigpt.corpus.corpus import Corpus
    from semigpt.evaluation.evaluate import Evaluation
    from semigpt.run_folder import RunFolder

TELL_SEEN = 0.02  # of a text, in the training text, from which it is said

HELP = N_(
    """\
--data takes another text than the one trained on; --split says which of its
splits (default: test).
"""
)


def add(commands: Commands) -> None:
    sub = add_command(
        commands, "evaluate", run, _("measure a model on a whole split, beside baselines"), _(HELP)
    )
    sub.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help=_("a run folder, a model folder, or hf:USER/NAME on the Hub"),
    )
    add_data_flags(sub)
    sub.add_argument(
        "--stride", type=int, help=_("tokens that windows move on by (default: half the context)")
    )
    sub.add_argument(
        "--context",
        type=int,
        metavar="N",
        help=_("tokens that the model sees at most (default: as it was trained; 1,024 of others')"),
    )
    sub.add_argument(
        "--no-xz",
        action="store_true",
        help=_("leave the compressor out: it takes a minute on 50 MB"),
    )
    add_json_flag(sub)
    add_machine_flags(sub)


def run(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from semigpt.cli.console import error_console
    from semigpt.device import pick_device
    from semigpt.evaluation.evaluate import evaluate
    from semigpt.huggingface.open import open_run

    found, model, tokenizer = open_run(options.model, options.context)
    split = options.split or "test"
    corpus, counted_on = texts(options, found, split)
    console = error_console()
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(_("evaluating on {split}").format(split=split), total=None)
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


def texts(
    options: argparse.Namespace, found: RunFolder | None, split: str
) -> tuple[Corpus, Corpus]:
    """The text to measure on, and the one that the model learnt from: the baselines are counted on
    that, whatever is measured.

    Says what is wrong with the first, where it holds what the model was trained on. Raises
    CheckpointError where the text of the run is another than it was.
    """
    from semigpt.config import DataSettings
    from semigpt.corpus.staging import prepare_corpus
    from semigpt.evaluation.overlap import PASSAGE, seen_fraction
    from semigpt.preparation import text_of

    if found is None and options.data is None:
        raise SettingsError(
            _("{model} is a model folder, which does not say its text; give --data").format(
                model=options.model
            )
        )
    other = None
    if options.data is not None:
        other = prepare_corpus(options.data, column=options.column)
    if found is None or (other is not None and other.fingerprint == found.text_fingerprint()):
        assert other is not None
        return other, other
    data = DataSettings(**found.config()["data"])
    try:
        spec = text_of(found, data.spec)
        own = prepare_corpus(spec, column=data.column, split=data.split)
        found.check_text(own.fingerprint)
    except SemigptError as error:
        if other is None:
            raise
        note(
            _(
                "{error}. The baselines are counted on {data} instead, and nobody knows "
                "whether it holds what the model was trained on"
            ).format(error=error, data=options.data)
        )
        return other, other
    if other is None:
        return own, own
    if split in other.splits and (seen := seen_fraction(other, split, own)) >= TELL_SEEN:
        note(
            _(
                "{seen:.0%} of the {split} split, by passages of {passage} "
                "characters, is in the text "
                "that the model was trained on: it is measured on what it has seen"
            ).format(seen=seen, split=split, passage=PASSAGE)
        )
    return other, own


def print_evaluation(result: Evaluation, split: str) -> None:
    """The table a person reads, on standard output."""
    from semigpt.cli.console import output_console
    from semigpt.cli.terminal import bits_table

    console = output_console()
    information = result.information
    mine = _("this model")
    rows = {**dict(result.baselines.named()), mine: information.bits_per_character}
    console.print(
        bits_table(
            _("{split}: {characters:,} characters, {tokens:,} tokens").format(
                split=split, characters=information.characters, tokens=information.tokens
            ),
            _("bits per character"),
            rows,
            mine=mine,
            floor=result.source_entropy,
            digits=4,
        )
    )
    console.print(
        _(
            "loss {loss_nats_per_token:.4f} nats per token, perplexity "
            "{perplexity:.2f}, {bits_per_byte:.4f} bits per byte"
        ).format(
            loss_nats_per_token=information.loss_nats_per_token,
            perplexity=information.perplexity,
            bits_per_byte=information.bits_per_byte,
        )
    )
