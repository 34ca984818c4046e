"""Folders and names: every file is read or named, whatever lies beside it."""

import gzip
import os
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from semigpt.corpus import Corpus, prepare_corpus
from semigpt.corpus.split_names import splits_by_name
from semigpt.errors import CorpusError

AUTUMN = [f"가을 글 {i}번" for i in range(60)]
SPRING = [f"봄 글 {i}번" for i in range(60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "글"
    path.mkdir()
    (path / "가을.txt").write_text("\n".join(AUTUMN), encoding="cp949")
    return path


def prepare(spec: Path | str, column: str | None = None) -> Corpus:
    return prepare_corpus(str(spec), column=column)


def documents(corpus: Corpus) -> list[str]:
    return sorted(text for split in corpus.splits for text in corpus.documents(split))


def not_read(corpus: Corpus) -> str:
    return " ".join(finding for finding in corpus.findings if finding.startswith("not read"))


@pytest.mark.parametrize("ending", ["png", "mp3", "xml", "h5", "exe", "mp4", "ini", "npy"])
def test_what_lies_beside_a_text_changes_nothing(folder: Path, ending: str) -> None:
    for i in range(3):
        (folder / f"{i}.{ending}").write_bytes(b"\x89PNG\r\n")
    corpus = prepare(folder)
    assert documents(corpus) == sorted(AUTUMN)
    assert f"3 .{ending} (0.{ending}, …)" in not_read(corpus)


def test_every_file_is_read_or_named(folder: Path, tmp_path: Path) -> None:
    (folder / "아래").mkdir()
    (folder / "아래" / "표.csv").write_text("n,text\n1,NA\n2,null\n", encoding="utf-8")
    with zipfile.ZipFile(folder / "묶음.zipx", "w") as archive:
        archive.writestr("a.txt", "안의 글")
    (folder / "README").write_text("끝없는 이름", encoding="utf-8")
    for name in (".숨김.txt", "~$가을.docx"):
        (folder / name).write_text("숨은 글", encoding="utf-8")
    (folder / "없는곳.txt").symlink_to(tmp_path / "없음.txt")
    os.mkfifo(folder / "관.txt")
    run = folder / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.toml").write_text("", encoding="utf-8")
    (run / "metrics.jsonl").write_text('{"loss": 1}\n', encoding="utf-8")
    corpus = prepare(folder, column="text")
    assert documents(corpus) == sorted([*AUTUMN, "NA", "null"])
    for told in (
        "1 .zipx (묶음.zipx)",
        "1 without an ending (README)",
        "2 hidden (.숨김.txt, …)",
        "1 a link to nothing (없는곳.txt)",
        "1 not a regular file (관.txt)",
        "1 a run of semigpt (runs/a)",
    ):
        assert told in not_read(corpus)
    with pytest.raises(CorpusError, match="a run of semigpt, not a text"):
        prepare(run)


def test_a_run_that_began_after_its_text_was_staged_is_named(folder: Path) -> None:
    for spec in (str(folder), f"{folder}/**/*.t*"):
        assert not not_read(prepare(spec))
    run = folder / "runs" / "b"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.toml").touch()
    staged = prepare(folder)
    assert documents(staged) == sorted(AUTUMN)
    assert "1 a run of semigpt (runs/b)" in not_read(staged)
    assert "in a run folder: config.toml" in not_read(prepare(f"{folder}/**/*.t*"))
    joined = prepare(f"{folder}\nnews#articles=99")
    assert "1 a run of semigpt (runs/b)" in not_read(joined)


def test_links_are_followed_once(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "다른 곳"
    other.mkdir()
    (other / "봄.txt").write_text("\n".join(SPRING), encoding="utf-8")
    (other / "돌아감").symlink_to(folder)
    (folder / "a").symlink_to(other)
    (folder / "b").symlink_to(other)
    (folder / "c").symlink_to(folder)
    (folder / "하나 더.txt").symlink_to(folder / "가을.txt")
    corpus = prepare(folder)
    assert documents(corpus) == sorted([*AUTUMN, *SPRING])
    assert not not_read(corpus)


def test_a_folder_that_may_not_be_entered_is_named(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may enter it")
    (folder / "닫힘").mkdir(mode=0)
    with pytest.raises(CorpusError, match="닫힘: cannot be opened"):
        prepare(folder)


BROKEN: dict[str, tuple[bytes, str]] = {
    "a.txt": (b"\xff\xff" * 9, "line 1, byte 0"),
    "b.csv": (b'n,text\n1,"a,b', "line 2: cannot be read as a table"),
    "c.jsonl": (b'{"text": "\xea\xb8\x80"}\n{"text"\n', "line 2: not JSON"),
    "d.docx": (b"x", "is no Word document"),
    "e.zip": (b"x", "is no ZIP file"),
    "f.parquet": (b"x", "cannot be read as Parquet"),
    "g.csv": (b"a,b\n1,2\n", "no column 'text'"),
}


def test_broken_files_are_refused_or_left_out_on_request(folder: Path) -> None:
    for name, (content, message) in BROKEN.items():
        (folder / name).write_bytes(content)
        with pytest.raises(CorpusError) as caught:
            prepare(folder, column="text")
        assert name in str(caught.value)
        assert message in str(caught.value)
        assert ("#broken=skip leaves such files out" in str(caught.value)) == (name != "g.csv")
        (folder / name).unlink()
    for name, (content, _) in BROKEN.items():
        (folder / name).write_bytes(content)
    with zipfile.ZipFile(folder / "h.zip", "w") as archive:
        for name, content in {"a.pdf": "x", "b.txt": "묶음의 글"}.items():
            archive.writestr(name, content)
    corpus = prepare(f"{folder}#broken=skip", column="text")
    # What came before the break in c.jsonl is kept.
    assert documents(corpus) == sorted([*AUTUMN, "글", "묶음의 글"])
    told = " ".join(corpus.findings)
    for name, (_, message) in BROKEN.items():
        assert f"{name}" in told
        assert message in told
    assert "h.zip, a.pdf: is no PDF" in told
    assert "a.txt and 7 more: broken, and left out" in told
    with pytest.raises(CorpusError, match="no text in it"):
        prepare(f"{folder / 'a.txt'}#broken=skip")


def test_a_file_that_changes_while_it_is_read_is_refused(folder: Path) -> None:
    def grow(_documents: int, _characters: int) -> None:
        with (folder / "가을.txt").open("ab") as file:
            file.write("하나 더\n".encode("cp949"))

    (folder / "가을.txt").write_text("긴 글이다. \n" * 200_000, encoding="cp949")
    with pytest.raises(CorpusError, match=r"가을\.txt: it changed while it was read"):
        prepare_corpus(str(folder), progress=grow)


def test_a_closed_folder_is_passed_over_on_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "닫힘").mkdir()
    scandir = os.scandir

    def closed(path: Any = ".") -> object:
        if str(path).endswith("닫힘"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(CorpusError, match="닫힘: cannot be opened"):
        prepare(folder)
    corpus = prepare(f"{folder}#broken=skip")
    assert "1 a folder that cannot be opened (닫힘)" in not_read(corpus)


@pytest.mark.parametrize("name", ["글", "소설 1.5화", "모음.gz"])
def test_a_file_without_an_ending_is_read_where_nothing_else_is(
    folder: Path, tmp_path: Path, name: str
) -> None:
    content = "\n".join(SPRING).encode("cp949")
    place = tmp_path / "이름"
    place.mkdir()
    (place / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    (place / "그림").write_bytes(b"\x89PNG\r\n\0\0")
    for spec in (place, place / name, f"{place}/*"):
        corpus = prepare(spec)
        assert documents(corpus) == sorted(SPRING)
        assert f"{name}: it has no ending, so it is read as a .txt" in corpus.findings
    (folder / name).write_bytes(content)
    assert documents(prepare(folder)) == sorted(AUTUMN)
    with pytest.raises(CorpusError, match=r"pipe it in \(--data - < \S+/그림'?\)"):
        prepare(place / "그림")


def test_a_text_that_lies_there_twice_is_read_once(folder: Path) -> None:
    (folder / "사본.txt").write_text("\n".join(AUTUMN), encoding="cp949")
    corpus = prepare(folder)
    assert documents(corpus) == sorted(AUTUMN)
    assert any("사본.txt: not read, because" in finding for finding in corpus.findings)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["my_test_story.txt", "training_log.txt", "소설.txt"], {}),
        (["test_story.txt", "training_log.txt"], {}),
        (["train.txt", "other.txt"], {}),
        (["test 노트.txt", "일기.txt"], {}),
        (["train.txt", "dev.txt"], {"train": 1, "validation": 1}),
        (["ratings.txt", "ratings_train.txt", "ratings_test.txt"], {"train": 1, "test": 1}),
        (["train-00000-of-00002.csv", "train-00001-of-00002.csv", "test-00000-of-00001.csv"],
         {"train": 2, "test": 1}),
        (["train/a.txt", "train/b.txt", "eval/c.txt"], {"train": 2, "test": 1}),
        (["1.Training/a.txt", "2.Validation/a.txt"], {"train": 1, "validation": 1}),
    ],
)  # fmt: skip
def test_names_tell_splits_only_in_pairs(names: list[str], expected: dict[str, int]) -> None:
    folder = Path("글")
    splits = splits_by_name(folder, [folder / name for name in names])
    assert {split: len(paths) for split, paths in splits.items()} == expected


def test_no_file_is_left_out_of_all_splits_in_silence(folder: Path) -> None:
    for name in ("소설_train", "소설_test"):
        (folder / f"{name}.txt").write_text(f"{name}의 글이다\n", encoding="utf-8")
    corpus = prepare(folder)
    assert "가을.txt, which names no split" in not_read(corpus)
    everything = prepare(f"{folder}#split=all")
    assert documents(everything) == sorted([*AUTUMN, "소설_train의 글이다", "소설_test의 글이다"])


def test_a_pattern_reads_what_it_can(folder: Path) -> None:
    (folder / "표지.png").write_bytes(b"x")
    corpus = prepare(f"{folder}/*")
    assert documents(corpus) == sorted(AUTUMN)
    assert "표지.png" in not_read(corpus)
    (folder / "run" / "checkpoints").mkdir(parents=True)
    for name in ("config.toml", "a.txt"):
        (folder / "run" / name).write_text("달리기의 글\n" * 9, encoding="utf-8")
    corpus = prepare(f"{folder}/**/*.txt")
    assert documents(corpus) == sorted(AUTUMN)
    assert "a.txt" in not_read(corpus)
    assert "달리기의 글" in prepare(f"{folder}/run/*.txt").text("train")


# --- names


@pytest.mark.parametrize("spec", [".", "./", "../글", "$PWD", "~", "~/가을.txt"])
def test_a_place_is_found_however_it_is_called(
    folder: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    assert documents(prepare(spec.replace("$PWD", str(folder)))) == sorted(AUTUMN)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_name_is_found_in_either_form(tmp_path: Path, form: str) -> None:
    place = tmp_path / unicodedata.normalize(form, "소설")
    place.mkdir()
    (place / unicodedata.normalize(form, "봄.txt")).write_text("\n".join(SPRING), encoding="utf-8")
    for typed in ("NFC", "NFD"):
        for spec in ("소설/봄.txt", "소설", "소설/봄*.txt"):
            path = tmp_path / unicodedata.normalize(typed, spec)
            if "*" in spec and typed != form:
                continue  # the folder's own name has to be right in a pattern
            assert documents(prepare(path)) == sorted(SPRING)


def test_a_name_that_is_no_utf_8_is_kept(tmp_path: Path) -> None:
    from semigpt.config import DataSettings

    place = os.fsdecode(b"\xb1\xdb")
    (tmp_path / place).mkdir()
    (tmp_path / place / f"{place}.txt").write_text("\n".join(SPRING), encoding="cp949")
    for name in (place, f"{place}/{place}.txt"):
        kept = DataSettings(spec=str(tmp_path / name)).spec
        assert kept.endswith("%B1%DB" + "/%B1%DB.txt" * ("/" in name))
        corpus = prepare(kept)
        assert documents(corpus) == sorted(SPRING)
        assert "%B1%DB.txt: in CP949, and read so" in corpus.findings
        "".join([corpus.spec, *corpus.findings]).encode()
