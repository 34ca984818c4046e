"""semigpt tokenizer train, show and compare"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from semigpt.cli.flags import (
    Commands,
    Parser,
    add_command,
    add_data_flags,
    add_group,
    add_json_flag,
    add_machine_flags,
    asked_for,
)
from semigpt.cli.output import RUNS, note, reading, stopping, write, write_json, write_path
from semigpt.errors import SettingsError, TokenizerError
from semigpt.language import N_, _

if TYPE_CHECKING:
    from semigpt.corpus.corpus import Corpus
    from semigpt.studies.tokenizers import Comparison
    from semigpt.tokenizers import Kind, Tokenizer

COMPARE_HELP = N_(
    """\
With --minutes (or --steps) the same model is trained on each kind for the same
time and measured in bits per character, the one measure that is fair between
tokenizers; the runs and a page with their curves go to --out (default: in
runs/).
"""
)


def add(commands: Commands) -> None:
    verbs = add_group(commands, "tokenizer", _("train, show or compare tokenizers"))
    _add_train(verbs)
    _add_show(verbs)
    _add_compare(verbs)


def _add_train(verbs: Commands) -> None:
    sub = add_command(
        verbs, "train", run_train, _("train a tokenizer and save it in a folder of its own")
    )
    sub.add_argument(
        "--kind", default="char", help=_("char (default), byte, jamo, bpe, char_bpe or unigram")
    )
    add_data_flags(sub)
    _add_vocab_size(
        sub, _("tokens in all (default: every character; 8,000 for bpe, char_bpe and unigram)")
    )
    sub.add_argument(
        "--min-count",
        type=int,
        metavar="N",
        help=_("rarer characters (for bpe and char_bpe, pairs) are spelt in bytes (default: 1)"),
    )
    sub.add_argument(
        "--special",
        action="append",
        default=[],
        metavar="TOKEN",
        help=_("a special token, such as <|user|>; may be given again"),
    )
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help=_("a new folder, which AutoTokenizer loads"),
    )
    add_json_flag(sub)


def _add_show(verbs: Commands) -> None:
    sub = add_command(
        verbs, "show", run_show, _("show the tokens of a text, with their ids and bytes")
    )
    sub.add_argument("text", metavar="TEXT", help=_("any text"))
    sub.add_argument(
        "--tokenizer",
        action="append",
        metavar="NAME",
        help=_(
            "a tokenizer's folder, a run folder, or char (default), byte, jamo, bpe, char_bpe "
            "or unigram, trained on --data; may be given again"
        ),
    )
    add_data_flags(sub)
    add_json_flag(sub)


def _add_compare(verbs: Commands) -> None:
    sub = add_command(
        verbs,
        "compare",
        run_compare,
        _("measure every kind of tokenizer on a text"),
        _(COMPARE_HELP),
    )
    add_data_flags(sub)
    sub.add_argument(
        "--kinds",
        nargs="+",
        metavar="KIND",
        help=_("some of char, byte, jamo, bpe, char_bpe and unigram (default: all)"),
    )
    _add_vocab_size(
        sub,
        _("tokens in all, at most (default: every character; 8,000 for bpe, char_bpe and unigram)"),
    )
    sub.add_argument(
        "--minutes", type=float, help=_("also train a model on each kind, for so many minutes")
    )
    sub.add_argument(
        "--steps", type=int, help=_("also train a model on each kind, for so many steps")
    )
    sub.add_argument("--size", help=_("of those models: tiny (default), small, base or large"))
    sub.add_argument("--seed", type=int, help=_("of those models (default: 0)"))
    add_machine_flags(sub)
    sub.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help=_("a new folder for compare.html, .md, .json and the runs"),
    )
    add_json_flag(sub)


def _add_vocab_size(parser: Parser, help: str) -> None:
    parser.add_argument("--vocab-size", type=int, metavar="N", help=help)


def _corpus(options: argparse.Namespace) -> Corpus:
    """The corpus that --data names, the bundled one by default."""
    from semigpt.corpus.staging import prepare_corpus

    with reading() as progress:
        return prepare_corpus(
            options.data or "news",
            column=options.column,
            split=options.split or "auto",
            progress=progress,
        )


def run_train(options: argparse.Namespace) -> int:
    from semigpt.studies.tokenizers import check_free

    check_free(options.out)
    corpus = _corpus(options)
    tokenizer = train_into(
        options.out,
        options.kind,
        corpus,
        vocab_size=options.vocab_size,
        min_count=options.min_count,
        special_tokens=options.special,
    )
    for finding in corpus.findings:
        note(finding)
    characters = corpus.characters("train")
    note(
        _("{kind}: {vocab_size:,} tokens from {characters:,} characters of {spec}").format(
            kind=tokenizer.kind,
            vocab_size=tokenizer.vocab_size,
            characters=characters,
            spec=corpus.spec,
        )
    )
    if options.json:
        write_json(
            {
                "folder": str(options.out),
                "kind": tokenizer.kind,
                "vocab_size": tokenizer.vocab_size,
                "normalization": tokenizer.normalization,
                "special_tokens": dict(tokenizer.special_tokens),
                "fingerprint": tokenizer.fingerprint,
            }
        )
    else:
        write_path(options.out)
    return 0


def train_into(
    folder: Path,
    kind: Kind,
    corpus: Corpus,
    *,
    vocab_size: int | None = None,
    min_count: int | None = None,
    special_tokens: Sequence[str] = (),
) -> Tokenizer:
    """Train a tokenizer on the training split and save it in `folder`, which appears whole or not
    at all.

    Raises SettingsError for a setting that cannot work or that `kind` has no use for,
    TokenizerError for a vocabulary too small for the alphabet and for a folder that is there
    already or cannot be written.
    """
    import tempfile

    from semigpt.settings import check_choice
    from semigpt.studies.tokenizers import check_free
    from semigpt.tokenizers import Kind, train_tokenizer

    check_choice("--kind", kind, get_args(Kind))
    for flag, value in (("--vocab-size", vocab_size), ("--min-count", min_count)):
        if value is not None and value < 1:
            raise SettingsError(
                _("{flag} must be more than 0, not {value}").format(flag=flag, value=value)
            )
    if min_count is not None and kind in ("byte", "unigram"):
        raise SettingsError(
            _(
                "--min-count means nothing to {kind}; leave it out, or choose char, jamo, bpe or "
                "char_bpe"
            ).format(kind=kind)
        )
    check_free(folder)
    tokenizer = train_tokenizer(
        kind,
        corpus.documents("train"),
        vocab_size=vocab_size,
        min_count=min_count or 1,
        normalization="NFC",
        special_tokens=special_tokens,
    )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            tokenizer.save(Path(temporary) / "whole")
            (Path(temporary) / "whole").rename(folder)
    except OSError as error:
        raise TokenizerError(
            _("cannot save the tokenizer in {folder}: {reason}").format(
                folder=folder, reason=error.strerror or error
            )
        ) from None
    return tokenizer


def run_show(options: argparse.Namespace) -> int:
    from semigpt.cli.console import output_console
    from semigpt.cli.token_table import find_tokenizer, print_tokens, tokens_of

    names = options.tokenizer or ["char"]
    found = {name: find_tokenizer(name, lambda: _corpus(options)) for name in names}
    shown: list[dict[str, Any]] = []
    for name, tokenizer in found.items():
        tokens = tokens_of(tokenizer, options.text)
        # Of the text as the tokenizer reads it: composed, where it composes.
        characters = len(tokenizer.decode(token.id for token in tokens))
        ratio = characters / len(tokens) if tokens else None
        if options.json:
            shown.append(
                {
                    "tokenizer": name,
                    "kind": tokenizer.kind,
                    "vocab_size": tokenizer.vocab_size,
                    "count": len(tokens),
                    "characters_per_token": ratio,
                    "tokens": [
                        {"id": token.id, "text": token.text, "bytes": token.bytes.hex()}
                        for token in tokens
                    ],
                }
            )
            continue
        line = _("{name}: {tokens:,} tokens for {characters:,} characters").format(
            name=name, tokens=len(tokens), characters=characters
        )
        if ratio is not None:
            line = _("{line}, {ratio:.2f} characters per token").format(line=line, ratio=ratio)
        write(f"{line}\n\n")
        print_tokens(output_console(), tokens)
    if options.json:
        write_json({"text": options.text, "tokenizers": shown})
    return 0


def run_compare(options: argparse.Namespace) -> int:
    from semigpt.run_folder import RunFolder
    from semigpt.studies.tokenizers import compare

    training = asked_for(options, "minutes", "steps")
    for flag, value in (("--size", options.size), ("--seed", options.seed)):
        if value is not None and not training:
            raise SettingsError(
                _("{flag} is of the models; give --minutes too, or leave it out").format(flag=flag)
            )
    data = asked_for(options, "data", "column", "split")
    tables: dict[str, dict[str, Any]] = {
        "data": {{"data": "spec"}.get(name, name): value for name, value in data.items()},
        "tokenizer": asked_for(options, "vocab_size"),
        "model": {"size": options.size or "tiny"},
        "training": {**training, **asked_for(options, "seed")},
        "machine": asked_for(options, "device", "precision"),
    }
    out = options.out
    kinds = {"kinds": options.kinds} if options.kinds else {}
    with contextlib.ExitStack() as held, _stopping(bool(training)) as stop, reading() as progress:
        if training and out is None:
            out = held.enter_context(RunFolder.claimed(RUNS / "tokenizers"))
        comparisons = compare(
            tables,
            **kinds,
            out=out,
            stop=lambda: stop[0] is not None,
            say=note,
            progress=progress,
        )
        rows = list(comparisons)  # each holds a row more than the one before
    if rows and options.json:
        write_json(rows[-1].as_dict())
    elif rows:
        print_comparison(rows[-1])
        if out is not None:
            write_path(out)
    return 0 if stop[0] is None else 128 + stop[0]


@contextlib.contextmanager
def _stopping(trains: bool) -> Iterator[list[int | None]]:
    """As `stopping` where something is trained, and so to be saved."""
    if trains:
        with stopping() as stop:
            yield stop
    else:
        yield [None]


def print_comparison(comparison: Comparison) -> None:
    """The table a person reads, on standard output."""
    from rich.table import Table
    from rich.text import Text

    from semigpt.cli.console import output_console

    head, *rows = comparison.table()
    table = Table(title=Text(comparison.data), title_justify="left")
    table.add_column(head[0])
    for kind in head[1:]:
        table.add_column(kind, justify="right")
    for row in rows:
        table.add_row(*row)
    console = output_console()
    console.print(table)
    if verdict := comparison.verdict():
        console.print(f"{verdict}.", markup=False, soft_wrap=True)
    console.print(comparison.conditions(), markup=False, soft_wrap=True)
