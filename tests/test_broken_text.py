"""Text files in no encoding that is read: how they are refused, and what the doctor repairs."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from semigpt.corpus import prepare_corpus
from semigpt.corpus.doctor.run import check, clean
from semigpt.errors import CorpusError

LINES = [f"가을 글 {number}번 이야기를 한다." for number in range(60)]
TEXT = "\n".join(LINES)
LOST = TEXT.replace("30번", "30\ufffd번")

# The bytes, where reading them stops, the text as repaired, and how many places that takes.
BROKEN: dict[str, tuple[bytes, str, str, int]] = {
    "one byte": (
        TEXT.encode().replace("30번".encode(), b"30\xff" + "번".encode()),
        "line 31, byte 1,143: not valid UTF-8",
        LOST,
        1,
    ),
    "lines of CP949": (
        "\n".join(LINES[:50]).encode() + b"\n" + "\n".join(LINES[50:]).encode("cp949"),
        "line 51",
        TEXT,
        10,
    ),
    "UTF-16": (TEXT.encode("utf-16-le"), "line 1, byte 0: in UTF-16 without", TEXT, 1),
    "UTF-16 in ASCII": (b"\0p\0l\0a\0i\0n\0\n" * 40, "in UTF-16 without", "plain\n" * 40, 1),
    "Johab": (TEXT.encode("johab"), "line 1, byte 21: not valid CP949", TEXT, 1),
    "ISO-2022-KR": (TEXT.encode("iso2022_kr"), "in ISO-2022-KR", TEXT, 1),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_training_refuses_is_repaired_when_asked(tmp_path: Path, case: str) -> None:
    content, place, text, places = BROKEN[case]
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        prepare_corpus(str(path), cache=tmp_path / "cache")
    message = str(caught.value)
    assert place in message
    assert f"semigpt text clean {path} --fix encoding --out a-clean" in message
    assert "save it as UTF-8" not in message
    with pytest.raises(CorpusError, match="--fix encoding"):
        clean(str(path), tmp_path / "no", workers=1)
    assert check(str(path), workers=1).rows["encoding"].places == places
    report = clean(str(path), tmp_path / "out", fixes=frozenset({"encoding"}), workers=1)
    row = report.rows["encoding"]
    assert (row.documents, row.places, row.repaired) == (1, places, places)
    assert set(written(tmp_path / "out")) == set(text.rstrip("\n").split("\n"))


def written(folder: Path) -> list[str]:
    """The documents of a cleaned corpus."""
    (shard,) = (folder / "data").glob("*.parquet")
    texts: list[str] = pq.read_table(shard)["text"].to_pylist()
    return texts


@pytest.mark.parametrize("number", ["010-1234-5678", "01012345678", "02-123-4567"])
def test_a_telephone_number_that_is_an_example_is_masked(tmp_path: Path, number: str) -> None:
    (tmp_path / "a.txt").write_text(f"전화는 {number} 이다.\n" * 2, encoding="utf-8")
    clean(str(tmp_path / "a.txt"), tmp_path / "out", mask_personal=True, workers=1)
    assert set(written(tmp_path / "out")) == {"전화는 [전화번호] 이다."}


def test_a_next_line_is_no_misread_korean() -> None:
    from semigpt.corpus.doctor.findings import counted_signs

    found = counted_signs({"가": 5, "\x85": 3, "\r": 1})
    assert not any("misread" in name for name in found)
    assert "line ends other than \\n (1)" in found
