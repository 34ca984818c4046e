"""Several SPECs as one corpus, standard input, and running text that loses nothing."""

import io
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from semigpt.cli.flags import Parser, add_data_flags
from semigpt.config import Recipe
from semigpt.corpus import Corpus, prepare_corpus, standard_input
from semigpt.corpus.spec import FileSource, JoinedSource, identity, parse_spec
from semigpt.errors import CorpusError

AUTUMN = [f"가을 글 {i}번" for i in range(60)]
SPRING = [f"봄의 노래 {i}번" for i in range(80)]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("\n".join(AUTUMN), encoding="utf-8")
    Path("b.txt").write_text("\n".join(SPRING), encoding="utf-8")
    Path("own").mkdir()
    for split, texts in {"train": ["훈련 하나", "훈련 둘"], "test": ["시험 하나"]}.items():
        Path(f"own/{split}.txt").write_text("\n".join(texts), encoding="utf-8")
    standard_input.received.cache_clear()


def documents(corpus: Corpus) -> list[str]:
    return sorted(text for split in corpus.splits for text in corpus.documents(split))


@pytest.mark.parametrize("arguments", [
    ["--data", "a.txt", "--data", "b.txt"],
    ["--data", "a.txt", "b.txt"],
    ["--data", "a.txt", "--data", "b.txt", "a.txt"],
])  # fmt: skip
def test_every_spec_that_is_given_is_read(arguments: list[str]) -> None:
    parser = Parser()
    add_data_flags(parser)
    options, _ = parser.parse_known_args(arguments)
    corpus = prepare_corpus(options.data)
    assert documents(corpus) == sorted([*AUTUMN, *SPRING])
    assert corpus.spec.startswith("a.txt + b.txt")
    assert prepare_corpus(["a.txt", "b.txt"]).fingerprint == corpus.fingerprint


def test_a_command_with_arguments_takes_a_spec_for_each_flag() -> None:
    parser = Parser()
    parser.add_argument("text")
    add_data_flags(parser)
    options, _ = parser.parse_known_args(["--data", "a.txt", "글", "--data", "b.txt"])
    assert (options.text, options.data) == ("글", "a.txt\nb.txt")


def test_files_are_one_list_and_other_sources_are_joined() -> None:
    assert parse_spec("a.txt\nb.txt") == FileSource((Path("a.txt"), Path("b.txt")))
    joined = parse_spec("a.txt\nown")
    assert isinstance(joined, JoinedSource)
    assert identity(joined) != identity(parse_spec("own\na.txt")), "the order is a part of it"
    assert parse_spec("own\nown") == parse_spec("own")
    Path("a.txt\nb.txt").write_text("한 이름", encoding="utf-8")
    assert parse_spec("a.txt\nb.txt") == FileSource((Path("a.txt\nb.txt"),))


def test_each_source_has_splits_of_its_own() -> None:
    corpus = prepare_corpus(["own", "a.txt"])
    assert next(iter(corpus.documents("test"))) == "시험 하나"
    assert documents(corpus) == sorted(["훈련 하나", "훈련 둘", "시험 하나", *AUTUMN])
    assert corpus.split_rule == "own + document and document"
    alone = prepare_corpus("a.txt")
    assert set(alone.documents("test")) < set(corpus.documents("test"))
    cut = prepare_corpus(["own", "a.txt"], split="offset:0.5")
    assert cut.text("train") + cut.text("test") == "".join(["훈련 하나", "훈련 둘", *AUTUMN])


def test_a_column_is_asked_of_the_sources_that_have_columns() -> None:
    Path("tables").mkdir()
    Path("tables/c.csv").write_text("제목,본문\n하나,하나의 본문\n", encoding="utf-8")
    Path("d.md").write_text("# 제목", encoding="utf-8")
    corpus = prepare_corpus(["a.txt", "tables", "d.md"], column="본문")
    assert documents(corpus) == sorted([*AUTUMN, "하나의 본문", "제목"])


def test_a_joined_reading_resumes_where_it_was_stopped(tmp_path: Path) -> None:
    Path("c.jsonl").write_text('{"text": "하나"}\n{"text": "둘"}\n', encoding="utf-8")
    specs = ["own", "a.txt", "c.jsonl"]
    whole = prepare_corpus(specs, cache=tmp_path / "whole")

    def stop(documents: int, characters: int) -> None:
        if documents >= 40:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semigpt.corpus.staging.PROGRESS_CHARACTERS", 1)
        with pytest.raises(KeyboardInterrupt):
            prepare_corpus(specs, cache=tmp_path / "stopped", progress=stop)
        again: list[int] = []
        resumed = prepare_corpus(
            specs, cache=tmp_path / "stopped", progress=lambda number, _: again.append(number)
        )
    assert again[0] > 40
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.findings == whole.findings


def test_a_recipe_takes_a_list() -> None:
    recipe = Recipe.from_tables({"data": {"spec": ["a.txt", "b.txt"]}})
    assert recipe.data.spec == "a.txt\nb.txt"
    assert Recipe.from_tables(recipe.tables()) == recipe


# --- standard input


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    standard_input.received.cache_clear()
    stream = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stream)


def test_standard_input_is_read_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(AUTUMN).encode("cp949")
    piped(monkeypatch, text)
    corpus = prepare_corpus("-")
    assert documents(corpus) == sorted(AUTUMN)
    assert prepare_corpus("-").fingerprint == corpus.fingerprint
    spec = standard_input.with_received("-\nb.txt").split("\n")[0]
    piped(monkeypatch, b"")
    assert prepare_corpus(spec).fingerprint == corpus.fingerprint, "kept in the cache"
    kept = standard_input.text_received(spec.removeprefix("-#sha256="))
    kept.unlink()
    with pytest.raises(CorpusError, match="no longer kept: pipe the same text in again"):
        prepare_corpus(spec)
    piped(monkeypatch, b"x")
    with pytest.raises(CorpusError, match="another text came this time"):
        prepare_corpus(spec)
    piped(monkeypatch, text)
    assert prepare_corpus(spec).fingerprint == corpus.fingerprint


def test_nothing_in_standard_input_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"")
    with pytest.raises(CorpusError, match="standard input is empty: pipe a text into it"):
        prepare_corpus("-")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: True))
    with pytest.raises(CorpusError, match="write `cat a.txt"):
        prepare_corpus("-")


# --- running text

DIALOGUE = [line for i in range(200) for line in (f"{i}장이 지나갔다.", "“네.”", "“그래?”")]


@pytest.mark.parametrize("between", ["\n", "\n\n", "\n \n", "\r\n\u3000\r\n"])
@pytest.mark.parametrize("by", ["", "#by=line", "#by=paragraph"])
def test_dialogue_that_recurs_is_kept(between: str, by: str) -> None:
    Path("novel.txt").write_bytes(between.join(DIALOGUE).encode())
    if by == "#by=paragraph" and between == "\n":
        return
    corpus = prepare_corpus(f"novel.txt{by}")
    assert Counter(documents(corpus)) == Counter(DIALOGUE)
    held_out = {*corpus.documents("test"), *corpus.documents("validation")}
    assert not held_out & set(corpus.documents("train"))


def test_dialogue_that_two_novels_share_is_kept() -> None:
    Path("novels").mkdir()
    for name in ("train", "test"):
        text = "\n".join(f"{name} {line}" if "장이" in line else line for line in DIALOGUE)
        Path(f"novels/{name}.txt").write_text(text, encoding="utf-8")
    corpus = prepare_corpus("novels")
    assert Counter(documents(corpus))["“네.”"] == 400


def test_a_line_of_train_that_a_held_out_file_holds_is_left_out() -> None:
    lines = [f"오늘의 문장은 {i}번이다" for i in range(60)]
    Path("own/train.txt").write_text("\n".join([*lines, "짧다", *lines]), encoding="utf-8")
    Path("own/test.txt").write_text("\n".join([*lines[:9], "짧다"]), encoding="utf-8")
    corpus = prepare_corpus("own")
    assert list(corpus.documents("test")) == [*lines[:9], "짧다"]
    assert corpus.duplicates == 18
    kept = [*corpus.documents("train"), *corpus.documents("validation")]
    assert Counter(kept) == Counter(["짧다", *lines[9:], *lines[9:]])


@pytest.mark.parametrize(("lines", "blank", "documents_"), [(400, 1, 400), (60, 59, 60)])
def test_a_stray_blank_line_makes_no_paragraphs(lines: int, blank: int, documents_: int) -> None:
    texts = [f"리뷰 {i}번 재미있었다" for i in range(lines)]
    ends = ["\n\n" if i < blank else "\n" for i in range(lines)]
    Path("c.txt").write_text("".join(map("".join, zip(texts, ends, strict=True))), encoding="utf-8")
    assert len(documents(prepare_corpus("c.txt"))) == documents_


def test_a_paragraph_is_kept_whole() -> None:
    paragraphs = [f"{i}장.\n  그날은 비가 왔다." for i in range(300)]
    Path("c.txt").write_text("\n\n\n".join(paragraphs) + "\n", encoding="utf-8")
    assert documents(prepare_corpus("c.txt")) == sorted(paragraphs)
