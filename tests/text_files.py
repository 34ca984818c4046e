"""A small file of each kind whose text is inside something, written here from nothing.

Tests read them; `benchmarks/fuzz_readers.py` damages them.
"""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence


def zipped(parts: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, content in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


DOCX_TEXT = (
    '<w:document xmlns:w="w" xmlns:mc="m"><w:body>'
    '<w:p><w:pPr><w:tabs><w:tab w:val="left"/></w:tabs></w:pPr><w:r><w:t>첫 </w:t></w:r>'
    "<w:r><w:t>문단</w:t><w:br/><w:t>둘째 줄</w:t></w:r></w:p><w:p/>"
    "<w:tbl><w:tr><w:tc><w:p><w:r><w:t>칸</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
    "<w:p><w:r><w:delText>지움</w:delText><w:instrText>PAGE</w:instrText><w:t>끝</w:t></w:r></w:p>"
    "<mc:Fallback><w:p><w:r><w:t>또</w:t></w:r></w:p></mc:Fallback></w:body></w:document>"
)
HWPX_TEXT = (
    '<hs:sec xmlns:hs="s" xmlns:hp="p"><hp:p><hp:run><hp:ctrl><hp:header><hp:subList><hp:p>'
    "<hp:run><hp:t>머리말</hp:t></hp:run></hp:p></hp:subList></hp:header></hp:ctrl></hp:run>"
    "<hp:run><hp:t>첫<hp:tab/>문단<hp:lineBreak/>둘째 줄</hp:t></hp:run></hp:p></hs:sec>"
)
EPUB_PARTS: dict[str, bytes | str] = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": '<container><rootfiles><rootfile full-path="O/book.opf"/>'
    "</rootfiles></container>",
    "O/book.opf": '<package><manifest><item id="n" href="nav.xhtml" properties="nav" '
    'media-type="application/xhtml+xml"/><item id="b" href="b%20c.xhtml" '
    'media-type="application/xhtml+xml"/><item id="a" href="a.xhtml" '
    'media-type="application/xhtml+xml"/></manifest><spine><itemref idref="n"/>'
    '<itemref idref="a"/><itemref idref="b"/></spine></package>',
    "O/a.xhtml": "<html><head><title>표</title></head><body><h1>1장</h1><p>비가&nbsp;왔다.</p>",
    "O/b c.xhtml": "<html><body><p>2장</p></body></html>",
    "O/nav.xhtml": "<html><body><p>차례</p></body></html>",
}


ODT_TEXT = (
    '<d xmlns:office="o" xmlns:text="t"><office:body><text:tracked-changes><text:p>지움</text:p>'
    "</text:tracked-changes><text:h>제목</text:h><text:p>첫<text:s text:c='3'/>문단<text:tab/>"
    "<text:span>끝</text:span><text:line-break/>둘째 줄<text:note><text:p>주석</text:p></text:note>"
    "</text:p></office:body></d>"
)


def xlsx(sheets: Mapping[str, Sequence[Sequence[str | int]]], hidden: str = "") -> bytes:
    """A workbook as Excel writes it: strings shared, and numbers; None of a row is no cell."""
    strings: list[str] = []
    parts: dict[str, bytes | str] = {}
    names, targets = "", ""
    for number, (name, rows) in enumerate(sheets.items(), 1):
        state = ' state="hidden"' * (name == hidden)
        names += f'<sheet name="{name}" r:id="r{number}"{state}/>'
        targets += f'<Relationship Id="r{number}" Target="worksheets/sheet{number}.xml"/>'
        cells = ""
        for row, values in enumerate(rows, 1):
            cells += f'<row r="{row}">'
            for column, value in zip("ABCDEFG", values, strict=False):
                if isinstance(value, int):
                    cells += f'<c r="{column}{row}"><v>{value}</v></c>'
                elif value:
                    cells += f'<c r="{column}{row}" t="s"><v>{len(strings)}</v></c>'
                    strings.append(value)
            cells += "</row>"
        parts[f"xl/worksheets/sheet{number}.xml"] = f"<w><sheetData>{cells}</sheetData></w>"
    shared = "".join(
        f"<si><r><t>{text[:1]}</t></r><r><t>{text[1:]}</t></r><rPh><t>가나</t></rPh></si>"
        for text in strings
    )
    return zipped(
        {
            "xl/workbook.xml": f'<w xmlns:r="http://r"><sheets>{names}</sheets></w>',
            "xl/_rels/workbook.xml.rels": f"<R>{targets}</R>",
            "xl/sharedStrings.xml": f"<sst>{shared}</sst>",
            **parts,
        }
    )


def ods_text(sheets: Mapping[str, Sequence[Sequence[str]]]) -> str:
    tables = ""
    for name, rows in sheets.items():
        tables += f'<a:table a:name="{name}"><a:table-column a:number-columns-repeated="3"/>'
        for row in rows:
            cells = "".join(f"<a:table-cell><t:p>{cell}</t:p></a:table-cell>" for cell in row)
            empty = '<a:table-cell a:number-columns-repeated="16000"/>'
            tables += f"<a:table-row>{cells}{empty}</a:table-row>"
        tables += '<a:table-row a:number-rows-repeated="9999"><a:table-cell/></a:table-row>'
        tables += "</a:table>"
    return f'<d xmlns:a="table" xmlns:t="text"><b>{tables}</b></d>'


def docx(text: str = DOCX_TEXT) -> bytes:
    return zipped({"word/document.xml": text})


def hwpx(**more: str) -> bytes:
    parts: dict[str, bytes | str] = {
        "Contents/section10.xml": HWPX_TEXT.replace("첫", "끝"),
        "Contents/section0.xml": HWPX_TEXT,
        **{f"META-INF/{name}.xml": text for name, text in more.items()},
    }
    return zipped(parts)


def record(tag: int, level: int, content: bytes) -> bytes:
    """A record of an .hwp section, its size in four more bytes where it is long."""
    size = len(content)
    head = tag | level << 10 | min(size, 0xFFF) << 20
    return struct.pack("<I", head) + (struct.pack("<I", size) if size >= 0xFFF else b"") + content


def hwp_section() -> bytes:
    table = struct.pack("<H", 11) + b" lbt" + bytes(8) + struct.pack("<H", 11)
    first = "첫 문단".encode("utf-16-le") + table + "끝\n줄".encode("utf-16-le") + b"\r\0"
    tab = struct.pack("<H", 9) + bytes(12) + struct.pack("<H", 9)
    return (
        record(67, 1, first)
        + record(71, 1, b"daeh" + bytes(8))
        + record(67, 3, "머리말".encode("utf-16-le"))
        + record(71, 1, b" lbt")
        + record(67, 3, "칸".encode("utf-16-le") + tab + "둘".encode("utf-16-le"))
        + record(67, 0, ("긴 " * 2500).encode("utf-16-le"))
    )


def compound_file(streams: dict[str, bytes]) -> bytes:
    """An OLE file of version 3: its streams in sectors of 512 bytes, at least 8 each, one storage.

    A stream is padded to 4,096 bytes, below which it would be kept in another place.
    """
    sectors: list[bytes] = []
    table: list[int] = []

    def put(content: bytes) -> int:
        start = len(sectors)
        blocks = [content[at : at + 512].ljust(512, b"\0") for at in range(0, len(content), 512)]
        sectors.extend(blocks)
        table.extend([*range(start + 1, start + len(blocks)), 0xFFFFFFFE])
        return start

    def entry(name: str, kind: int, child: int, right: int, start: int, size: int) -> bytes:
        encoded = name.encode("utf-16-le") + b"\0\0"
        links = struct.pack("<iii", -1, right, child)
        return (
            encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded), kind, 1) + links
            + bytes(36) + struct.pack("<IQ", start, size)
        )  # fmt: skip

    header = streams["FileHeader"].ljust(4096, b"\0")
    body = streams["Section0"].ljust(4096, b"\0")
    places = put(header), put(body)
    directory = put(
        entry("Root Entry", 5, 1, -1, 0xFFFFFFFE, 0)
        + entry("FileHeader", 2, -1, 2, places[0], len(header))
        + entry("BodyText", 1, 3, -1, 0, 0)
        + entry("Section0", 2, -1, -1, places[1], len(body))
    )
    fat = len(sectors)
    numbers = [*table, 0xFFFFFFFD]
    sectors.append(struct.pack("<128I", *numbers, *[0xFFFFFFFF] * (128 - len(numbers))))
    head = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
        + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
        + struct.pack("<9I", 0, 1, directory, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
        + struct.pack("<109I", fat, *[0xFFFFFFFF] * 108)
    )  # fmt: skip
    return head + b"".join(sectors)


def hwp(flags: int = 1, section: bytes | None = None) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    content = deflate.compress(hwp_section() if section is None else section) + deflate.flush()
    header = b"HWP Document File".ljust(32, b"\0") + struct.pack("<II", 0x05000300, flags)
    return compound_file({"FileHeader": header, "Section0": content})


def pdf_file(text: str = "한글 문서", content: bytes | None = None, more: bytes = b"") -> bytes:
    """A page in a font that is not embedded, its text in the encoding KSCms-UHC-H."""
    drawn = b"BT /F 12 Tf 50 700 Td <%s> Tj ET" % text.encode("cp949").hex().encode()
    drawn = drawn if content is None else content
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 4 0 R"
        b"/Resources<</Font<</F 5 0 R>>>>>>",
        b"<<%s/Length %d>>stream\n%s\nendstream" % (more, len(drawn), drawn),
        b"<</Type/Font/Subtype/Type0/BaseFont/Batang/Encoding/KSCms-UHC-H/DescendantFonts[6 0 R]>>",
        b"<</Type/Font/Subtype/CIDFontType0/BaseFont/Batang/CIDSystemInfo<</Registry(Adobe)"
        b"/Ordering(Korea1)/Supplement 1>>/FontDescriptor 7 0 R>>",
        b"<</Type/FontDescriptor/FontName/Batang/Flags 4/FontBBox[0 0 1000 1000]/ItalicAngle 0"
        b"/Ascent 800/Descent -200/CapHeight 700/StemV 80>>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    out_table = b"xref\n0 8\n0000000000 65535 f \n" + table
    trailer = b"trailer\n<</Size 8/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(out)
    return out + out_table + trailer


SRT = (
    "\ufeff1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>안녕</i>하세요\r\n{\\an8}둘째 줄\r\n\r\n"
    "2\r\n00:00:03,000 --> 00:00:04,000\r\n2024\r\n\r\n3\r\n00:00:05,000 --> 00:00:06,000\r\n끝\r\n"
)
SMI = (
    "<SAMI><HEAD><STYLE><!-- P {} .KRCC {Name:한국어; lang:ko-KR;} .ENCC{lang:en-US} --></STYLE>"
    "</HEAD><BODY><SYNC Start=1><P Class=KRCC>안녕<br>하세요 &amp; 잘"
    "<SYNC Start=2><P Class=ENCC>Hi<SYNC Start=3><P Class=KRCC>&nbsp;"
    "<SYNC Start=4><P Class=KRCC><font color=red>둘</font></BODY>"
)
MARKDOWN = (
    "---\ntitle: x\n---\n# 제목 *강조*\n\n"
    "첫 줄\n둘째 [링크](http://x) ![그림](a.png) `코드` &amp;\n\n"
    "- 하나\n- 둘\n\n```py\nx = 1\n\ny\n```\n\n|가|나|\n|-|-|\n|1|2|\n\n<div>\n안녕\n</div>\n"
)
HTML = (
    "<html><head><title>제목</title><style>p{}</style></head><body><nav><li>메뉴</nav>"
    "<h1>큰 제목</h1><p>첫  문단은 <b>굵게</b>\n 이어진다.<br>둘째 줄&nbsp;끝"
    "<p>다음<table><tr><td>가<td>나</table>"
    "<pre>\n  x\n   y\n</pre><script>var a='<p>';</script>끝<div hidden>숨김<p>더</div>"
    "<p style='display: none'>안 보임</p>보임"
)
VTT = (
    "WEBVTT\nKind: captions\n\nNOTE 설명\n\nSTYLE\n::cue { color: red }\n\n"
    "처음\n00:01.000 --> 00:02.000 align:start\n<v 하나>안녕<00:01.500><c>하세요</c>\n둘째 &amp; 줄"
    "\n\n01:00:03.000 --> 01:00:04.000\n2024\n"
)
NOTEBOOK = (
    '{"cells": [{"cell_type": "markdown", "source": ["# 제목\\n", "글 *하나*"]},'
    ' {"cell_type": "code", "source": "x = 1\\n", "outputs": [{"text": "출력"}]},'
    ' {"cell_type": "code", "source": []}], "nbformat": 4}'
)
KINDS: dict[str, tuple[bytes, str]] = {
    "a.srt": (SRT.encode(), "안녕하세요\n둘째 줄\n2024\n끝"),
    "a.smi": (SMI.encode("cp949"), "안녕\n하세요 & 잘\n둘"),
    "a.md": (
        MARKDOWN.encode(),
        "제목 강조\n첫 줄 둘째 링크  코드 &\n하나\n둘\nx = 1\n\ny\n가\n나\n1\n2\n안녕",
    ),
    "a.html": (
        HTML.encode("cp949"),
        "큰 제목\n첫 문단은 굵게 이어진다.\n둘째 줄 끝\n다음\n가\n나\n  x\n   y\n끝\n보임",
    ),
    "a.vtt": (VTT.encode(), "안녕하세요\n둘째 & 줄\n2024"),
    "a.ipynb": (NOTEBOOK.encode(), "제목\n글 하나\nx = 1"),
    "a.odt": (zipped({"content.xml": ODT_TEXT}), "제목\n첫   문단\t끝\n둘째 줄"),
    "a.docx": (docx(), "첫 문단\n둘째 줄\n칸\n끝"),
    "a.hwpx": (hwpx(), "첫\t문단\n둘째 줄\n끝\t문단\n둘째 줄"),
    "a.hwp": (hwp(), "첫 문단끝\n줄\n칸\t둘\n" + "긴 " * 2500),
    "a.epub": (zipped(EPUB_PARTS), "1장\n비가 왔다.\n2장"),
    "a.pdf": (pdf_file(), "한글 문서"),
}
