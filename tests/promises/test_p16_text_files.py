"""P16: text of any encoding and shape is read, or refused in one line that names file and place."""

import gzip
import io
import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from semigpt.corpus import Corpus, prepare_corpus
from semigpt.corpus.text import scan_text
from semigpt.errors import CorpusError

SENTENCES = [f"{i}번째 문장은 똠방각하가 펲시를 마신 이야기다." for i in range(120)]
TEXT = "\n".join(SENTENCES)


def prepare(folder: Path, name: str, content: bytes) -> Corpus:
    (folder / name).write_bytes(content)
    return prepare_corpus(str(folder / name), cache=folder / "cache")


def everything(corpus: Corpus) -> list[str]:
    return [text for split in corpus.splits for text in corpus.documents(split)]


def refused(folder: Path, name: str, content: bytes) -> str:
    with pytest.raises(CorpusError) as caught:
        prepare(folder, name, content)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(folder / name)), "the file is named first"
    assert not list((folder / "cache" / "corpora").iterdir()), "nothing half written"
    return message


ENCODED = {
    "UTF-8": TEXT.encode(),
    "UTF-8 with a byte order mark": b"\xef\xbb\xbf" + TEXT.encode(),
    "UTF-16": b"\xff\xfe" + TEXT.encode("utf-16-le"),
    "UTF-16 big-endian": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-32": b"\xff\xfe\0\0" + TEXT.encode("utf-32-le"),
    "UTF-32 big-endian": b"\0\0\xfe\xff" + TEXT.encode("utf-32-be"),
    "CP949": TEXT.encode("cp949"),
}


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("encoding", ENCODED)
def test_every_encoding_reads_the_same(tmp_path: Path, encoding: str, compression: str) -> None:
    content = ENCODED[encoding]
    if compression == ".gz":
        content = gzip.compress(content)
    if compression == ".zst":
        content = zstandard.compress(content)
    corpus = prepare(tmp_path, f"글.txt{compression}", content)
    assert sorted(everything(corpus)) == sorted(SENTENCES)
    if encoding != "UTF-8":
        assert any(encoding.removesuffix(" big-endian") in finding for finding in corpus.findings)


def test_utf_8_that_is_valid_cp949_too_is_read_as_utf_8(tmp_path: Path) -> None:
    texts = [f"{i} 바람 마음 그림" for i in range(100)]
    content = "\n".join(texts).encode()
    assert "諛붾엺" in content.decode("cp949")
    assert sorted(everything(prepare(tmp_path, "a.txt", content))) == sorted(texts)


def test_tables_and_json_lines_are_decoded_too(tmp_path: Path) -> None:
    table = "번호,document\r\n" + "\r\n".join(f'{i},"{text}"' for i, text in enumerate(SENTENCES))
    lines = "\n".join(json.dumps({"document": text}, ensure_ascii=False) for text in SENTENCES)
    for name, content in {
        "표.csv": table.encode("cp949"),
        "줄.jsonl": b"\xef\xbb\xbf" + lines.encode(),
        "표.tsv.gz": gzip.compress(table.replace(",", "\t").encode("utf-16")),
    }.items():
        assert sorted(everything(prepare(tmp_path, name, content))) == sorted(SENTENCES), name


def test_decomposed_hangul_is_composed_and_counted(tmp_path: Path) -> None:
    corpus = prepare(tmp_path, "mac.txt", unicodedata.normalize("NFD", TEXT).encode())
    assert sorted(everything(corpus)) == sorted(SENTENCES)
    assert "120 documents held decomposed characters (NFD), now composed (NFC)" in corpus.findings


def test_nuls_pass_through_exactly(tmp_path: Path) -> None:
    texts = [text.replace(" ", "\0") for text in SENTENCES]
    assert sorted(everything(prepare(tmp_path, "a.txt", "\n".join(texts).encode()))) == sorted(
        texts
    )
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    assert sorted(everything(prepare(tmp_path, "b.jsonl", lines.encode()))) == sorted(texts)
    rows = "text,n\n" + "\n".join(f"{text},1" for text in texts)
    assert sorted(everything(prepare(tmp_path, "c.csv", rows.encode()))) == sorted(texts)
    pq.write_table(pa.table({"text": texts}), tmp_path / "d.parquet")
    content = (tmp_path / "d.parquet").read_bytes()
    assert sorted(everything(prepare(tmp_path, "d.parquet", content))) == sorted(texts)


def test_lone_surrogates_pass_through_json_and_are_refused_in_utf8(tmp_path: Path) -> None:
    texts = [text + "\ud800" for text in SENTENCES] + ["\udfff 앞에 있다", "짝이 맞는 😀"]
    lines = "\n".join(json.dumps({"text": text}) for text in texts)
    corpus = prepare(tmp_path, "반쪽.jsonl", lines.encode())
    assert sorted(everything(corpus)) == sorted(texts)
    everywhere = [corpus.characters(split) for split in corpus.splits]
    assert sum(everywhere) == sum(map(len, texts))


def test_lone_surrogates_written_as_bytes_are_refused_at_their_place(tmp_path: Path) -> None:
    message = refused(tmp_path, "반쪽.txt", TEXT.encode() + b"\n\xed\xa0\x80")
    assert f"line 121, byte {len(TEXT.encode()) + 1:,}: " in message


def test_a_line_of_twenty_megabytes(tmp_path: Path) -> None:
    line = "가나다라마바사아자차 " * 640_000
    assert len(line.encode()) > 19_000_000
    corpus = prepare(tmp_path, "긴줄.txt", line.encode())
    assert corpus.text("train") + corpus.text("test") == line


def test_empty_documents_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [{"text": text} for text in SENTENCES] + [
        {"text": ""},
        {"text": " \n\t"},
        {"text": None},
        {},
    ]
    corpus = prepare(tmp_path, "빈.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert sorted(everything(corpus)) == sorted(SENTENCES)
    assert corpus.empties == 4
    assert "4 documents left out: empty" in corpus.findings


def test_nothing_at_all_is_refused(tmp_path: Path) -> None:
    contents = {
        "a.txt": b"",
        "b.txt": b"\n\n \n",
        "c.jsonl": b"",
        "d.csv": b"",
        "e.csv": b"text,n\n",
        "f.txt": b"\xef\xbb\xbf",
        "g.txt.gz": gzip.compress(b""),
        "h.parquet": b"",
    }
    for name, content in contents.items():
        assert "no text in it" in refused(tmp_path, name, content), name


def test_an_empty_file_among_others_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "글"
    folder.mkdir()
    (folder / "a.txt").write_bytes(b"")
    (folder / "b.txt").write_text(TEXT, encoding="utf-8")
    corpus = prepare_corpus(str(folder), cache=tmp_path / "cache")
    assert sorted(everything(corpus)) == sorted(SENTENCES)


NOISE = np.random.default_rng(0).bytes(4000).hex().encode()
BROKEN = {
    "not text at all": ("a.txt", b"\x80\x81\xff\n" * 9, "line 1, byte 0"),
    "UTF-8 that turns bad": (
        "b.txt",
        TEXT.encode() + b"\nx\xff",
        f"line 121, byte {len(TEXT.encode()) + 2:,}: not valid UTF-8",
    ),
    "UTF-8 cut inside a character": ("c.txt", "가나다\n라".encode()[:-1], "line 2, byte 10"),
    "CP949 that turns bad": (
        "d.txt",
        TEXT.encode("cp949") + b"\n\xff\xff",
        f"line 121, byte {len(TEXT.encode('cp949')) + 1:,}: not valid CP949",
    ),
    "UTF-16 cut in half": (
        "e.txt",
        TEXT.encode("utf-16")[:-1],
        f"line 120, byte {len(TEXT.encode('utf-16')) - 2:,}: not valid UTF-16",
    ),
    "JSON cut": ("f.jsonl", b'{"text": "a"}\n\n{"text": "b"', "line 3: not JSON"),
    "JSON of another shape": ("g.jsonl", b'{"text": "a"}\n["b"]', "line 2: a list, not an object"),
    "JSON too deep": ("h.jsonl", b'{"text": ' + b"[" * 200_000, "line 1: not JSON"),
    "a number for a text": (
        "i.jsonl",
        b'{"text": "a"}\n{"text": 3}',
        "line 2: the column 'text' holds a number",
    ),
    "a ragged table": ("j.csv", b"text,n\na,1\nb,2,3\n", "line 3"),
    "an open quote": ("k.csv", b'text,n\n"a,1\nb, c,2\n', "line 2: cannot be read as a table"),
    "gzip cut": ("l.txt.gz", gzip.compress(NOISE)[:-30], "compressed"),
    "gzip that is none": ("m.txt.gz", b"hello", "Not a gzipped file"),
    "gzip changed": ("n.txt.gz", gzip.compress(NOISE)[:-6] + b"\0\0\0\0\0\0", "compressed text"),
    "zstd cut": ("o.txt.zst", zstandard.compress(NOISE)[:-30], "cut short"),
    "zstd that is none": ("p.jsonl.zst", b"hello there", "compressed text"),
    "Parquet cut": ("q.parquet", b"PAR1 and no more", "cannot be read as parquet"),
    "Parquet in gzip cut": ("r.parquet.gz", gzip.compress(NOISE)[:-30], "compressed Parquet"),
    "Parquet in zstd cut": ("s.parquet.zst", zstandard.compress(NOISE)[:-30], "compressed Parquet"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_file_is_refused_at_its_place(tmp_path: Path, what: str) -> None:
    name, content, place = BROKEN[what]
    assert place.lower() in refused(tmp_path, name, content).lower()


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64])
def test_a_scan_does_not_depend_on_where_chunks_end(
    monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    texts = [
        "",
        "가\n나",
        "\n\n가\n나",
        "가\n\n나",
        "가\r\n\r\n나",
        "가\n\n",
        "가\r\rA",
        "a\n \n나",
    ]
    contents = [text.encode(codec) for text in texts for codec in ("utf-8", "cp949", "utf-16")]
    contents += [content for _, content, place in BROKEN.values() if "line" in place]

    def scans() -> list[object]:
        found: list[object] = []
        for content in contents:
            try:
                found.append(scan_text(lambda content=content: io.BytesIO(content), "x"))
            except CorpusError as error:
                found.append(str(error))
        return found

    whole = scans()
    shapes = [(scan.lines, scan.paragraphs) for scan in whole[:24:3]]
    assert shapes == [(0, 0), (2, 1), (2, 1), (2, 2), (2, 2), (1, 1), (2, 2), (2, 2)]
    monkeypatch.setattr("semigpt.corpus.text.CHUNK_BYTES", chunk)
    assert scans() == whole


def test_the_broken_file_among_many_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "글"
    folder.mkdir()
    for i in range(5):
        (folder / f"{i}.jsonl").write_text(json.dumps({"text": f"{i}번 글"}), encoding="utf-8")
    (folder / "3.jsonl").write_text('{"text": "3번 글"}\n{', encoding="utf-8")
    with pytest.raises(CorpusError, match=r"3\.jsonl, line 2: not JSON"):
        prepare_corpus(str(folder), cache=tmp_path / "cache")
