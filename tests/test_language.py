"""Messages in English and Korean: one catalog, whole and of the code as it is."""

from __future__ import annotations

import ast
import io
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest

import semigpt
from semigpt.cli import main
from semigpt.language import CATALOGS, DOMAIN, _, language, speaking

SOURCE = Path(semigpt.__file__).parent
KOREAN = CATALOGS / "ko" / "LC_MESSAGES" / DOMAIN
KEYWORDS = {"_": None, "N_": None, "ngettext": (1, 2)}


@pytest.fixture(scope="module")
def marked() -> set[str]:
    """The messages that the code marks; of one with a plural, the singular."""
    extract = pytest.importorskip("babel.messages.extract", reason="Babel is not installed")
    found = extract.extract_from_dir(
        SOURCE, [("**.py", "python")], keywords=KEYWORDS, strip_comment_tags=True
    )
    return {message if isinstance(message, str) else message[0] for _f, _l, message, *_r in found}


@pytest.fixture(scope="module")
def korean() -> dict[str, str]:
    """The Korean of each message."""
    pofile = pytest.importorskip("babel.messages.pofile", reason="Babel is not installed")
    with KOREAN.with_suffix(".po").open("rb") as file:
        catalog = pofile.read_po(file, locale="ko")
    assert not [message.id for message in catalog if message.fuzzy and message.id]
    return {
        message.id if isinstance(message.id, str) else message.id[0]: message.string
        if isinstance(message.string, str)
        else message.string[0]
        for message in catalog
        if message.id
    }


def fields(message: str) -> list[str]:
    """The names of what is put into a message, the % of logging too."""
    named = [name.split(".")[0] for _t, name, *_r in string.Formatter().parse(message) if name]
    return sorted([*set(named), *re.findall(r"%[sdr]", message)])


def test_every_message_is_translated_and_none_is_stale(
    marked: set[str], korean: dict[str, str]
) -> None:
    assert sorted(marked - korean.keys()) == []
    assert sorted(korean.keys() - marked) == []
    assert sorted(message for message, text in korean.items() if not text) == []


def test_a_translation_puts_in_what_the_message_does(korean: dict[str, str]) -> None:
    for message, text in korean.items():
        if "{" in message and ".format" not in message:
            assert fields(text) == fields(message), message
        assert re.findall(r"%[sdr]", text) == re.findall(r"%[sdr]", message), message


def test_the_compiled_catalog_is_that_of_the_text() -> None:
    pofile = pytest.importorskip("babel.messages.pofile", reason="Babel is not installed")
    mofile = pytest.importorskip("babel.messages.mofile")
    compiled = io.BytesIO()
    with KOREAN.with_suffix(".po").open("rb") as file:
        mofile.write_mo(compiled, pofile.read_po(file, locale="ko"))
    assert compiled.getvalue() == KOREAN.with_suffix(".mo").read_bytes()


def error_classes() -> set[str]:
    """The names of SemigptError and all that are derived from it in the code."""
    bases = {
        node.name: {base.id for base in node.bases if isinstance(base, ast.Name)}
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    found = {"SemigptError"}
    while more := {name for name, of in bases.items() if of & found} - found:
        found |= more
    return found


def test_no_error_or_help_is_said_in_english_alone() -> None:
    """A literal that begins a message. The news' grammar speaks to its authors, and the server's
    answers to programs.
    """
    errors, bare = error_classes(), []
    for path in SOURCE.rglob("*.py"):
        if any(path.is_relative_to(SOURCE / part) for part in ("corpus/news", "serving")):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            said = node.args[:1] if name in errors else []
            said += [given.value for given in node.keywords if given.arg == "help"]
            bare += [
                f"{path.relative_to(SOURCE)}:{value.lineno}"
                for value in said
                if isinstance(value, ast.JoinedStr | ast.Constant) and words(value)
            ]
    assert bare == []


def words(value: ast.JoinedStr | ast.Constant) -> bool:
    parts = value.values if isinstance(value, ast.JoinedStr) else [value]
    text = "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
    return re.search(r"[a-z]{2,} [a-z]{2,}", text) is not None


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "C.UTF-8", "LC_MESSAGES": "ko"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LANGUAGE": "en_US:ko"}, "en"),
        ({"LANG": "en_US.UTF-8", "LANGUAGE": "fr:ko:en"}, "ko"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_the_first_that_is_asked_for(
    environment: dict[str, str], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert language() == wanted


def test_lang_is_heeded_before_and_behind_a_command_but_not_in_a_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "없음")
    for arguments, korean_wanted in (
        (["--lang", "ko", "generate", nowhere, "글"], True),
        (["generate", nowhere, "글", "--lang=ko"], True),
        (["generate", nowhere, "--", "--lang=ko"], False),
        (["--lang", "ko", "train", "--datta", "a"], True),  # argparse's own words
    ):
        assert main(arguments) == 2
        said = capsys.readouterr().err
        assert bool(re.search("[가-힣]", said.replace(nowhere, ""))) is korean_wanted, said
    assert language() == "en"


def test_a_process_of_its_own_speaks_the_locale() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "semigpt", "--help"],
        env={"LANG": "ko_KR.UTF-8", "PATH": "", "PYTHONPATH": str(SOURCE.parent)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout
    assert "사용법" in said
    assert not re.search(r"positional arguments|show this help", said)


def test_what_is_asked_in_korean_is_answered_in_korean() -> None:
    with speaking("ko"):
        assert _("no memory left to count words") != "no memory left to count words"
    assert _("no memory left to count words") == "no memory left to count words"
