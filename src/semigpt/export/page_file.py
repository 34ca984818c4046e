"""`model.html`: a trained model in one file that opens from disk, with no server and no network.
And the same page without a model, which asks the server that it came from.

The sources are package data, one job a file, and are joined here. The policy of a page allows its
one script and its one style sheet by their SHA-256, and no request, or those to its own server.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from semigpt.errors import SemigptError, SettingsError
from semigpt.export.page_weights import describe, described_tokenizer, packed
from semigpt.html import escape
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.run_folder import RunFolder
from semigpt.storage import replace_file
from semigpt.tokenizers.base import Tokenizer
from semigpt.tokenizers.foreign import ForeignTokenizer

__all__ = [
    "LARGEST",
    "PAGE_FILE",
    "Exhibit",
    "check",
    "evenly",
    "exhibit",
    "page_html",
    "served_page",
    "write_page",
    "write_run_page",
]

PAGE_FILE = "model.html"
LARGEST = 20_000_000  # parameters; 1.5 bytes each in the file, 4 in the browser
# A file after those that it imports.
PAGE = ("dom", "editor", "panel", "sections", "page")
SCRIPTS = (
    *("strings", "trouble", "weights", "forward", "projection", "tokenizer", "engine"),
    *(*PAGE, "file"),
)
SERVED_SCRIPTS = (
    *("strings", "served_strings", "trouble", *PAGE),
    *("server", "chart", "training", "served"),
)
POLICY = (
    "default-src 'none'; connect-src {connect}; script-src 'sha256-{script}'; "
    "style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
# A text, a template or a regular expression in a script: a slash that divides has a space behind.
LITERAL = r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|/(?![ *])(?:[^/\\\n\[]|\\.|\[(?:[^\]\\]|\\.)*\])+/[a-z]*'
SHORTER = (
    (r" ?([{}()\[\],;:?=<>*|&]) ?", r"\1"),
    (r"(?<![+-]) ([+/-]) (?![+-])", r"\1"),
    (r"(?<=[\])])([+/-]) (?![+-])", r"\1"),
    (r" ([+-]=|!==)", r"\1"),
    (r"(?<!async)\((\w+)\)=>", r"\1=>"),
    (r"\bconst\b", "let"),
    *[(r"\n(let\b[^;\n]+);\nlet(?: (?=\w)|(?=[{\[]))", r"\n\1,")] * 2,
    (r",\n?([)\]}])", r"\1"),
    (r";\n?}", "}"),
)
# The name of what only its class uses: a number does as well.
PRIVATE = r"(?<![\w$])_[a-zA-Z]\w+"
# Elements before which a line end shows nowhere.
BLOCKS = "meta|link|title|head|body|header|h1|h2|main|div|section|aside|p|ol|details|table|footer"
SHOWN_SAMPLES = 40
Row = TypeVar("Row")
SHOWN_CHARACTERS = 600  # of a sample


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A model as the page shows it.

    facts: what was measured: bits_per_character, steps
    samples: what it wrote while it was trained: step, prompt, text, bits_per_character
    """

    name: str
    model: LanguageModel
    tokenizer: Tokenizer
    facts: Mapping[str, Any] = field(default_factory=dict)
    samples: Sequence[Mapping[str, Any]] = ()


def exhibit(
    name: str, model: LanguageModel, tokenizer: Tokenizer, run: RunFolder | None
) -> Exhibit:
    """The model with what its run's logs say of it."""
    if run is None:
        return Exhibit(name=name, model=model, tokenizer=tokenizer)
    measured = {
        row["step"]: row["bits_per_character"]
        for row in run.rows("metrics")
        if "bits_per_character" in row
    }
    samples = [
        {
            "step": row["step"],
            "prompt": row["prompt"],
            "text": row["text"][:SHOWN_CHARACTERS],
            "bits_per_character": measured.get(row["step"]),
        }
        for row in evenly(run.rows("samples"), SHOWN_SAMPLES)
    ]
    best = min(measured, key=measured.__getitem__, default=None)
    facts = {} if best is None else {"bits_per_character": measured[best], "steps": best}
    return Exhibit(name=name, model=model, tokenizer=tokenizer, facts=facts, samples=samples)


def write_run_page(run: RunFolder, model: LanguageModel, tokenizer: Tokenizer) -> str | None:
    """Write the `model.html` of a run that is saved already; why not, where that cannot be."""
    run.check_held()
    name = run.path.resolve().name
    try:
        write_page(run.page_file, name, [exhibit(name, model, tokenizer, run)])
    except SemigptError as error:
        return str(error)
    return None


def write_page(target: Path, title: str, exhibits: Sequence[Exhibit]) -> None:
    """Write `model.html`.

    Raises SettingsError for a model that is too large or whose rung the page does not run, and
    CheckpointError where the file cannot be written.
    """
    replace_file(target, page_html(title, exhibits).encode("utf-8", "replace"))


def check(exhibits: Sequence[Exhibit]) -> None:
    """Raise SettingsError, saying why, where a page cannot hold these models."""
    total = sum(each.model.parameter_count() for each in exhibits)
    if total > LARGEST:
        raise SettingsError(
            _(
                "{page_file} holds at most {largest} million parameters, and these are "
                "{total:.1f} million; semigpt generate and semigpt serve write with them"
            ).format(page_file=PAGE_FILE, largest=LARGEST // 1_000_000, total=total / 1e6)
        )
    for each in exhibits:
        describe(each.model)
        if isinstance(each.tokenizer, ForeignTokenizer):
            raise SettingsError(
                _("{page_file} has no tokenizer of others: only semigpt's own kinds").format(
                    page_file=PAGE_FILE
                )
            )


def page_html(title: str, exhibits: Sequence[Exhibit]) -> str:
    """The page. Raises SettingsError as `write_page` does."""
    check(exhibits)
    data = []
    for number, each in enumerate(exhibits):
        described, blob = _described(each)
        data.append(_data(f"model-{number}", "application/json", described))
        data.append(_data(f"weights-{number}", "text/plain", base64.b64encode(blob).decode()))
    return _page(title, SCRIPTS, ("page.css",), "\n".join(data))[0]


def served_page(*, asks_key: bool) -> tuple[str, str]:
    """The page that asks the server it came from, and the policy to send with it.

    asks_key: whether it asks its reader for the server's key first
    """
    asked = ' data-key=""' if asks_key else ""
    styles = ("page.css", "served.css")
    return _page("semigpt", SERVED_SCRIPTS, styles, connect="'self'", asked=asked)


def _page(
    title: str,
    scripts: tuple[str, ...],
    styles: Sequence[str],
    data: str = "",
    *,
    connect: str = "'none'",
    asked: str = "",
) -> tuple[str, str]:
    """A page, and its policy."""
    script, style = joined_script(scripts), squeezed("\n".join(map(_source, styles)))
    policy = POLICY.format(connect=connect, script=_digest(script), style=_digest(style))
    parts = {
        "policy": escape(policy).replace("&#x27;", "'"),
        "title": escape(title),
        "asked": asked,
        "style": style,
        "data": data,
        "script": script,
    }
    skeleton = re.sub(r"^\s+", "", _source("page.html"), flags=re.MULTILINE)
    skeleton = re.sub(rf"\n(?=</?(?:{BLOCKS})\b)", "", skeleton)
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], skeleton), policy


@cache
def joined_script(names: tuple[str, ...]) -> str:
    """The scripts as one: without imports, and nothing exported."""
    joined = "\n".join(_source(f"{name}.js") for name in names)
    joined = re.sub(r"^import .*\n", "", joined, flags=re.MULTILINE)
    joined = re.sub(r"^export ", "", joined, flags=re.MULTILINE)
    private = sorted(set(re.findall(PRIVATE, joined)))
    joined = re.sub(PRIVATE, lambda found: f"_{private.index(found[0])}", joined)
    return f'(() => {{"use strict";\n{squeezed(joined)}}})();'


def squeezed(source: str) -> str:
    """A source without what only its readers need: a third of its bytes. Literals stay."""
    source = re.sub(r"/\*.*?\*/|^\s*//.*?$|\s// .*?$", "", source, flags=re.DOTALL | re.MULTILINE)
    source = re.sub(r"^\s+", "", source, flags=re.MULTILINE)
    parts = re.split(f"({LITERAL})", source)
    for pattern, short in SHORTER:
        parts[::2] = (re.sub(pattern, short, part) for part in parts[::2])
    return re.sub(r"(?<=[{}(\[,;:=>])\n|\n(?=\.\w)", "", "".join(parts))


def _described(each: Exhibit) -> tuple[str, bytes]:
    model, tokenizer = each.model, each.tokenizer
    shape = describe(model)
    tensors, blob = packed(model, shape)
    described = {
        "facts": {
            "name": each.name,
            "rung": model.kind,
            "parameters": model.parameter_count(),
            "tokenizer": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            **each.facts,
        },
        "vocab_size": model.settings.vocab_size,
        "context_length": model.settings.context_length,
        "shape": shape,
        "tensors": tensors,
        "tokenizer": described_tokenizer(tokenizer),
        "samples": list(each.samples),
    }
    return json.dumps(described, ensure_ascii=False, separators=(",", ":")), blob


def _data(name: str, kind: str, content: str) -> str:
    """A block of data, in which nothing can end it early."""
    content = content.replace("<", "\\u003c")
    return f'<script type="{kind}" id="{name}">{content}</script>'


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _source(name: str) -> str:
    return resources.files("semigpt.export").joinpath("page", name).read_text("utf-8")


def evenly(rows: Sequence[Row], most: int) -> list[Row]:
    """At most `most` rows, evenly apart, the first and the last among them; of one the last."""
    if len(rows) <= most:
        return list(rows)
    if most == 1:
        return [rows[-1]]
    return [rows[round(index * (len(rows) - 1) / (most - 1))] for index in range(most)]
