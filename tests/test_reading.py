"""`--data SPEC`: the grammar, and what is read from each kind of source."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semigpt.corpus import Corpus, news, prepare_corpus
from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.parquet import is_plain
from semigpt.corpus.plain import reads_alone
from semigpt.corpus.reading import Reading
from semigpt.corpus.request import FileOptions
from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import (
    FileSource,
    FolderSource,
    HubSource,
    NewsSource,
    Source,
    identity,
    parse_spec,
)
from semigpt.errors import CorpusError

LINES = [f"{i}번째 줄입니다." for i in range(200)]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "줄.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def prepare(spec: Path | str, column: str | None = None) -> Corpus:
    return prepare_corpus(str(spec), column=column)


def everything(corpus: Corpus) -> list[str]:
    return sorted(text for split in corpus.splits for text in corpus.documents(split))


# --- the grammar


def test_news_and_hub_names_are_parsed_with_their_options() -> None:
    assert parse_spec("news") == NewsSource()
    assert parse_spec("news#articles=22194,seed=7") == NewsSource(22194, 7)
    assert parse_spec("news#articles=22_194") == NewsSource(22194)
    assert parse_spec("hf:org/name") == HubSource("org/name")
    spec = "hf:org/na.me-1#config=ko,revision=v1.0,split=train,streaming=no"
    assert parse_spec(spec) == HubSource("org/na.me-1", "ko", "v1.0", "train", streaming=False)


def test_files_folders_and_patterns_are_parsed(tmp_path: Path, text_file: Path) -> None:
    other = tmp_path / "more" / "b.TXT.gz"
    other.parent.mkdir()
    other.write_bytes(b"")
    assert parse_spec(str(text_file)) == FileSource((text_file,))
    assert parse_spec(f"{text_file}#by=paragraph") == FileSource(
        (text_file,), FileOptions("paragraph")
    )
    assert parse_spec(str(tmp_path / "*.txt")) == FileSource((text_file,))
    assert parse_spec(f"{tmp_path}/**/*.[tT]*") == FileSource((other, text_file))
    assert parse_spec(f"{tmp_path}#split=train,by=line") == FolderSource(
        tmp_path, FileOptions("line"), None, "train"
    )


@pytest.mark.parametrize(
    "name", ["a#b.txt", "a#by=line", "b[1]*?.txt", "c::d.txt", "e, f=g.txt", "한 글.txt"]
)
def test_a_path_that_exists_is_itself_whatever_its_signs(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "줄.txt" if not name.endswith(".txt") else tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(LINES), encoding="utf-8")
    assert everything(prepare(tmp_path / name)) == sorted(LINES)
    assert everything(prepare(f"{tmp_path / name}#by=line")) == sorted(LINES)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "--data is empty"),
        ("no/such/file.txt", "no/such/file.txt: no such file or folder"),
        ("org/name", "a dataset on the Hub is written hf:org/name"),
        ("no/such/*.txt", "no file matches"),
        ("news#article=3", "no option 'article': this kind of source knows articles, seed"),
        ("news#articles=0", "not a whole number of at least 1"),
        ("news#seed=-1", "not a whole number"),
        ("news#articles=3,articles=4", "twice"),
        ("news#articles=3,seed", "'seed' is not an option: write key=value"),
        ("hf:org/name#branch=main", "knows config, revision, split, streaming"),
        ("hf:org/name#streaming=perhaps", "neither yes nor no"),
        ("hf:../name", "write hf:ORG/NAME"),
        ("hf:a/b/c", "write hf:ORG/NAME"),
        ("x" * 5000, "cannot be opened"),
    ],
)
def test_a_spec_that_cannot_be_is_one_line(spec: str, message: str) -> None:
    with pytest.raises(CorpusError) as caught:
        parse_spec(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_another_kind_or_unit_is_refused(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "책.pptx").write_bytes(b"x")
    (tmp_path / "빈").mkdir()
    with pytest.raises(
        CorpusError, match=r"책\.pptx: files of this kind are not read here: .* read are \.txt, "
    ):
        prepare(tmp_path / "책.pptx")
    with pytest.raises(CorpusError, match="by=word is not one of line, paragraph, document"):
        prepare(f"{text_file}#by=word")
    with pytest.raises(CorpusError, match="빈: no file in it is of a kind that is read here"):
        prepare(tmp_path / "빈")


def test_parsing_and_reopening_import_nothing_heavy(tmp_path: Path, text_file: Path) -> None:
    """What `semigpt --help` and a second run pay for."""
    program = (
        "import sys; from semigpt.corpus import prepare_corpus; from pathlib import Path;"
        "prepare_corpus(sys.argv[1], cache=Path(sys.argv[2]));"
        "heavy = {'torch', 'datasets', 'pandas', 'pyarrow'};"
        "print(*heavy.intersection(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(text_file), str(tmp_path / "cache")]
    first, second = (
        subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60
        ).stdout.split()
        for _ in range(2)
    )
    assert first == second == []


def test_what_identifies_a_source(tmp_path: Path, text_file: Path) -> None:
    """All that may change the text changes the identity, and nothing else does."""
    folder = tmp_path / "글"
    folder.mkdir()
    sources: list[Source] = [
        *(NewsSource(articles, seed) for articles in (None, 3) for seed in (0, 1)),
        *(FileSource((text_file,), FileOptions(by)) for by in (None, "line", "document")),
        FolderSource(folder),
        FolderSource(folder, FileOptions("line")),
        FolderSource(folder, config="ko"),
        FolderSource(folder, split="train"),
        HubSource("a/b"),
        HubSource("a/c"),
        HubSource("a/b", config="ko"),
        HubSource("a/b", revision="v1"),
        HubSource("a/b", split="train"),
    ]
    (folder / "a.txt").write_text("가", encoding="utf-8")
    found = [json.dumps(identity(source)) for source in sources]
    assert len(set(found)) == len(sources)
    assert found == [json.dumps(identity(source)) for source in sources]
    assert identity(HubSource("a/b", streaming=False)) == identity(HubSource("a/b"))
    assert identity(NewsSource(news.DEFAULT_ARTICLES)) == identity(NewsSource())
    for path, source in ((text_file, sources[4]), (folder / "a.txt", sources[7])):
        before = identity(source)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        touched = identity(source)
        assert touched != before
        status = path.stat()
        path.write_bytes(path.read_bytes() + b"a")
        os.utime(path, ns=(0, status.st_mtime_ns))
        assert identity(source) != touched, "longer, at the same time of change"
    before = identity(sources[7])
    (folder / "아래").mkdir()
    assert identity(sources[7]) == before
    (folder / "아래" / "b.txt").write_text("나", encoding="utf-8")
    assert identity(sources[7]) != before


# --- what a document is


def test_lines_paragraphs_and_documents(tmp_path: Path, text_file: Path) -> None:
    novel = tmp_path / "소설.txt"
    paragraphs = [f"{i}장.\n그날은 비가 왔다." for i in range(100)]
    novel.write_bytes(
        ("\r\n\r\n\r\n".join(paragraphs) + "\r\n\r\n").replace("\n그", "\r\n그").encode()
    )
    assert everything(prepare(novel)) == sorted(paragraphs), (
        "blank lines: a document is a paragraph"
    )
    assert everything(prepare(text_file)) == sorted(LINES), "no blank lines: a document is a line"
    whole = prepare(f"{text_file}#by=document")
    assert whole.text("train") + whole.text("test") == "\n".join(LINES)
    assert prepare(f"{novel}#by=line").document_count("train") > 50


def test_json_lines_tables_and_parquet_hold_what_was_written(tmp_path: Path) -> None:
    texts = ["007", "NA", "null", "3.0", "", "True", '따옴표 "안"', "줄\n바꿈", *LINES]
    pq.write_table(pa.table({"n": list(range(len(texts))), "text": texts}), tmp_path / "a.parquet")
    rows = "".join(f'{i},"{text.replace(chr(34), chr(34) * 2)}"\n' for i, text in enumerate(texts))
    (tmp_path / "a.csv").write_text("n,text\n" + rows, encoding="utf-8")
    lines = "".join(json.dumps({"n": i, "text": text}) + "\n" for i, text in enumerate(texts))
    (tmp_path / "a.jsonl").write_text(lines, encoding="utf-8")
    expected = sorted(filter(None, texts))
    for name in ("a.parquet", "a.csv", "a.jsonl"):
        assert everything(prepare(tmp_path / name)) == expected, name


def test_the_column_is_the_one_asked_for_or_document_or_text_or_the_only_one(
    tmp_path: Path,
) -> None:
    def table(name: str, **columns: list[str] | list[int]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    others = [f"제목 {i}" for i in range(200)]
    both = table("a.parquet", title=others, text=others, document=LINES)
    assert prepare(both).column == "document"
    assert everything(prepare(both, column="title")) == sorted(others)
    assert prepare(table("b.parquet", title=others, text=LINES)).column == "text"
    assert prepare(table("c.parquet", n=list(range(200)), 본문=LINES)).column == "본문"
    with pytest.raises(
        CorpusError, match=r"which column is the text\? Say --column with one of title, press"
    ):
        prepare(table("d.parquet", title=others, press=others))
    with pytest.raises(
        CorpusError, match="no column 'body': its columns are title, text, document"
    ):
        prepare(both, column="body")
    with pytest.raises(CorpusError, match="the column 'n' does not hold text"):
        prepare(tmp_path / "c.parquet", column="n")
    with pytest.raises(CorpusError, match="no column holds text: its columns are n"):
        prepare(table("e.parquet", n=[1, 2]))
    (tmp_path / "f.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(CorpusError, match="no column 'text': its columns are a, b"):
        prepare(tmp_path / "f.csv", column="text")
    (tmp_path / "g.jsonl").write_text('{"a": "x", "b": 1}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"g\.jsonl: no column 'text': its columns are a, b"):
        prepare(tmp_path / "g.jsonl", column="text")


def test_json_files_share_their_column_and_one_without_it_is_named(tmp_path: Path) -> None:
    for name, row in {"a.jsonl": {"text": "하나", "n": 1}, "b.jsonl": {"뜻": "둘"}}.items():
        (tmp_path / name).write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(CorpusError, match=r"b\.jsonl: no column 'text': its columns are 뜻"):
        prepare(tmp_path)
    (tmp_path / "b.jsonl").write_text('{"본문": "둘", "뜻": "셋"}', encoding="utf-8")
    corpus = prepare(tmp_path)
    assert set(everything(corpus)) == {"하나", "둘"}
    assert "b.jsonl: no column 'text' as in files before it, so '본문' was read" in corpus.findings


def test_a_column_of_numbers_stays_as_written(tmp_path: Path) -> None:
    numbers = [f"{i:04d}" for i in range(200)]
    for separator, name in ((",", "a.csv"), ("\t", "a.tsv")):
        rows = "\n".join(f"가{separator}{number}" for number in numbers)
        (tmp_path / name).write_text(f"title{separator}text\n{rows}", encoding="utf-8")
        assert everything(prepare(tmp_path / name)) == numbers


def test_control_characters_inside_json_stay(tmp_path: Path) -> None:
    content = '{"text": "가\0나"}\n{"text": "다\x07\x1f라"}\n{"text": "\t마"}'
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    corpus = prepare(tmp_path / "a.jsonl")
    assert corpus.text("train") + corpus.text("test") == "가\0나다\x07\x1f라\t마"


def test_a_column_with_gaps_holds_text(tmp_path: Path) -> None:
    rows = [{"text": None}, {"text": "가"}, {"n": 1}, {"text": "나", "n": None}, {"text": None}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    corpus = prepare(tmp_path / "a.jsonl", column="text")
    assert corpus.text("train") + corpus.text("test") == "가나"


def test_a_resumed_reading_names_the_line_of_an_error(tmp_path: Path) -> None:
    rows = [json.dumps({"text": line}) for line in LINES[:150]]
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, "{"]), encoding="utf-8")
    source = parse_spec(str(tmp_path / "a.jsonl"))
    with quiet_datasets():
        first = open_source(source, None, tmp_path)
        assert len(list(islice(first.splits[""](), 120))) == 120
        second = open_source(source, None, tmp_path)
        second.resume(first.state())
        with pytest.raises(CorpusError, match=r"a\.jsonl, line 151: not JSON"):
            list(second.splits[""]())


def test_a_reading_resumes_after_any_document(tmp_path: Path) -> None:
    """The state is JSON, and the resumed reading ends as one that was not stopped."""
    folder = tmp_path / "글"
    folder.mkdir()
    (folder / "a.txt").write_text("\n".join(LINES[:5]), encoding="cp949")
    (folder / "b.txt").write_text("\n\n".join(LINES[5:9]), encoding="utf-16")
    (folder / "c.jsonl").write_text('{"text": "하나"}\n\n{"text": "둘"}', encoding="utf-8")

    def opened() -> Reading:
        return open_source(parse_spec(str(folder)), None, tmp_path)

    def found(reading: Reading) -> tuple[object, ...]:
        return reading.column, reading.notes, reading.encodings, reading.columns

    with quiet_datasets():
        whole = opened()
        expected = [text for text, _ in whole.splits[""]()]
        assert len(expected) == 11
        assert whole.encodings == {"CP949": 1, "UTF-16": 1, "UTF-8": 1}
        for number in range(1, 11):
            first = opened()
            texts = [text for text, _ in islice(first.splits[""](), number)]
            second = opened()
            second.resume(json.loads(json.dumps(first.state())))
            texts += [text for text, _ in second.splits[""]()]
            assert texts == expected
            assert found(second) == found(whole)


# --- folders


def test_a_folder_of_files_is_one_text(tmp_path: Path, text_file: Path) -> None:
    (tmp_path / "아래").mkdir()
    (tmp_path / "아래" / "b.jsonl").write_text('{"text": "아래에 있는 글"}\n', encoding="utf-8")
    (tmp_path / "메모.pptx").write_bytes(b"x")
    (tmp_path / ".숨김.txt").write_text("숨은 글", encoding="utf-8")
    corpus = prepare(tmp_path)
    assert everything(corpus) == sorted([*LINES, "아래에 있는 글"])
    assert any("메모.pptx" in finding for finding in corpus.findings)


def test_many_files_make_few_notes(tmp_path: Path) -> None:
    for i in range(40):
        (tmp_path / f"{i}.txt").write_text("\n".join([str(i), *LINES]), encoding="cp949")
    findings = prepare(tmp_path).findings
    assert "0.txt and 39 more: in CP949, and read so" in findings
    assert sum("one document a line" in finding for finding in findings) == 1


def test_files_named_by_split_keep_their_splits(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n".join(LINES), encoding="cp949")
    (tmp_path / "dev.txt").write_text("검증 하나\n검증 둘", encoding="utf-8")
    (tmp_path / "test.txt").write_text("시험 하나", encoding="utf-8")
    (tmp_path / "other.txt").write_text("다른 글", encoding="utf-8")
    corpus = prepare(tmp_path)
    assert list(corpus.documents("validation")) == ["검증 하나", "검증 둘"]
    assert list(corpus.documents("test")) == ["시험 하나"]
    assert list(corpus.documents("train")) == LINES
    assert corpus.split_rule == "own"
    assert any("other.txt" in finding for finding in corpus.findings), (
        "nothing is passed over in silence"
    )
    alone = prepare(f"{tmp_path}#split=train")
    assert everything(alone) == sorted(LINES)
    with pytest.raises(CorpusError, match="no split 'nope': it has train, validation, test"):
        prepare(f"{tmp_path}#split=nope")


def test_files_that_only_look_like_a_split_are_not_lost(tmp_path: Path) -> None:
    """The library would take `test …` for a test split and leave the rest unread."""
    (tmp_path / "test 노트.txt").write_text("\n".join(LINES[:100]), encoding="utf-8")
    (tmp_path / "일기.txt").write_text("\n".join(LINES[100:]), encoding="utf-8")
    assert everything(prepare(tmp_path)) == sorted(LINES)


def test_a_readme_declares_configurations_splits_and_separators(tmp_path: Path) -> None:
    card = (
        '---\nconfigs:\n- config_name: ko\n  sep: ";"\n  data_files:\n'
        "  - split: train\n    path: ko.csv\n  - split: test\n    path: held.csv\n"
        "- config_name: plain\n  data_files:\n  - split: train\n    path: plain.csv\n---\n"
    )
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    rows = "\n".join(f"{i};{line}" for i, line in enumerate(LINES))
    (tmp_path / "ko.csv").write_text(f"id;document\n{rows}", encoding="utf-8")
    (tmp_path / "held.csv").write_text("id;document\n1;시험", encoding="utf-8")
    (tmp_path / "plain.csv").write_text(
        "document,id\n" + "\n".join(f"{x},1" for x in LINES), encoding="utf-8"
    )
    corpus = prepare(f"{tmp_path}#config=ko")
    assert list(corpus.documents("test")) == ["시험"]
    assert sorted([*corpus.documents("train"), *corpus.documents("validation")]) == sorted(LINES)
    assert everything(prepare(f"{tmp_path}#config=plain")) == sorted(LINES)
    with pytest.raises(CorpusError, match=r"cannot be read as a dataset .*Available"):
        prepare(f"{tmp_path}#config=en")


def test_a_readme_that_declares_another_kind_is_read_by_the_library(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: ko\n  data_files: 글.json\n---\n"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    rows = "\n".join(json.dumps({"text": line}) for line in LINES)
    (tmp_path / "글.json").write_text(rows, encoding="utf-8")
    assert everything(prepare(tmp_path)) == sorted(LINES)


def test_a_readme_that_declares_a_missing_file_is_refused(tmp_path: Path, text_file: Path) -> None:
    card = "---\nconfigs:\n- config_name: ko\n  data_files: 없음.csv\n---\n"
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    with pytest.raises(CorpusError, match="cannot be read as a dataset"):
        prepare(tmp_path)


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, disable_progress_bars

    disable_progress_bars()
    splits = {"train": LINES, "validation": ["검증"], "test": ["시험"]}
    saved = DatasetDict(
        {name: Dataset.from_dict({"text": texts}) for name, texts in splits.items()}
    )
    saved.save_to_disk(tmp_path / "all", num_proc=None)
    saved["train"].save_to_disk(tmp_path / "one")
    corpus = prepare(tmp_path / "all")
    assert {split: list(corpus.documents(split)) for split in corpus.splits} == splits
    assert everything(prepare(tmp_path / "one")) == sorted(LINES)
    assert everything(prepare(f"{tmp_path / 'all'}#split=train")) == sorted(LINES)
    with pytest.raises(CorpusError, match="without configurations: leave config= out"):
        prepare(f"{tmp_path / 'all'}#config=ko")


CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: train-*.parquet
  - split: test
    path: test-*.parquet
---
# 책
"""


def parquet_folder(folder: Path, card: str = CARD) -> Path:
    folder.mkdir()
    (folder / "README.md").write_text(card, encoding="utf-8")
    for name, texts in {
        "train-1": ["하나", None, "둘"],
        "train-0": ["셋", ""],
        "test-0": ["넷"],
        ".train-2": ["숨은"],
    }.items():
        table = pa.table({"document": texts, "n": list(range(len(texts)))})
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


def test_plain_parquet_is_read_as_the_library_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = parquet_folder(tmp_path / "책")
    assert reads_alone(parse_spec(str(folder)))
    with monkeypatch.context() as patch:
        patch.setattr("semigpt.corpus.library.load_file", None)
        patch.setattr("semigpt.corpus.folders._builder", None)
        alone = prepare_corpus(str(folder), cache=tmp_path / "alone")
    monkeypatch.setattr("semigpt.corpus.plain._only_config", lambda text: None)
    monkeypatch.setattr("semigpt.corpus.formats.is_plain", lambda path: False)
    assert not reads_alone(parse_spec(str(folder)))
    by_library = prepare_corpus(str(folder), cache=tmp_path / "library")
    assert alone.fingerprint == by_library.fingerprint
    assert alone.findings == by_library.findings
    texts = [*alone.documents("train"), *alone.documents("validation")]
    assert sorted(texts) == ["둘", "셋", "하나"]


@pytest.mark.parametrize(
    "card",
    [
        CARD.replace("config_name: default", "config_name: default\n  sep: ;"),
        CARD.replace("train-*.parquet", "**/train-*.parquet"),
        CARD.replace("train-*.parquet", "train-[01].parquet"),
        CARD.replace("train-*.parquet", "none-*.parquet"),
        CARD.replace("---\n# 책", "- config_name: other\n  data_files: x.parquet\n---\n"),
        CARD.replace("configs:", "configs: ["),
        CARD.replace("split: test", "split: train"),
    ],
)
def test_all_but_the_simplest_card_is_left_to_the_library(card: str, tmp_path: Path) -> None:
    folder = parquet_folder(tmp_path / "책", card)
    assert not reads_alone(parse_spec(str(folder)))


def test_parquet_with_nested_columns_or_damage_is_left_to_the_library(tmp_path: Path) -> None:
    path = tmp_path / "책.parquet"
    pq.write_table(pa.table({"document": ["하나"]}), path)
    assert is_plain(path)
    path.write_bytes(path.read_bytes()[:-9])
    assert not is_plain(path)
    pq.write_table(pa.table({"document": ["하나"], "tags": [["둘"]]}), path)
    assert not is_plain(path)
    column = pa.array(["하나"]).dictionary_encode()
    pq.write_table(pa.table({"document": column}), path)
    assert not is_plain(path)
