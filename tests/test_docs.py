"""What the Markdown files say can be followed: commands parse, links and files are there, both
READMEs are level.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from semigpt.cli import build_parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
COMMANDS = [page for page in PAGES if page.name.startswith("README") or page.parent != ROOT]


def code_and_prose(page: Path) -> tuple[list[list[str]], str]:
    """The blocks of code, fenced or indented, as lines; and the text without them."""
    blocks: list[list[str]] = []
    prose: list[str] = []
    fenced = indented = False
    previous = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
            if fenced:
                blocks.append([])
        elif fenced:
            blocks[-1].append(line)
        elif line.startswith("    ") and (indented or not previous.strip()):
            if not indented:
                blocks.append([])
            indented = True
            blocks[-1].append(line[4:])
        else:
            indented = False
            prose.append(line)
        previous = line
    return blocks, "\n".join(prose)


def commands_of(page: Path) -> Iterator[list[str]]:
    """Each command of semigpt on a page, as its words: in blocks of code, and in the text between
    backticks.
    """
    blocks, prose = code_and_prose(page)
    lines = [line.removeprefix("$ ") for block in blocks for line in block]
    for mention in re.findall(r"`(semigpt [^`]+)`", prose):
        # The bare name of a command says nothing about arguments that it may need.
        lines.append(f"{mention} --help" if re.fullmatch(r"[a-z ]+", mention) else mention)
    for line in lines:
        for part in line.split(" && "):
            program, _, rest = part.strip().partition(" ")
            if Path(program).name == "semigpt" and rest:
                yield shlex.split(rest, comments=True)


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings, as the hosts of repositories make them."""
    found: dict[str, int] = {}
    anchors = set()
    _, prose = code_and_prose(page)
    for heading in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        number = found[slug] = found.get(slug, -1) + 1
        anchors.add(f"{slug}-{number}" if number else slug)
    return anchors


@pytest.mark.parametrize("page", COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_parses(page: Path) -> None:
    """An unknown command, flag or value raises SettingsError."""
    for words in commands_of(page):
        try:
            options = build_parser().parse_args(words)
        except SystemExit as end:  # --help and --version print and end
            assert end.code == 0, words
        else:
            assert options.run is not None, words


def test_the_readme_has_commands() -> None:
    """The reading above would be worth nothing if it found none."""
    verbs = {words[0] for words in commands_of(ROOT / "README.md")}
    assert verbs >= {"train", "generate", "evaluate", "tour", "ladder", "text", "torture"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_anchor_exists(page: Path) -> None:
    _, prose = code_and_prose(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        there = page.parent / name if name else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in slugs(there), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_script_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(
        r"\b(?:benchmarks|docs|examples|tests)/[\w./]*\w\.(?:py|md|svg)\b", text
    ):
        assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_every_page_that_the_code_names_exists() -> None:
    """Comments refer to a page and a section of it for the measurements behind them."""
    sources = [path for kind in ("py", "c", "h") for path in (ROOT / "src").rglob(f"*.{kind}")]
    for path in sources:
        for name, anchor in re.findall(
            r"docs/([\w.]+\.md)(?:#([\w-]+))?", path.read_text(encoding="utf-8")
        ):
            page = ROOT / "docs" / name
            assert page.is_file(), f"{path.name}: {name}"
            assert not anchor or anchor in slugs(page), f"{path.name}: {name}#{anchor}"


def test_the_readmes_have_the_same_commands_and_headings() -> None:
    english, korean = ROOT / "README.md", ROOT / "README.ko.md"
    assert code_and_prose(english)[0] == code_and_prose(korean)[0]

    def headings(page: Path) -> list[str]:
        return re.findall(r"^(#+) ", code_and_prose(page)[1], re.MULTILINE)

    assert headings(english) == headings(korean)


def test_the_first_two_blocks_set_everything_up() -> None:
    """The first trains, the second tests; both make an environment, as PEP 668 demands."""
    first, second = code_and_prose(ROOT / "README.md")[0][:2]
    for block, end in ((first, "semigpt train"), (second, "pytest")):
        (line,) = block
        assert line.startswith(
            "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e "
        )
        assert line.endswith(f"&& .venv/bin/{end}")
