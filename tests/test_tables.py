"""Tables: read as what they are, or refused with the row and the way out."""

from pathlib import Path
from typing import NamedTuple

import pytest

from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import parse_spec
from semigpt.errors import CorpusError

TEXTS = [f"본문은 여기 있다 {i}" for i in range(60)]


class Read(NamedTuple):
    documents: list[str]
    notes: list[str]


def read(path: Path, options: str = "", column: str | None = None) -> Read:
    reading = open_source(parse_spec(f"{path}{options}"), column, path.parent)
    found = [text for stream in reading.splits.values() for text, _ in stream()]
    return Read(found, reading.sentences())


def write(folder: Path, name: str, content: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


def rows(template: str) -> str:
    return "".join(template.format(i=i, text=text) for i, text in enumerate(TEXTS))


def changed(content: str, line: int, old: str, new: str) -> str:
    """`content` with a change in one line, counted from 1."""
    lines = content.splitlines(keepends=True)
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    return "".join(lines)


PLAIN = "text,label\n" + rows("{text},좋음{i}\n")
DATED = "제목,text,날짜\n" + rows("제목{i},{text},2024\n")
RATED = "id\tdocument\tlabel\n" + rows("{i}\t{text}\t1\n")
RIGHT = {
    "first row ends in a separator": ("a.csv", changed(PLAIN, 2, "좋음0", "좋음0,"), "1 rows end"),
    "every row does": ("a.csv", DATED.replace("2024", "2024,"), "60 rows end in a sep"),
    "the header does": ("a.csv", DATED.replace("날짜", "날짜,"), ""),
    "row numbers without a name": ("a.csv", "text,n\n" + rows("{i},{text},1\n"), "has no name"),
    "an index without a name": ("a.csv", ",text\n" + rows("{i},{text}\n"), ""),
    "a last field that is empty": ("a.csv", "번호,몸,\n" + rows("{i},{text},\n"), ""),
    "a title above": ("a.csv", "모음,,\n,,\n번호,본문,날짜\n" + rows("{i},{text},1\n"), "above"),
    "an unusual name beside none": ("a.csv", ",내글\n" + rows("{i},{text}\n"), "#header=none"),
    "two columns of one name": ("a.csv", "text,text\n" + rows("{text},다른\n"), ""),
    "tabs": ("a.csv", "번호\ttext\r\n" + rows("{i}\t{text}\r\n"), "by a tab"),
    "semicolons": ("a.csv", "번호;text\n" + rows("{i};{text}\n"), "by a semicolon"),
    "commas in a .tsv": ("a.tsv", "번호,text\n" + rows("{i},{text}\n"), "by a comma"),
    "sep=": ("a.csv", "sep=;\n번호;text\n" + rows("{i};{text}\n"), ""),
    "no header, numbers": ("a.csv", rows("{i},{text},1\n"), "#header=first"),
    "no header, one column": ("a.csv", rows("{text}\n"), "#header=first"),
    "a header alone of its kind": ("a.csv", "칸\n" + rows("{text}\n"), "#header=none"),
    "quotes": ("a.csv", "text,n\n" + rows('"{text}",{i}\n'), ""),
    "the only column of words": ("a.csv", "번호,몸\n" + rows("{i},{text}\n"), ""),
}


@pytest.mark.parametrize("what", RIGHT)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp949"])
def test_a_table_is_read_as_it_is_written(tmp_path: Path, what: str, encoding: str) -> None:
    name, content, note = RIGHT[what]
    found = read(write(tmp_path, name, content, encoding))
    assert found.documents == TEXTS
    said = [f for f in found.notes if f.startswith(f"{name}: ") and ": in " not in f]
    assert note in " ".join(said)
    assert len(said) == bool(note)


STRAY = {
    "two": changed(changed(RATED, 11, "본문", '"본문'), 51, "있다", '있다"').replace(
        '있다" 49', '있다 49"'
    ),
    "one": changed(RATED, 11, "본문", '"본문'),
    "one that closes early": changed(RATED, 11, "본문은", '"본문"은'),
    "two in the first rows": changed(changed(RATED, 2, "본문", '"본문'), 3, "있다 1", '있다 1"'),
}


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("what", STRAY)
def test_a_stray_quote_swallows_no_row(tmp_path: Path, what: str, separator: str) -> None:
    content = STRAY[what].replace("\t", separator)
    path = write(tmp_path, "a.tsv" if separator == "\t" else "a.csv", content)
    found = read(path)
    assert len(found.documents) == len(TEXTS)
    assert "".join(found.documents).count('"') == content.count('"')
    assert any("quotes are characters" in finding for finding in found.notes)
    assert read(path, "#quoting=none").documents == found.documents


def test_quotes_that_hold_lines_and_separators_are_quotes(tmp_path: Path) -> None:
    texts = ['그는 "응, 그래"\n하고 말했다', "첫 줄\n\n셋째 줄, 쉼표", *TEXTS]
    for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
        cells = ('"' + text.replace('"', '""') + '"' for text in texts)
        content = "".join(f"{i}{separator}{cell}\n" for i, cell in enumerate(cells))
        found = read(write(tmp_path, name, f"id{separator}text\n{content}"))
        assert found.documents == texts
        assert any("66 lines are 63 rows" in finding for finding in found.notes)


def test_lines_in_quotes_that_look_like_rows_are_believed_on_request(tmp_path: Path) -> None:
    found = read(write(tmp_path, "a.tsv", STRAY["two"]), "#quoting=standard")
    assert "있다 9\t1\n10\t본문" in "".join(found.documents)
    assert any("a.tsv: 61 lines are 21 rows, because 1 hold" in finding for finding in found.notes)


def test_a_backslash_before_a_quote_is_read(tmp_path: Path) -> None:
    content = "id,text\n" + rows('{i},"그는 \\"{text}, 응\\" 했다"\n')
    found = read(write(tmp_path, "a.csv", content))
    assert found.documents == [f'그는 "{text}, 응" 했다' for text in TEXTS]


def test_missing_values_are_text_and_line_ends_are_one(tmp_path: Path) -> None:
    content = 'n,text\n1,NA\n2,null\n3,"가\r\n나"\n4,NaN\n5,007\n'
    content += rows("{i},{text}\n")
    expected = ["NA", "null", "가\n나", "NaN", "007", *TEXTS]
    assert read(write(tmp_path, "a.csv", content)).documents == expected


def test_columns_of_one_name_are_told_apart(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,text\n" + rows("{i},{text}\n"))
    assert read(path, column="text.1").documents == TEXTS


def test_spaces_before_quotes_are_no_text(tmp_path: Path) -> None:
    texts = [f"{text}, 그리고" for text in TEXTS]
    content = "id,text\n" + "".join(f'{i}, "{text}"\n' for i, text in enumerate(texts)) + "  \n"
    found = read(write(tmp_path, "a.csv", content))
    assert found.documents == texts
    assert "a.csv: spaces before a field are left out" in found.notes


REFUSED = {
    "numbered rows with a comma each": ("id,text\n" + rows("{i},{text}, 또\n"), "line 2: 3 fields"),
    "a comma without quotes": (changed(PLAIN, 9, "있다", "있다,"), "line 9: 3 fields, where"),
    "a comma in the first row": (changed(PLAIN, 2, "있다", "있다,"), "line 2: 3 fields"),
    "a row cut in two": (changed(DATED, 7, "있다", "있\n다"), "line 7: 2 fields"),
    "an open quote": (changed(DATED, 9, "본문", '"본문,'), "line 9: cannot be read as a table"),
    "one quote too many where all cells have quotes": (
        "n,text\n" + rows('"{i}","{text}"\n') + '"60","그는 "응" 했다"\n',
        "line 62: cannot be read as a table",
    ),
    "a quote that closes early": (
        "n,text\n" + rows('{i},"{text}, ""응"""\n') + '60,"가"나, 다\n',
        "line 62: cannot be read",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_fit_is_refused_with_its_line_and_a_way_out(
    tmp_path: Path, what: str
) -> None:
    content, message = REFUSED[what]
    with pytest.raises(CorpusError) as caught:
        read(write(tmp_path, "a.csv", content))
    assert message in str(caught.value)
    assert "#" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_that_do_not_fit_are_left_out_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", changed(PLAIN, 9, "있다", "있다,"))
    found = read(path, "#misfits=skip")
    assert found.documents == TEXTS[:7] + TEXTS[8:]
    assert any("a.csv: 1 rows left out, the first in line 9" in f for f in found.notes)


def test_options_of_a_table_are_taken_and_checked(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", rows("{i}|{text}\n"))
    assert read(path, "#separator=bar,header=none", "2").documents == TEXTS
    assert read(path, "#separator=|,header=first", TEXTS[0]).documents == TEXTS[1:]
    whole = read(path, "#separator=none,header=none")
    assert whole.documents == rows("{i}|{text}\n").splitlines()
    for options, message in {
        "#quoting=some": "quoting=some is not one of standard, backslash, none",
        "#separator=ab": "separator=ab is neither a sign",
        "#header=maybe": "header=maybe is not one of first, none",
    }.items():
        with pytest.raises(CorpusError, match=message):
            read(path, options)


def test_a_field_without_end_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("semigpt.corpus.survey.FIELD_CHARACTERS", 1000)
    content = 'n,text\n1,"' + "가, 나\n" * 1000
    with pytest.raises(CorpusError, match="field larger than field limit"):
        read(write(tmp_path, "a.csv", content))
