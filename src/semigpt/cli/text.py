"""semigpt text check and semigpt text clean: the text doctor"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.cli.flags import Commands, Parser, Specs, add_command, add_group, add_json_flag
from semigpt.cli.output import note, terminating, write_json
from semigpt.errors import SettingsError
from semigpt.language import _

if TYPE_CHECKING:
    from semigpt.corpus.corpus import Corpus


def add(commands: Commands) -> None:
    verbs = add_group(
        commands, "text", _("the text doctor: find what is wrong with a text, and repair it")
    )
    sub = add_command(
        verbs,
        "check",
        run_check,
        _("count what is wrong with a text, with examples; nothing is written"),
    )
    _add_flags(sub)
    sub = add_command(
        verbs,
        "clean",
        run_clean,
        _("write a text repaired: lossless repairs, and those asked for"),
    )
    _add_flags(sub)
    sub.add_argument(
        "--out", type=Path, metavar="FOLDER", required=True, help=_("a new folder of Parquet files")
    )
    sub.add_argument(
        "--fix",
        metavar="NAMES",
        default="lossless",
        help=_("lossless (default), all, or names from the report: html,control"),
    )
    sub.add_argument(
        "--mask-personal",
        action="store_true",
        help=_("put [전화번호] and the like over personal data"),
    )

    sub = add_command(
        verbs,
        "stage",
        run_stage,
        _("read a text into the cache, where every command finds it: a large one in parts"),
    )
    _add_source(sub)
    sub.add_argument("--split", default="auto", help=_("auto, or offset:F, such as offset:0.9"))
    sub.add_argument(
        "--tokenizer",
        metavar="KIND",
        help=_("write its tokens too, as train with this --tokenizer finds them"),
    )
    sub.add_argument(
        "--vocab-size", type=int, metavar="N", help=_("of that tokenizer, as train has it")
    )
    add_json_flag(sub, _("print what was staged as one JSON object"))


def _add_source(parser: Parser) -> None:
    parser.add_argument(
        "spec", metavar="SPEC", nargs="+", action=Specs, help=_("the text, as --data names it")
    )
    parser.add_argument("--column", help=_("the column that holds it"))
    parser.add_argument(
        "--workers", type=int, metavar="N", help=_("processes (default: one per core)")
    )


def _add_flags(parser: Parser) -> None:
    _add_source(parser)
    parser.add_argument(
        "--squeeze", type=int, metavar="N", help=_("at most N of a character in a row: ㅋㅋㅋㅋㅋ")
    )
    parser.add_argument(
        "--min-characters", type=int, metavar="N", help=_("leave out documents of fewer characters")
    )
    parser.add_argument(
        "--near-duplicates",
        type=float,
        metavar="FRACTION",
        help=_("leave out documents this much like an earlier one: 0.8"),
    )
    add_json_flag(parser, _("print the report as one JSON object"))


def run_check(options: argparse.Namespace) -> int:
    from semigpt.corpus.doctor.run import check

    with _reading() as progress:
        report = check(options.spec, **_settings(options), progress=progress)
    return _print_report(options, report)


def run_clean(options: argparse.Namespace) -> int:
    from semigpt.corpus.doctor.run import clean, selected_fixes

    with _reading() as progress:
        report = clean(
            options.spec,
            options.out,
            **_settings(options),
            fixes=selected_fixes(options.fix),
            mask_personal=options.mask_personal,
            progress=progress,
            command=shlex.join(["semigpt", *options.arguments]),
        )
    return _print_report(options, report)


def run_stage(options: argparse.Namespace) -> int:
    from semigpt.corpus.staging import prepare_corpus

    if options.vocab_size is not None and options.tokenizer is None:
        raise SettingsError(_("--vocab-size is of --tokenizer; name one"))
    with _reading() as progress:
        corpus = prepare_corpus(
            options.spec,
            column=options.column,
            split=options.split,
            workers=options.workers,
            progress=progress,
        )
    if options.tokenizer is not None:
        _write_tokens(options, corpus)
    if options.json:
        counts = {name: corpus.characters(name) for name in corpus.splits}
        told = {"folder": str(corpus.folder), "fingerprint": corpus.fingerprint}
        write_json({**told, "characters": counts, "findings": corpus.findings})
        return 0
    print(corpus.folder)
    for finding in corpus.findings:
        note(finding)
    return 0


def _write_tokens(options: argparse.Namespace, corpus: Corpus) -> None:
    from semigpt.cli.console import error_console
    from semigpt.config import TokenizerSettings
    from semigpt.dataset import tokenize
    from semigpt.preparation import prepare_tokenizer

    is_folder = Path(options.tokenizer).is_dir()
    named: dict[str, Any] = {"folder" if is_folder else "kind": options.tokenizer}
    settings = TokenizerSettings(**named, vocab_size=options.vocab_size)
    with terminating(), error_console().status(_("learning a tokenizer")) as status:
        tokenizer = prepare_tokenizer(settings, corpus)
        for progress in tokenize(corpus, tokenizer, workers=options.workers):
            status.update(_("writing {tokens:,} tokens").format(tokens=progress.tokens))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("column", "squeeze", "min_characters", "near_duplicates", "workers")
    return {name: getattr(options, name) for name in names}


@contextlib.contextmanager
def _reading() -> Iterator[Callable[[int, int], None]]:
    from semigpt.cli.console import error_console

    with terminating(), error_console().status(_("reading")) as status:
        yield lambda documents, characters: status.update(
            _("reading: {documents:,} documents, {characters:,} characters").format(
                documents=documents, characters=characters
            )
        )


def _print_report(options: argparse.Namespace, report: Any) -> int:
    if options.json:
        write_json(report.as_dict())
        return 0
    from semigpt.cli.console import output_console

    # A pipe has no width: what is read there should not be cut at 80 columns.
    width = None if sys.stdout.isatty() else 160
    output_console(markup=False, width=width).print(report.table())
    return 0
