"""The kinds of tokenizer side by side on one text: what they cost, what they survive, and what a
model learns with them.

A loss a token says nothing between tokenizers, since a longer token carries more. What can be
compared is the cost of the same text, in bits per character, of the same model trained for the same
time.
"""

from __future__ import annotations

import copy
import json
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from semigpt.config import Recipe
from semigpt.corpus.staging import prepare_corpus
from semigpt.device import pick_device
from semigpt.errors import SettingsError, TokenizerError
from semigpt.evaluation.evaluate import check_split, total_information
from semigpt.evaluation.information import bits
from semigpt.html import escape
from semigpt.huggingface.folder import load_model
from semigpt.language import N_, _, language, ngettext
from semigpt.preparation import prepare_tokenizer
from semigpt.recipe import Prepared, Stepped, train
from semigpt.report.charts import Level, Series, line_chart
from semigpt.report.document import page
from semigpt.report.layout import short_number
from semigpt.run_events import Evaluated, Finished
from semigpt.settings import check_choice
from semigpt.storage import replace_file
from semigpt.tokenizers import Kind, Tokenizer
from semigpt.tokenizers.base import AnyKind

__all__ = ["Comparison", "Measured", "Trained", "check_free", "compare", "measure"]

READ_CHARACTERS = (
    4_000_000  # of the test split, at most: the slowest kind encodes them in a few seconds
)
NFD_CHARACTERS = 200_000
PASSES = 3  # over the text; the fastest tells the speed
UNSEEN_CHARACTERS = 200  # of each script
UNSEEN = {
    "syllable": range(0xAC00, 0xD7A4),
    "hanja": range(0x4E00, 0xA000),
    "emoji": range(0x1F600, 0x1F650),
}
UNSEEN_NAMES = {
    "syllable": N_("tokens per unseen syllable"),
    "hanja": N_("tokens per unseen hanja"),
    "emoji": N_("tokens per unseen emoji"),
}
# What breaks tokenizers that lose something: spaces, line ends, controls, spelt special tokens and
# bytes, decomposed Hangul, letters alone, joined emoji, the last code point, and surrogates without
# their other half.
HARD_TEXTS = (
    "  두 칸  ",
    "\t\n\r\n\0\x7f",
    "<|endoftext|> <0xEA> ▁Ġ",
    unicodedata.normalize("NFD", "한국어"),
    "ㄱㅏㅋㅋㅠ 뷁똠펲 大韓民國",
    "👩‍👩‍👧 \U0010ffff",
    "\ud83d 가\udfff",
)


@dataclass(frozen=True)
class Measured:
    """What a tokenizer of a kind makes of the test split (at most its first 4,000,000 characters).

    exact:  whether every document, and every one of a few hard texts, comes back as it was
    unseen: tokens per character for syllables, hanja and emoji that are not in the training
            split; None where it holds them all
    nfd:    tokens of the decomposed text (NFD) per token of the composed one, normalized to NFC
    nfd_unnormalized: the same without normalization
    encode, decode: 10^6 bytes of UTF-8 per second, the fastest of three passes
    """

    kind: AnyKind
    vocab_size: int
    characters_per_token: float
    bytes_per_token: float
    exact: bool
    unseen: dict[str, float | None]
    nfd: float
    nfd_unnormalized: float
    encode: float
    decode: float


@dataclass(frozen=True)
class Trained:
    """The model of a kind after its time.

    bits_per_character: on the whole validation split, of the weights with the lowest loss
    curve: (seconds, bits per character) at each evaluation, on blocks spread over that split
    """

    kind: AnyKind
    run: Path
    parameters: int
    steps: int
    tokens_seen: int
    seconds: float
    bits_per_character: float
    curve: list[tuple[float, float]]


@dataclass(frozen=True)
class Comparison:
    """What is known so far.

    `baselines` and `source_entropy` are in bits per character, and there once a model is trained.
    """

    data: str
    split_characters: int
    split_bytes: int
    settings: Mapping[str, Any]
    measured: Sequence[Measured] = ()
    trained: Sequence[Trained] = ()
    baselines: Mapping[str, float | None] | None = None
    source_entropy: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        table = asdict(self)
        for row in table["trained"]:
            row["run"] = str(row["run"])
        return table

    def table(self) -> list[list[str]]:
        """Rows of text: the kinds, then each measure's name and its value for every kind."""
        trained = {row.kind: row for row in self.trained}
        rows = [["", *(m.kind for m in self.measured)]]

        def add(name: str, cell: Callable[[Measured], str]) -> None:
            rows.append([name, *map(cell, self.measured)])

        add(_("tokens in the vocabulary"), lambda m: f"{m.vocab_size:,}")
        add(_("characters per token"), lambda m: f"{m.characters_per_token:.2f}")
        add(_("bytes per token"), lambda m: f"{m.bytes_per_token:.2f}")
        add(_("comes back exactly"), lambda m: _("yes") if m.exact else _("NO"))
        for script in UNSEEN:
            add(_(UNSEEN_NAMES[script]), partial(_unseen_cell, script=script))
        add(_("tokens of NFD for NFC, normalised"), lambda m: f"{m.nfd:.2f}")
        add(_("tokens of NFD for NFC, as it is"), lambda m: f"{m.nfd_unnormalized:.2f}")
        add(_("encoding, MB/s"), lambda m: short_number(m.encode))
        add(_("decoding, MB/s"), lambda m: short_number(m.decode))
        if trained:
            add(_("steps"), lambda m: f"{trained[m.kind].steps:,}" if m.kind in trained else "")
            add(
                _("bits per character"),
                lambda m: f"{trained[m.kind].bits_per_character:.3f}" if m.kind in trained else "",
            )
        return rows

    def verdict(self) -> str | None:
        """Which kind needs the fewest bits per character, or that it is too early to say; None
        before two are trained.

        It is too early while another kind led when two thirds of the time were over.
        """
        if len(self.trained) < 2:
            return None
        best = min(self.trained, key=lambda row: row.bits_per_character)
        early = {
            row.kind: [bits for seconds, bits in row.curve if seconds <= row.seconds * 2 / 3]
            for row in self.trained
        }
        if all(early.values()):
            led = min(early, key=lambda kind: early[kind][-1])
            if led != best.kind:
                return _(
                    "too short to choose: {led} led after two thirds of the time and {best} at its "
                    "end; train longer"
                ).format(led=led, best=best.kind)
        return _("{kind} needs the fewest bits per character: {bits:.3f}").format(
            kind=best.kind, bits=best.bits_per_character
        )

    def markdown(self) -> str:
        """The table, and under what conditions it came about."""
        head, *rows = self.table()
        lines = [head, ["---", *["---:"] * len(self.measured)], *rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        verdict = self.verdict()
        said = "" if verdict is None else f"{verdict[0].upper()}{verdict[1:]}.\n\n"
        return f"{table}\n\n{said}{self.conditions()}\n"

    def conditions(self) -> str:
        """What the numbers were measured on, in sentences."""
        text = _(
            "Measured on the test split of {data}: {characters:,} characters, {bytes:,} bytes."
        ).format(data=self.data, characters=self.split_characters, bytes=self.split_bytes)
        if not self.settings.get("training"):
            return text
        length = ", ".join(
            _length(unit, number) for unit, number in self.settings["training"].items()
        )
        trained = _(
            "A {size} gpt was trained on each for {length}; its bits per character are those of "
            "the whole validation split."
        ).format(size=self.settings["size"], length=length)
        return f"{text} {trained}"

    def html(self) -> str:
        """One page that opens with no network: the chart, and the table."""
        title = self.verdict() or _("Tokenizers compared")
        body = [f'<p class="soft">semigpt · {escape(self.data)}</p><h1>{escape(title)}</h1>']
        if self.trained:
            body.append(self._chart())
        head, *rows = self.table()
        cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        lines = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        body.append(f'<div class="measures"><table><tr>{cells}</tr>{lines}</table></div>')
        body.append(f'<p class="soft">{escape(self.conditions())}</p>')
        style = (
            ".measures { overflow-x: auto; } "
            ".measures :is(td, th) { padding-right: 1.6rem; white-space: nowrap; }"
        )
        style += " .measures :is(td, th) + * { text-align: right; }"
        return page(title, "\n".join(body), style, lang=language())

    def _chart(self) -> str:
        """Bits per character against seconds; what counting achieves, and the source itself, as
        levels.
        """
        named = (
            ("unigram", _("unigram")),
            ("bigram", _("bigram")),
            ("kneser_ney_5", _("5-gram")),
        )
        known = self.baselines or {}
        levels = [
            Level(name, value) for key, name in named if (value := known.get(key)) is not None
        ]
        if self.source_entropy is not None:
            levels.append(Level(_("the source itself"), self.source_entropy, floor=True))
        timed = "minutes" in self.settings["training"]
        top = max((level.y for level in levels), default=None)
        return line_chart(
            [Series(row.kind, row.curve) for row in self.trained],
            title=_("The same model on each tokenizer for the same time")
            if timed
            else _("The same model on each tokenizer for the same number of steps"),
            x_label=_("seconds of training"),
            y_label=_("bits per character"),
            levels=levels,
            y_max=None if top is None else top * 1.1,
        )

    def write(self, folder: Path) -> None:
        """Write compare.json, compare.md and compare.html, each whole; the folder is made if need
        be.
        """
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(
            folder / "compare.json", (json.dumps(self.as_dict(), indent=2) + "\n").encode()
        )
        replace_file(folder / "compare.md", self.markdown().encode())
        replace_file(folder / "compare.html", self.html().encode())


def _length(unit: str, number: float) -> str:
    """2 minutes, 300 steps or 9,000 tokens."""
    form = 1 if number == 1 else 2
    if unit == "minutes":
        return ngettext("{minutes:g} minute", "{minutes:g} minutes", form).format(minutes=number)
    if unit == "steps":
        return ngettext("{steps:,} step", "{steps:,} steps", form).format(steps=number)
    return ngettext("{tokens:,} token", "{tokens:,} tokens", form).format(tokens=number)


def _unseen_cell(measured: Measured, script: str) -> str:
    value = measured.unseen[script]
    return "" if value is None else f"{value:.2f}"


def check_free(folder: Path) -> None:
    """Raise TokenizerError where `folder` is there already: nothing is ever written over."""
    if folder.exists() or folder.is_symlink():
        raise TokenizerError(
            _("{folder} exists already; give --out a new folder, or remove that one first").format(
                folder=folder
            )
        )


def compare(
    tables: Mapping[str, Mapping[str, Any]],
    *,
    kinds: Sequence[str] = get_args(Kind),
    out: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Comparison]:
    """Train a tokenizer of each kind and measure it; then, where `tables` holds a `training` table,
    a model on each.

    `tables` are those of a recipe (`data`, `tokenizer`, `model`, `training`, `machine`), but for
    the kind. A comparison comes after each measurement, a row longer than the one before, and is
    written in `out`, which must be new or empty; the models' run folders are `out/KIND`. `say`
    hears how it goes, `progress` (documents, characters) while text is read. Where `stop` says yes,
    the model at work is saved unfinished and left out, and no other is begun.

    Raises SettingsError, CorpusError and TokenizerError before anything is written, and what
    `recipe.train` raises.
    """
    if not kinds:
        raise SettingsError(
            _("no kinds to compare; name some of {kind}").format(kind=", ".join(get_args(Kind)))
        )
    for kind in kinds:
        check_choice("--kinds", kind, get_args(Kind))
    kinds = list(dict.fromkeys(kinds))
    training = {"eval_blocks": 256, **tables["training"]} if tables.get("training") else {}
    if training and out is None:
        raise SettingsError(
            _("training a model on each needs a folder for the runs; name a new one with --out")
        )
    if out is not None and not (out.is_dir() and not any(out.iterdir())):
        check_free(out)
    recipes = {kind: recipe_of(tables, kind, training) for kind in kinds}
    recipe = recipes[kinds[0]]
    if training:
        pick_device(recipe.machine.device)
    data = recipe.data
    corpus = prepare_corpus(data.spec, column=data.column, split=data.split, progress=progress)
    check_split(corpus, "test")
    tokenizers = {}
    for kind in kinds:
        if stop():
            return
        tokenizers[kind] = prepare_tokenizer(recipes[kind].tokenizer, corpus)
        say(_("{kind}: {tokens:,} tokens").format(kind=kind, tokens=tokenizers[kind].vocab_size))
    for finding in corpus.findings:
        say(finding)
    documents = beginning(corpus.documents("test"), READ_CHARACTERS)
    settings: dict[str, Any] = {"vocab_size": recipe.tokenizer.vocab_size}
    if training:
        length = {key: training[key] for key in ("steps", "tokens", "minutes") if key in training}
        settings |= {"size": recipe.size, "seed": recipe.training.seed, "training": length}
    comparison = Comparison(
        corpus.spec, sum(map(len, documents)), sum(map(utf8_length, documents)), settings
    )
    for kind, tokenizer in tokenizers.items():
        if stop():
            return
        say(_("{kind}: measuring").format(kind=kind))
        measured = measure(tokenizer, documents, corpus.character_counts)
        comparison = replace(comparison, measured=[*comparison.measured, measured])
        if out is not None:
            comparison.write(out)
        yield comparison
    if not training or out is None:
        return
    for kind in kinds:
        if stop():
            return
        comparison = train_one(comparison, recipes[kind], out / kind, stop, say)
        comparison.write(out)
        yield comparison


def recipe_of(
    tables: Mapping[str, Mapping[str, Any]], kind: str, training: Mapping[str, Any]
) -> Recipe:
    """The recipe of one kind's model."""
    tokenizer = {**tables.get("tokenizer", {}), "kind": kind}
    return Recipe.from_tables({**tables, "tokenizer": tokenizer, "training": training})


def measure(tokenizer: Tokenizer, documents: Sequence[str], seen: Mapping[str, int]) -> Measured:
    """Measure a tokenizer on `documents`, at least one character in NFC; `seen` are those of its
    training split.
    """
    # `normalization` is asked for at each call of `encode`: a copy without it is the same
    # tokenizer, on the same tables.
    bare = copy.copy(tokenizer)
    bare.normalization = None
    size = sum(map(utf8_length, documents))
    encode_seconds, marked = fastest(lambda: list(tokenizer.encode_documents(documents)))
    encoded = [ids[:-1] for ids in marked]  # without <|endoftext|>, which is no text
    decode_seconds, decoded = fastest(lambda: [tokenizer.decode(ids) for ids in encoded])
    exact = decoded == list(documents) and all(
        bare.decode(bare.encode(text)) == text for text in HARD_TEXTS
    )
    tokens = sum(map(len, encoded))
    composed = beginning(iter(documents), NFD_CHARACTERS)
    decomposed = [unicodedata.normalize("NFD", text) for text in composed]

    def count(of: Tokenizer, texts: Sequence[str]) -> int:
        return sum(len(of.encode(text)) for text in texts)

    unseen: dict[str, float | None] = {}
    for script, code_points in UNSEEN.items():
        strangers = [chr(code) for code in code_points if chr(code) not in seen]
        strangers = strangers[:: max(len(strangers) // UNSEEN_CHARACTERS, 1)]
        unseen[script] = count(bare, strangers) / len(strangers) if strangers else None
    return Measured(
        kind=tokenizer.kind,
        vocab_size=tokenizer.vocab_size,
        characters_per_token=sum(map(len, documents)) / tokens,
        bytes_per_token=size / tokens,
        exact=exact,
        unseen=unseen,
        nfd=count(tokenizer, decomposed) / count(tokenizer, composed),
        nfd_unnormalized=count(bare, decomposed) / count(bare, composed),
        encode=size / 1e6 / encode_seconds,
        decode=size / 1e6 / decode_seconds,
    )


def train_one(
    comparison: Comparison,
    recipe: Recipe,
    folder: Path,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> Comparison:
    """Train one kind's model in `folder`; the comparison with it, or as it was where `stop` cut the
    run short.
    """
    kind = recipe.tokenizer.kind
    assert kind is not None
    prepared: Prepared | None = None
    curve: list[tuple[float, float]] = []
    seconds = 0.0
    for event in train(recipe, folder, stop=stop):
        match event:
            case Prepared():
                prepared = event
            case Stepped():
                seconds = event.report.seconds
            case Evaluated():
                curve.append((seconds, event.bits_per_character))
                say(
                    _("{kind}: {seconds:.0f} s, {bits:.3f} bits per character").format(
                        kind=kind, seconds=seconds, bits=event.bits_per_character
                    )
                )
            case Finished(complete=True) if prepared is not None:
                model = load_model(event.run.model_folder).to(prepared.device)
                nats, _tokens = total_information(
                    model, prepared.dataset.stream("validation"), begins_with_end_of_text=True
                )
                trained = Trained(
                    kind=kind,
                    run=folder,
                    parameters=model.parameter_count(),
                    steps=event.step,
                    tokens_seen=event.tokens_seen,
                    seconds=event.seconds,
                    bits_per_character=bits(nats) / prepared.corpus.characters("validation"),
                    curve=curve,
                )
                return replace(
                    comparison,
                    trained=[*comparison.trained, trained],
                    baselines=None if event.baselines is None else event.baselines.as_dict(),
                    source_entropy=prepared.source_entropy,
                )
    return comparison


def beginning(documents: Iterator[str], characters: int) -> list[str]:
    """The first documents, the last one cut short where they have more than so many characters."""
    kept = []
    for document in documents:
        kept.append(document[:characters])
        characters -= len(kept[-1])
        if characters <= 0:
            break
    return kept


def utf8_length(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def fastest(work: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds of the fastest of a few passes, and what the work gives."""
    seconds = []
    for _pass in range(PASSES):
        begin = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), result
