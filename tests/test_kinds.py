"""Kinds of files whose text is inside something: what is read of each, and what is refused."""

import bz2
import csv
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semigpt.corpus.kinds import limits, pdf
from semigpt.corpus.kinds.hwp import record_paragraphs
from semigpt.corpus.library import quiet_datasets
from semigpt.corpus.reading import Reading
from semigpt.corpus.sources import open_source
from semigpt.corpus.spec import parse_spec
from semigpt.errors import CorpusError
from text_files import (
    EPUB_PARTS,
    KINDS,
    SMI,
    SRT,
    docx,
    hwp,
    hwpx,
    ods_text,
    pdf_file,
    record,
    tarred,
    xlsx,
    zipped,
)


def read(spec: Path | str, column: str | None = None) -> tuple[list[str], Reading]:
    """The documents of a SPEC, and the reading with its notes."""
    scratch = Path(str(spec).partition("#")[0]).parent / "scratch"
    scratch.mkdir(exist_ok=True)
    with quiet_datasets():
        reading = open_source(parse_spec(str(spec)), column, scratch)
        found = [text for name in reading.splits for text, _ in reading.splits[name]()]
    assert not [path for path in scratch.rglob("*") if path.is_file()], "copies are removed"
    return found, reading


def refusal(spec: Path | str) -> str:
    with pytest.raises(CorpusError) as caught:
        read(spec)
    assert "\n" not in str(caught.value)
    assert Path(str(spec).partition("#")[0]).name in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", KINDS)
def test_the_text_of_each_kind(tmp_path: Path, name: str) -> None:
    content, expected = KINDS[name]
    (tmp_path / name).write_bytes(content)
    documents, reading = read(tmp_path / name)
    assert documents == [expected]
    assert any("one document a file" in note for note in reading.sentences())
    lines = [line for line in expected.split("\n") if line.strip()]
    assert read(f"{tmp_path / name}#by=line")[0] == lines
    (tmp_path / f"{name}.xz").write_bytes(lzma.compress(content))
    assert read(tmp_path / f"{name}.xz")[0] == [expected]


def test_a_paragraph_can_be_the_document_and_recurring_ones_stay(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("응.\n\n아니.\n\n응.\n", encoding="utf-8")
    documents, reading = read(f"{tmp_path / 'a.md'}#by=paragraph")
    assert documents == ["응.", "아니.", "응."]
    assert not reading.sentences()


def test_subtitles_without_times_are_plain_text_and_it_is_said(tmp_path: Path) -> None:
    for name in ("a.srt", "a.smi"):
        (tmp_path / name).write_text("하나\n둘\n", encoding="utf-8")
        documents, reading = read(tmp_path / name)
        assert documents == ["하나\n둘"]
        assert any("so read as plain text" in note for note in reading.sentences())
    (tmp_path / "b.smi").write_text(SMI, encoding="utf-8")
    assert any(
        "KRCC was read, ENCC left out" in note for note in read(tmp_path / "b.smi")[1].sentences()
    )


def test_a_page_in_the_encoding_that_only_it_declares(tmp_path: Path) -> None:
    page = '<meta charset="johab"><p>똠방각하의 한글</p>'
    (tmp_path / "a.html").write_bytes(page.encode("johab"))
    assert read(tmp_path / "a.html")[0] == ["똠방각하의 한글"]


def test_a_long_page_is_refused_whatever_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PART_BYTES", 100)
    page = '<meta charset="utf-8"><p>' + "글" * 100
    (tmp_path / "a.html").write_text(page, encoding="utf-8")
    assert "it is read in one piece" in refusal(tmp_path / "a.html")


def test_a_file_without_columns_refuses_one(tmp_path: Path) -> None:
    for name in ("a.txt", "a.md"):
        (tmp_path / name).write_text("글", encoding="utf-8")
        with pytest.raises(CorpusError, match="no column '본문': a file of its kind has none"):
            read(tmp_path / name, column="본문")


# --- workbooks

REVIEWS: list[list[str | int]] = [
    ["번호", "리뷰", "날짜"], [1, "첫 리뷰", 1], [2, "", 2], [3, "둘째\n리뷰", 3],
]  # fmt: skip
BOOK = {
    "안내": [["리뷰를 모은 것이다"]],
    "가": [["2024년 조사"], [], *REVIEWS],
    "코드": [["코드", "뜻"], [1, "긍정"]],
    "나": [REVIEWS[0], [4, "셋째", 4]],
    "숨김": REVIEWS,
}


def test_the_sheets_of_a_workbook_that_have_the_same_columns_are_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_bytes(xlsx(BOOK, hidden="숨김"))
    documents, reading = read(tmp_path / "a.xlsx")
    assert documents == ["첫 리뷰", "", "둘째\n리뷰", "셋째"]
    assert (
        "a.xlsx: of its sheets, 가, 나 read, and not 안내, 코드, 숨김 (#sheet=NAME takes one)"
        in reading.sentences()
    )
    assert any("the rows above the names" in note for note in reading.sentences())
    for sheet in ("코드", "3"):
        assert read(f"{tmp_path / 'a.xlsx'}#sheet={sheet}")[0] == ["긍정"]
    assert read(tmp_path / "a.xlsx", column="번호")[0] == ["1", "2", "3", "4"]
    assert "no sheet '없음' with rows: its sheets are 안내, 가," in refusal(
        f"{tmp_path / 'a.xlsx'}#sheet=없음"
    )
    texts = {"가": [[str(value) for value in row] for row in REVIEWS], "나": [["x"]]}
    (tmp_path / "a.ods").write_bytes(zipped({"content.xml": ods_text(texts)}))
    assert read(tmp_path / "a.ods")[0] == ["첫 리뷰", "", "둘째\n리뷰"]


def test_a_sheet_whose_text_has_to_be_chosen_is_refused(tmp_path: Path) -> None:
    rows: list[list[str | int]] = [["제목", "본문"], ["가", "나"]]
    (tmp_path / "a.xlsx").write_bytes(xlsx({"가": rows, "나": [["text"], ["글"]]}))
    assert "Say --column with one of 제목, 본문 (#sheet=NAME" in refusal(tmp_path / "a.xlsx")


def test_few_bytes_of_a_sheet_stand_for_few_cells(tmp_path: Path) -> None:
    cell = '<a:table-cell a:number-columns-repeated="9999999"><t:p>글<t:s t:c="99999999"/></t:p>'
    row = f"<a:table-row>{cell}</a:table-cell></a:table-row>"
    text = ods_text({"가": [["text"]]}).replace("</a:table>", row * 2000 + "</a:table>", 1)
    (tmp_path / "a.ods").write_bytes(zipped({"content.xml": text}))
    assert read(tmp_path / "a.ods")[0] == ["글" + " " * 100] * 2000


# --- JSON, chats and instructions

CHAT = {"messages": [{"role": "user", "content": "질문"}, {"role": "assistant", "content": "답변"}]}
TASK = {"instruction": "요약하라", "input": "긴 글", "output": "짧은 글"}


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        (["하나", "둘"], "", ["하나", "둘"]),
        ([{"text": "하나", "n": 1}, {"text": "둘"}], "", ["하나", "둘"]),
        ({"total": 2, "rows": [{"text": "하나"}, {"text": "둘"}]}, "", ["하나", "둘"]),
        ({"data": [{"paragraphs": [{"context": "하나", "qas": []}]}]}, "", ["하나"]),
        ({"data": [{"title": "t", "context": "하나"}]}, "", ["하나"]),
        ({"document": [{"paragraph": [{"form": "하나"}, {"form": "둘"}]}]}, "", ["하나\n둘"]),
        ({"document": [{"utterance": [{"form": "응"}]}, {"utterance": []}]}, "", ["응", ""]),
        ({"document": {"sentence": [{"form": "하나"}]}}, "", ["하나"]),
        ({"a": [{"b": {"c": ["하나", "둘"]}}, {"b": {"c": "셋"}}]}, "#path=a.b.c",
         ["하나", "둘", "셋"]),
        ({str(i): {"글": {"text": str(i)}} for i in range(21)}, "#path=*.글.text",
         list(map(str, range(21)))),
        ([CHAT], "", ["질문: 질문\n답: 답변"]),
        ([{"conversations": [{"from": "human", "value": "안녕"}]}], "", ["질문: 안녕"]),
        ([TASK, {**TASK, "input": ""}], "",
         ["질문: 요약하라\n긴 글\n답: 짧은 글", "질문: 요약하라\n답: 짧은 글"]),
    ],
)  # fmt: skip
def test_json_of_known_shapes(
    tmp_path: Path, value: object, options: str, expected: list[str]
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(value), encoding="utf-8")
    assert read(f"{tmp_path / 'a.json'}{options}")[0] == expected


def test_json_lines_are_read_at_a_path(tmp_path: Path) -> None:
    lines = [{"a": {"b": ["하나", "둘"]}}, {"a": {}}, {"a": [{"b": "셋"}, {"b": None}]}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    assert read(f"{tmp_path / 'a.jsonl'}#path=a.b")[0] == ["하나", "둘", "셋", ""]
    assert "no column holds text: there is text at #path=a.b" in refusal(tmp_path / "a.jsonl")
    assert "line 1: an object at path=a, not text" in refusal(f"{tmp_path / 'a.jsonl'}#path=a")
    assert "nothing at path=x" in refusal(f"{tmp_path / 'a.jsonl'}#path=x")


def test_rows_without_the_column_are_named(tmp_path: Path) -> None:
    text = '{"text": "하나"}\n{"본문": "둘"}\n{"본문": "셋"}\n'
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    documents, reading = read(tmp_path / "a.jsonl")
    assert documents == ["하나", "", ""]
    assert "a.jsonl, line 2 and 1 more: no 'text' in this row, so no text" in reading.sentences()


@pytest.mark.parametrize("row", [CHAT, TASK])
def test_chats_and_instructions_in_json_lines(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "a.jsonl").write_text((json.dumps(row) + "\n") * 3, encoding="utf-8")
    documents, reading = read(tmp_path / "a.jsonl")
    assert len(documents) == 3
    assert documents[0].startswith("질문: ")
    assert any("one document of lines" in note for note in reading.sentences())
    if row is TASK:
        assert read(tmp_path / "a.jsonl", column="output")[0] == ["짧은 글"] * 3


ASKED = "질문: 요약하라\n긴 글\n답: 짧은 글"
TABLES: dict[str, tuple[list[dict[str, object]], list[str]]] = {
    "chats": (
        [{"id": 1, "system": "짧게", **CHAT}, {"id": 2, "system": None, "messages": []}],
        ["지시: 짧게\n질문: 질문\n답: 답변", ""],
    ),
    "instructions": ([{"n": 1, **TASK}, {"n": 2, **TASK, "input": ""}],
                     [ASKED, ASKED.replace("\n긴 글", "")]),
    "Korean names": ([{"갈래": "가", "질문": "무엇?", "답": "이것."}], ["질문: 무엇?\n답: 이것."]),
    "Q and A": ([{"Q": "무엇?", "A": "이것.", "label": 0}], ["질문: 무엇?\n답: 이것."]),
}  # fmt: skip


@pytest.mark.parametrize("what", TABLES)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "xlsx"])
def test_conversations_in_tables_are_read_as_in_json(
    tmp_path: Path, what: str, ending: str
) -> None:
    rows, expected = TABLES[what]
    path = tmp_path / f"a.{ending}"
    cells = [
        [value if isinstance(value, str) else json.dumps(value) if value else "" for value in row]
        for row in (row.values() for row in rows)
    ]
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "xlsx":
        path.write_bytes(xlsx({"가": [list(rows[0]), *cells]}))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file, delimiter="\t" if ending == "tsv" else ",")
            out.writerows([list(rows[0]), *cells])
    documents, reading = read(path)
    assert documents == expected
    assert any("read as one document of lines" in note for note in reading.sentences())
    name = list(rows[0])[-1]
    if isinstance(rows[0][name], str):
        assert read(path, column=name)[0][0] == rows[0][name]


def test_chats_as_python_writes_them_are_refused(tmp_path: Path) -> None:
    rows = [["messages"], [str(CHAT["messages"])]]
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    assert "lists as Python writes them" in refusal(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", column="messages")[0] == rows[1]


def test_a_row_that_is_no_conversation_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        'n,messages\n1,"[{""role"": ""user"", ""content"": ""가""}]"\n2,글\n', encoding="utf-8"
    )
    assert "a.csv, line 3: not a conversation" in refusal(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ('{"a": {"b": "글", "n": 1}, "c": ["글"]}', "#path=a.x", "text at #path=a.b, #path=c"),
        ('{"a": {"b": "글"}, "c": [1]}', "", "no column holds text: there is text at #path=a.b"),
        ('{"a": {"b\\nc": "글"}, "d": [1]}', "", "there is text at #path=a.b c"),
        (json.dumps({str(i): {"text": "글"} for i in range(21)}), "", "text at #path=*.text"),
        ("[1, 2]", "", "item 1 is neither text nor an object: there is no text in it"),
        ('{"a": 1\n}\n{"a": 2}\n', "", "let its name end in .jsonl"),
        ('{"a": [}', "", "line 1: not JSON"),
        ("[" * 100_000, "", "not JSON that can be read"),
    ],
)
def test_json_that_is_not_read_says_where_there_is_text(
    tmp_path: Path, content: str, options: str, message: str
) -> None:
    (tmp_path / "a.json").write_text(content, encoding="utf-8")
    assert message in refusal(f"{tmp_path / 'a.json'}{options}")


# --- archives

MEMBERS = {
    "../../slip.txt": "하나\n둘\n".encode("cp949"),
    "b.jsonl": json.dumps({"text": "셋"}).encode(),
    "__MACOSX/._b.txt": b"\0",
    "cover.jpg": b"\xff",
    "c.srt.gz": gzip.compress(SRT.encode()),
    "d.zip": zipped({"e.txt": "넷", "f.zip": zipped({"g.txt": "다섯"})}),
}


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("a.zip", lambda parts: zipped(parts)),
        ("a.tar", tarred),
        ("a.tar.gz", lambda parts: gzip.compress(tarred(parts))),
        ("a.tgz", lambda parts: gzip.compress(tarred(parts))),
        ("a.tar.bz2", lambda parts: bz2.compress(tarred(parts))),
        ("a.tar.xz", lambda parts: lzma.compress(tarred(parts))),
    ],
)
def test_members_are_read_as_files_of_a_folder(
    tmp_path: Path, name: str, pack: Callable[[dict[str, bytes]], bytes]
) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    (inside / name).write_bytes(pack(MEMBERS))
    documents, reading = read(inside / name)
    assert documents == ["하나", "둘", "셋", KINDS["a.srt"][1], "넷"]
    notes = reading.sentences()
    assert f"{name}, cover.jpg: not of a kind that is read here" in notes, notes
    assert f"{name}, d.zip, f.zip: not read, because archives are read no deeper" in notes
    assert reading.encodings["CP949"] == 1
    assert not list(tmp_path.rglob("*slip*")), "nothing is written where a member's name says"


def test_an_archive_is_resumed_behind_the_documents_that_were_read(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(dict(MEMBERS)))
    whole, told = read(tmp_path / "a.zip")
    with quiet_datasets():
        first = open_source(parse_spec(str(tmp_path / "a.zip")), None, tmp_path)
        stream = first.splits[""]()
        head = [next(stream)[0], next(stream)[0]]
        state = json.loads(json.dumps(first.state()))
        stream.close()
        second = open_source(parse_spec(str(tmp_path / "a.zip")), None, tmp_path)
        second.resume(state)
        assert head + [text for text, _ in second.splits[""]()] == whole
    assert second.sentences() == told.sentences()


def test_names_of_members_in_cp949_are_read(tmp_path: Path) -> None:
    content = zipped({"xx.jpg": b"x", "y.txt": "글"}).replace(b"xx.jpg", "글.jpg".encode("cp949"))
    (tmp_path / "a.zip").write_bytes(content)
    assert any("a.zip, 글.jpg" in note for note in read(tmp_path / "a.zip")[1].sentences())


# --- files that are broken, hostile, encrypted or of another kind

BOMB = bytes(3 << 20)
ENTITIES = (
    '<!DOCTYPE d [<!ENTITY a "하하"><!ENTITY b "&a;&a;">]><w:document xmlns:w="w"><w:p><w:r>'
    "<w:t>&b;</w:t></w:r></w:p></w:document>"
)


def encrypted_zip() -> bytes:
    """A ZIP file whose one member bears the mark of encryption."""
    content = bytearray(zipped({"a.txt": "글"}))
    for sign, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(sign) + place] |= 1
    return bytes(content)


ENCRYPT = b"/Encrypt<</Filter/Standard/V 1/R 2/O<%s>/U<%s>/P -1>>/ID[<00><00>]" % (
    b"41" * 32,
    b"42" * 32,
)
REFUSED: dict[str, tuple[str, bytes, str]] = {
    "bomb in gzip": ("a.txt.gz", gzip.compress(BOMB), "times its size"),
    "bomb in xz": ("a.md.xz", lzma.compress(BOMB), "times its size"),
    "bomb in bzip2": ("a.txt.bz2", bz2.compress(BOMB), "times its size"),
    "bomb in zip": ("a.zip", zipped({"a.txt": BOMB}), "times its size"),
    "bomb in docx": ("a.docx", zipped({"word/document.xml": BOMB}), "times its size"),
    "bomb in hwp": ("a.hwp", hwp(section=BOMB), "times its size"),
    "cut xz": ("a.txt.xz", lzma.compress(b"abc" * 999)[:-20], "cut short"),
    "cut bzip2": ("a.txt.bz2", bz2.compress(b"abc" * 999)[:-20], "before the end-of-stream marker"),
    "cut zip": ("a.zip", zipped({"a.txt": "글"})[:-20], "cut short"),
    "cut tar": ("a.tar", tarred({"a.txt": b"a" * 9999})[:4000], "unexpected end of data"),
    "cut docx": ("a.docx", docx()[:-20], "is no Word document, or was cut short"),
    "cut hwp": ("a.hwp", hwp()[:3000], "hwp"),
    "cut pdf": ("a.pdf", pdf_file()[:60], "is no PDF, or was cut short"),
    "entities": ("a.docx", docx(ENTITIES), "declares entities"),
    "broken xml": ("a.docx", docx("<w:p><w:t>"), "not XML that can be read"),
    "no docx": ("a.docx", zipped({"a": "b"}), "is no Word document"),
    "no hwpx": ("a.hwpx", zipped({"a": "b"}), "is no .hwpx file"),
    "no epub": ("a.epub", zipped({"META-INF/container.xml": "<a/>"}), "is no EPUB"),
    "no chapter": (
        "a.epub",
        zipped({name: text for name, text in EPUB_PARTS.items() if name != "O/a.xhtml"}),
        "its chapter a.xhtml is missing",
    ),
    "drm": (
        "a.epub",
        zipped(
            {**EPUB_PARTS, "META-INF/encryption.xml": "<r><CipherReference URI='O/a.xhtml'/></r>"}
        ),
        "is encrypted (DRM)",
    ),
    "text named hwp": ("a.hwp", b"plain text", "is no Hangul document"),
    "text named pdf": ("a.pdf", b"plain text", "is no PDF"),
    "text named docx": ("a.docx", b"plain text", "is no Word document"),
    "text named zip": ("a.zip", b"plain text", "is no ZIP file"),
    "hwpx named hwp": ("a.hwp", hwpx(), "let its name end in .hwpx"),
    "hwp of 1997": ("a.hwp", b"HWP Document File V3.00 \x1a\1\2\3\4\5", "Hangul 97 or older"),
    "encrypted zip": ("a.zip", encrypted_zip(), "is encrypted: unpack it with its password"),
    "encrypted docx": ("a.docx", hwp(), "is encrypted, or of an older format"),
    "encrypted hwpx": ("a.hwpx", hwpx(manifest="<a encryption-data=''/>"), "is encrypted"),
    "no xlsx": ("a.xlsx", zipped({"a": "b"}), "is no .xlsx file"),
    "no ods": ("a.ods", zipped({"a": "b"}), "is no .ods file"),
    "xls named xlsx": ("a.xlsx", hwp(), "is encrypted, or of an older format"),
    "no notebook": ("a.ipynb", b'{"a": 1}', "it has no list of cells"),
    "encrypted hwp": ("a.hwp", hwp(flags=3), "is encrypted"),
    "distributed hwp": ("a.hwp", hwp(flags=5), "배포용"),
    "encrypted pdf": (
        "a.pdf",
        pdf_file().replace(b"/Root 1 0 R", b"/Root 1 0 R" + ENCRYPT),
        "is encrypted: save it without a password",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, content, message = REFUSED[case]
    monkeypatch.setattr(limits, "UNPACKED_BYTES", 1 << 20)
    (tmp_path / name).write_bytes(content)
    assert message in refusal(tmp_path / name)


def test_an_archive_of_too_many_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from semigpt.corpus.kinds import archives, zipped_xml

    for module in (archives, zipped_xml):
        monkeypatch.setattr(module, "MEMBERS", 2)
    parts = {f"{number}.txt": b"a" for number in range(3)}
    (tmp_path / "a.zip").write_bytes(zipped(dict(parts)))
    (tmp_path / "a.tar").write_bytes(tarred(parts))
    for name in ("a.zip", "a.tar"):
        assert "holds more than 2 files" in refusal(tmp_path / name)


def test_a_pdf_that_asks_for_too_much_stops_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pdf, "SECONDS_PER_PAGE", 0.01)
    (tmp_path / "a.pdf").write_bytes(pdf_file())
    assert "took more than 0.01 s" in refusal(tmp_path / "a.pdf")


def test_a_pdf_without_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf_file(content=b"0 0 100 100 re f"))
    documents, reading = read(tmp_path / "a.pdf")
    assert not documents
    assert reading.sentences() == ["a.pdf: no text was found in it"]


def test_hostile_pages_take_linear_time(tmp_path: Path) -> None:
    """Patterns that took minutes in other parsers; a test that hangs is stopped by its reader."""
    for pattern in ("<a ", "<a b='", "<!--", "<div>", "<ul><li>", "<b><p>"):
        (tmp_path / "a.html").write_text(pattern * (200_000 // len(pattern)), encoding="utf-8")
        read(tmp_path / "a.html")
    (tmp_path / "a.md").write_text("[" * 200_000, encoding="utf-8")
    assert read(tmp_path / "a.md")[0] == ["[" * 200_000]


@pytest.mark.parametrize(("name", "library"), [("a.html", "lxml"), ("a.hwp", "olefile")])
def test_a_missing_library_is_one_line(
    tmp_path: Path, name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, library, None)
    (tmp_path / name).write_bytes(KINDS[name][0])
    with pytest.raises(CorpusError, match=r"python -m pip install 'semigpt\[text\]'"):
        read(tmp_path / name)


def test_a_readme_is_text_only_beside_other_markdown(tmp_path: Path) -> None:
    folder = tmp_path / "글"
    folder.mkdir()
    (folder / "README.md").write_text("설명", encoding="utf-8")
    (folder / "a.txt").write_text("본문", encoding="utf-8")
    assert read(folder)[0] == ["본문"]
    (folder / "b.md").write_text("노트", encoding="utf-8")
    assert sorted(read(folder)[0]) == ["노트", "본문", "설명"]


def test_a_record_that_is_cut_short_is_refused() -> None:
    with pytest.raises(CorpusError, match="a record is cut short"):
        list(record_paragraphs(record(67, 0, b"ab")[:-1], "a.hwp"))
