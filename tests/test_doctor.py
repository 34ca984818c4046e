"""The text doctor: what it detects is repaired as promised, and good text stays as it is."""

import json
import random
import re
import signal
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.cli import main
from semigpt.corpus import news, prepare_corpus
from semigpt.corpus.doctor import shards, workers
from semigpt.corpus.doctor.changes import visible
from semigpt.corpus.doctor.findings import BY_NAME, FIXES, LOSSLESS, PERSONAL, TEXT_FINDINGS
from semigpt.corpus.doctor.mojibake import repair_mojibake
from semigpt.corpus.doctor.near_duplicates import near_index
from semigpt.corpus.doctor.plan import make_plan, selected_fixes
from semigpt.corpus.doctor.repair import examine
from semigpt.corpus.doctor.run import check, clean
from semigpt.errors import CorpusError, SettingsError

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"
SENTENCE = "기상청은 24일 전국이 대체로 맑겠다고 밝혔다. 아침 최저기온은 영하 3도로 예보됐다."


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def read(folder: Path, split: str = "train") -> list[str]:
    paths = sorted((folder / "data").glob(f"{split}-*.parquet"))
    return [text for path in paths for text in pq.read_table(path).column("text").to_pylist()]


def repaired(text: str, *names: str, squeeze: int = 3) -> str:
    plan = make_plan(frozenset(names), squeeze, None, None)
    return examine([text], plan)[0].text or text


def found(text: str, **settings: int) -> dict[str, int]:
    """What `check` counts in one document."""
    plan = make_plan(FIXES, settings.get("squeeze"), None, None)
    return {hit.name: hit.places for hit in examine([text], plan)[0].hits}


# --- each finding


REPAIRS = {
    "byte-order-mark": ("\ufeff첫 문장", "첫 문장"),
    "mojibake": ("ÇÑ±¹¾î ¹®Àå", "한국어 문장"),
    "html": (
        "<p>비가 &lt;조금&gt; 온다.<br/>우산&nbsp;필요</p>",
        "\n비가 <조금> 온다.\n우산 필요\n",
    ),
    "control": ("비\x00가\x07 온다\x0b끝", "비가 온다\n끝"),
    "line-ends": ("첫 줄\r\n둘째 줄\r셋째\u2028넷째", "첫 줄\n둘째 줄\n셋째\n넷째"),
    "zero-width": ("비\u200b가 \ufeff온\u00ad다\u202e", "비가 온다"),
    "decomposed": (unicodedata.normalize("NFD", "한글 문장"), "한글 문장"),
    "half-width-jamo": ("ﾤﾡ ﾾￂﾤﾡￚﾩ", "ㄴㄱ 한글"),
    "spelled-jamo": ("ㅎㅏㄴㄱㅡㄹ \u3164ㅊㅚㄱ오 \u3164ㅅㅞ\u3164", "한글 쵝오 쉐"),
}


@pytest.mark.parametrize("name", REPAIRS)
def test_a_finding_is_counted_and_repaired_when_asked_for(name: str) -> None:
    damaged, whole = REPAIRS[name]
    assert found(damaged)[name] >= 1
    assert repaired(damaged, name) == whole
    assert repaired(damaged, *(LOSSLESS - {name})) == damaged
    assert found(whole).get(name) is None


def test_every_finding_of_text_is_tested_here() -> None:
    elsewhere = {"replacement", "surrogates", "repeats"} | PERSONAL
    assert {finding.name for finding in TEXT_FINDINGS} == set(REPAIRS) | elsewhere


def test_lone_surrogates_become_a_mark_and_pairs_their_character() -> None:
    assert repaired("가\ud83d나\ud83d\ude00", "surrogates") == "가\ufffd나😀"
    assert found("가\ud83d나") == {"surrogates": 1}


def test_lost_characters_are_counted_and_left() -> None:
    assert found("하\ufffd\ufffd늘") == {"replacement": 2}
    assert repaired("하\ufffd늘", *FIXES) == "하\ufffd늘"


@pytest.mark.parametrize(
    ("at_most", "text", "squeezed"),
    [
        (2, "ㅋㅋㅋㅋㅋ 재밌다!!!!", "ㅋㅋ 재밌다!!"),
        (3, "100000000원    www ㅠㅠㅠㅠ", "100000000원    www ㅠㅠㅠ"),
        (1, "와아아아", "와아"),
    ],
)
def test_repetition_is_squeezed_to_what_is_asked(at_most: int, text: str, squeezed: str) -> None:
    assert repaired(text, "repeats", squeeze=at_most) == squeezed


def test_what_stands_behind_another_finding_is_counted_once() -> None:
    misread = SENTENCE.encode().decode("latin-1")
    assert any("\x80" <= character <= "\x9f" for character in misread)
    assert set(found(misread)) == {"mojibake"}
    assert set(found("비&#8203;가 온다")) == {"html", "zero-width"}


def test_a_repair_of_what_stands_behind_another_finding_is_counted_too(tmp_path: Path) -> None:
    misread = SENTENCE.encode().decode("latin-1")
    report = clean(
        write(tmp_path / "a.jsonl", [misread]), tmp_path / "out", fixes=frozenset({"control"})
    )
    lost = len(misread) - len(read(tmp_path / "out")[0])
    assert lost > 0
    assert (report.rows["control"].documents, report.rows["control"].repaired) == (0, lost)
    assert report.rows["mojibake"].documents == 1


@pytest.mark.parametrize(
    "text",
    [
        "3 < 5 이고 7 > 2", "<The Thing>과 <GG전야>", "AT&T; R&D; 대한&민국;", "(>ㅁ<)b",
        "a<b 그리고 c>d", "&amp 아님", "&notes; &copyleft;",
    ],
)  # fmt: skip
def test_signs_that_are_not_html_stay(text: str) -> None:
    assert found(text) == {}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("가<!-- 주석\n<b> -->나", "가나"),
        ("가<script type='x'>if (a < b) { </script>나<style>p {}</style>", "가나"),
        ("<!DOCTYPE html>가<img src=\"a.png\" alt='그림'/>나<a href=b>다</a>", "가나다"),
        ("<ul><li>하나</li></ul>", "\n\n하나\n\n"),
        ("&#44032;&#xAC01;&hellip;&amp;lt;", "가각…&lt;"),
    ],
)
def test_html_leaves_its_text(text: str, left: str) -> None:
    assert repaired(text, "html") == left


@pytest.mark.parametrize(
    "piece",
    [
        "<!--", "<script>", "<!DOCTYPE ", "<a x='", "<a ", "&#1", "1.", "0 1-", "a.", "a@", "ㄱㅏ",
        "ㅋ", "ê°", "°¡", "紐⑦넗",
        "계좌", "은행", "\u200d", "\u202e", "\r", "4111", "010-",
    ],
)  # fmt: skip
def test_no_text_takes_quadratic_time(piece: str) -> None:
    began = time.perf_counter()
    found(piece * 100_000)
    assert time.perf_counter() - began < 30  # 0.01 to 0.2 s; quadratic time would be minutes


@pytest.mark.parametrize(
    "text",
    [
        "ㅋㅋㅜㅜ",
        "ㅋㅠㅋㅠㅋㅠ",
        "ㅋㅠㅎㅠ",
        "ㅎㅏㅎㅏ",
        "ㄱㅅ",
        "ㅇㅓ",
        "ㅠㅠㅠ",
        "ㄷㄷㄷ",
        "ㅇㅋ",
    ],
)
def test_laughing_and_crying_are_not_words(text: str) -> None:
    assert found(text) == {}


# --- good text


FAMILY = (
    "👨\u200d👩\u200d👧",
    "❤️\u200d🔥",
    "🏳️\u200d🌈",
    "🧑🏽\u200d🚀",
    "🏃🏻\u200d♀️",
    "1️⃣",
    "🇰🇷",
    "🏴\U000e0067\U000e0062\U000e007f",
)
WRITTEN = st.one_of(
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3),
    st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="<&@0123456789"),
    st.sampled_from(FAMILY),
    st.sampled_from("\n\t·…“”‘’「」〜※ㅋㅠ乃"),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(WRITTEN).map("".join))
def test_hangul_ascii_and_emoji_come_out_as_they_went_in(text: str) -> None:
    assert repaired(text, *FIXES, *PERSONAL) == text


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_the_lossless_repairs_are_nfc_and_do_nothing_the_second_time(text: str) -> None:
    once = repaired(text, *LOSSLESS)
    assert once == unicodedata.normalize("NFC", text.lstrip("\ufeff"))
    assert repaired(once, *LOSSLESS) == once


def test_joiners_stay_where_they_join() -> None:
    assert (
        repaired("می\u200cخواهم क्\u200dष 👩\u200d🚀", "zero-width")
        == "می\u200cخواهم क्\u200dष 👩\u200d🚀"
    )
    assert repaired("👩\u200d가 나\u200d다 \u200d🚀 끝\u200d", "zero-width") == "👩가 나다 🚀 끝"


def test_marks_of_direction_stay_in_text_that_has_one() -> None:
    assert repaired("שלום\u200f (가)", "zero-width") == "שלום\u200f (가)"


# --- mojibake


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("latin-1", "utf-8"), ("windows", "utf-8"), ("latin-1", "cp949"), ("windows", "cp949")],
)
def test_misread_korean_comes_back(wrong: str, right: str) -> None:
    for text in (
        "한국어",
        SENTENCE,
        "“값이 싸다”고 말했다. 2,300원·3개",
        "똠방각하 펲시콜라 뷁이라는 말은 옛말이다",
    ):
        damaged = misread(text, right, wrong)
        assert damaged != text
        assert repair_mojibake(damaged) == text


def misread(text: str, right: str, wrong: str) -> str:
    encoded = text.encode(right)
    if wrong == "latin-1":
        return encoded.decode("latin-1")
    return "".join(
        bytes([b]).decode("cp1252" if b not in b"\x81\x8d\x8f\x90\x9d" else "latin-1")
        for b in encoded
    )


def test_utf_8_read_as_cp949_comes_back_where_its_bytes_are_left() -> None:
    assert repair_mojibake("紐⑦넗濡쒕씪異⑹쟾") == "모토로라충전"
    good = repair_mojibake("그의 戶籍은 籍고가 없다")
    assert good == "그의 戶籍은 籍고가 없다"


@pytest.mark.parametrize(
    "text",
    [
        "········", "°°°°°°", "±±±±½½½½", "ÄÖÜß", "déjà vu, naïve, garçon, Übergröße",
        "lunedì…” disse", "Ææøå ÆØÅÆØÅ",
        "São João não é irmão", "100㎡ × 3 ÷ 2 = 150㎡", "×÷×÷×÷", "éééééé",
        "女子高 大學校 人間 敎育", "詩人의 作品", "°±²³", "½¼¾½¼¾", "ÄÄÄÄÄÄ", "由쎄갇",
    ],
)  # fmt: skip
def test_text_of_other_kinds_is_not_taken_for_mojibake(text: str) -> None:
    assert repair_mojibake(text) is text


@pytest.fixture(params=["bundled", "real"])
def news_lines(request: pytest.FixtureRequest) -> list[str]:
    """Sentences and headlines: of the bundled news, and of real news if its text is there."""
    if request.param == "bundled":
        articles = list(news.rows("test"))
        titles = [article.title for article in articles]
        return titles + [s for a in articles for s in re.split(r"(?<=\.)\s", a.document)]
    path = DATA / "news" / "test.txt"
    if not path.exists():
        pytest.skip(f"real news is looked for in {path.resolve()}, a sentence per line")
    return path.read_text(encoding="utf-8").splitlines()


def test_no_line_of_the_news_is_mojibake_and_all_of_them_come_back(news_lines: list[str]) -> None:
    lines = news_lines
    assert [line for line in lines if repair_mojibake(line) is not line] == []
    # One syllable is not evidence enough.
    korean = [line for line in lines if len(re.findall("[가-힣]{2}", line)) >= 2]
    assert len(korean) > 1900
    for right in ("utf-8", "cp949"):
        for wrong in ("latin-1", "windows"):
            kept = [line for line in korean if right == "utf-8" or encodable(line)]
            lost = [line for line in kept if repair_mojibake(misread(line, right, wrong)) != line]
            assert lost == [], (right, wrong)


def encodable(text: str) -> bool:
    try:
        text.encode("cp949")
    except UnicodeEncodeError:
        return False
    return True


# --- personal data


def resident_number(front: str, check: int = 0) -> str:
    digits = [int(digit) for digit in front if digit.isdigit()]
    total = sum(w * d for w, d in zip((2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), digits, strict=True))
    return f"{front}{((13 if digits[6] >= 5 else 11) - total % 11 + check) % 10}"


PRIVATE = {
    "email": ["문의: gil.dong+test@mail.example.co.kr로", "a_b@naver.com."],
    "phone-number": [
        "010-2345-6789", "01023456789로 전화", "010 2345 6789", "010.2345.6789", "+82 10-2345-6789",
        "+82-10-2345-6789",
        "02-312-4567", "02)312-4567", "(031) 312-4567", "(02)3123-4567", "070-7123-4567",
        "011-318-7092",
    ],
    "card-number": [
        "4111 1111 1111 1111", "5500-0000-0000-0004", "4111111111111111", "3782-822463-10005",
    ],
    "resident-number": [
        resident_number("850312-123456"), resident_number("850312123456"),
        resident_number("030229-4".replace("29", "28") + "56789"),
        resident_number("850312-523456"), resident_number("210312-323456", check=3),
    ],
    "account-number": [
        "계좌번호: 110-234-567890", "국민은행 123456-01-234567", "농협 301-0123-4567-81",
        "카카오뱅크 3333012345678",
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", PRIVATE)
def test_personal_data_is_masked_and_never_shown(name: str) -> None:
    for text in PRIVATE[name]:
        assert found(text) == {name: 1}, text
        masked = repaired(text, *PERSONAL)
        assert not re.search("[0-9]{4}", masked), masked
        assert re.search(r"\[(이메일|전화번호|카드번호|주민등록번호|계좌번호)\]", masked)
        hit = examine([text], make_plan(FIXES, None, None, None))[0].hits[0]
        assert not re.search("[0-9]{3}|@", hit.found + hit.became)


@pytest.mark.parametrize(
    "text",
    [
        "매출은 1조 2,300억 원, 영업이익은 1,234,567,890원이다.",
        "2023-10-12 14:30:00부터 2024-01-05까지", "2023.10.12~2024.01.05",
        "코스피 2,512.34에서 2,498.10으로", "ISBN 978-89-1234-567-8", "1588-1234로 걸면 된다",
        "9월 11일 2001-2002 시즌 3-2 승리",
        "사업자등록번호 123-45-67890", "01010101010 이진수", "0190505212점",
        "위도 37.56667890 경도 126.97806543",
        "은행은 2023-10-12 2023-10-13에 쉰다", "은행 금리는 3.25%에서 3.50%로", "850332-1234567",
        "1234 5678 9012 3456", "4111 1111 1111 1112", "국민은행 접수 2024-03-12-0045",
        resident_number("850312-123456", check=1), resident_number("850230-123456"),
        resident_number("000229-523456"), "우편번호 04524, 문서번호 2024-0312-004567",
        "3.1415926535897932", "192.168.100.200", "배송번호 123456789012", "@홍길동 안녕", "a@b",
        "가격은 10,000~20,000원@매장",
    ],
)  # fmt: skip
def test_prices_dates_and_scores_are_nobodys_number(text: str) -> None:
    assert found(text) == {}


def test_the_news_holds_no_personal_data_and_stays_as_it_is(news_lines: list[str]) -> None:
    for line in news_lines:
        assert repaired(line, *PERSONAL) == line


# --- a whole corpus


DAMAGED = [
    "\ufeff" + SENTENCE,
    unicodedata.normalize("NFD", "바람이 불어오는 곳으로 간다."),
    SENTENCE.encode().decode("latin-1"),
    "<b>제목</b>이 있는 글이다. 연락은 010-2345-6789로.",
    "ㅋㅋㅋㅋㅋㅋㅋ 재미있는 영화였다.",
    "제어\x00문자가 든 문장이다.",
    "",
    "짧다",
    "같은 문장이 두 번 나온다, 정말로.",
    "같은 문장이 두 번 나온다, 정말로.",
]


def test_clean_repairs_what_loses_nothing_and_leaves_the_rest(tmp_path: Path) -> None:
    report = clean(write(tmp_path / "a.jsonl", DAMAGED), tmp_path / "out")
    kept = [SENTENCE, "바람이 불어오는 곳으로 간다.", *DAMAGED[2:6], *DAMAGED[7:]]
    assert read(tmp_path / "out") == kept
    assert report.kept == {"train": 9}
    done = {
        name: (row.documents, row.repaired) for name, row in report.rows.items() if row.documents
    }
    assert done == {
        "byte-order-mark": (1, 1),
        "mojibake": (1, 0),
        "html": (1, 0),
        "control": (1, 0),
        "decomposed": (1, 12),
        "repeats": (1, 0),
        "phone-number": (1, 0),
        "empty": (1, 1),
        "tiny": (1, 0),
        "duplicate": (1, 0),
    }


def test_clean_repairs_all_it_is_asked_to(tmp_path: Path) -> None:
    settings = {"mask_personal": True, "squeeze": 3, "min_characters": 5}
    report = clean(write(tmp_path / "a.jsonl", DAMAGED), tmp_path / "out", fixes=FIXES, **settings)
    assert read(tmp_path / "out") == [
        SENTENCE,
        "바람이 불어오는 곳으로 간다.",
        "제목이 있는 글이다. 연락은 [전화번호]로.",
        "ㅋㅋㅋ 재미있는 영화였다.",
        "제어문자가 든 문장이다.",
        "같은 문장이 두 번 나온다, 정말로.",
    ]
    assert report.rows["duplicate"].repaired == 2  # the mojibake was the first sentence
    again = check(str(tmp_path / "out"))
    assert sum(row.documents for row in again.rows.values()) == 0


def test_what_clean_writes_is_read_back_split_by_split(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for split in ("train", "validation", "test"):
        pq.write_table(
            pa.table({"본문": [f"{split}의 {i}번째 문장이다." for i in range(5)] + ["같은 글"]}),
            source / f"{split}.parquet",
        )
    clean(str(source), tmp_path / "out", fixes=selected_fixes("lossless,duplicate"))
    corpus = prepare_corpus(str(tmp_path / "out"), cache=tmp_path / "cache")
    assert corpus.split_rule == "own"
    assert {split: corpus.document_count(split) for split in corpus.splits} == {
        "train": 5,
        "validation": 5,
        "test": 6,
    }
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlanguage: ko\nconfigs:")
    assert "| duplicate |" in card
    assert "semigpt text clean" in card


def test_half_a_pair_is_written_as_a_mark_though_nobody_asked(tmp_path: Path) -> None:
    report = clean(
        write(tmp_path / "a.jsonl", ["가\ud83d 나"]), tmp_path / "out", fixes=frozenset()
    )
    assert read(tmp_path / "out") == ["가\ufffd 나"]
    assert report.rows["surrogates"].repaired == 1


def test_check_repairs_nothing_and_shows_three_examples(tmp_path: Path) -> None:
    report = check(write(tmp_path / "a.jsonl", ["", *(f"<b>{i}</b>번째 글" for i in range(5))]))
    assert all(row.repaired == 0 for row in report.rows.values())
    html = report.rows["html"]
    assert (html.documents, html.places) == (5, 10)
    assert [(e.document, e.found, e.became) for e in html.examples] == [
        (i + 2, f"<b>{i}</b>번째 글", "") for i in range(3)
    ]
    assert report.rows["empty"].examples == []


def test_examples_are_few_in_a_chunk_and_in_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"<b>{i}</b>번째 글" for i in range(8)]
    results = examine(texts, make_plan(FIXES, None, None, None))
    assert [bool(result.hits[0].found) for result in results] == [True] * 3 + [False] * 5
    monkeypatch.setattr(workers, "CHUNK_CHARACTERS", 150)
    report = check(write(tmp_path / "a.jsonl", texts), workers=1)
    assert [example.document for example in report.rows["html"].examples] == [1, 2, 3]


def test_what_has_no_glyph_is_shown_as_an_escape() -> None:
    assert visible("가\u1112\u1161\u200b\u3164\ud83d나") == r"가\u1112\u1161\u200b\u3164\ud83d나"


def test_the_report_and_the_card_name_the_splits_as_they_are_used(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for split in ("test", "train", "validation"):
        pq.write_table(pa.table({"text": [f"{split}에 있는 글"]}), source / f"{split}.parquet")
    report = clean(str(source), tmp_path / "out")
    assert list(report.kept or {}) == ["train", "validation", "test"]


def test_shards_are_numbered_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP_CHARACTERS", 2000)
    monkeypatch.setattr(shards, "SHARD_BYTES", 20_000)
    texts = [f"{i}번째 문장, 오늘의 값은 {i * i % 97}." for i in range(2000)]
    clean(write(tmp_path / "a.jsonl", texts), tmp_path / "out", workers=1)
    names = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert len(names) > 2
    assert names == [f"train-{n:05d}-of-{len(names):05d}.parquet" for n in range(len(names))]
    assert read(tmp_path / "out") == texts


def test_any_number_of_workers_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK_CHARACTERS", 3_000)
    draw = random.Random(0)
    spec = write(
        tmp_path / "a.jsonl", [draw.choice(DAMAGED) + str(draw.random()) for _ in range(500)]
    )
    reports = []
    for count in (1, 2):
        out = tmp_path / f"out{count}"
        report = clean(spec, out, fixes=FIXES, near_duplicates=0.8, workers=count)
        reports.append((report.as_dict() | {"seconds": 0}, read(out)))
    assert reports[0] == reports[1]


def test_near_duplicates_are_left_out_and_others_are_not(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = SENTENCE.split()
    first = " ".join(draw.choice(words) + str(draw.randrange(100)) for _ in range(80))
    near = first[:200] + "다른 말" + first[200:]
    other = " ".join(draw.choice(words) + str(draw.randrange(100)) for _ in range(80))
    report = clean(
        write(tmp_path / "a.jsonl", [first, near, other, other]),
        tmp_path / "out",
        near_duplicates=0.8,
    )
    assert read(tmp_path / "out") == [first, other]
    assert report.rows["near-duplicate"].repaired == 1


def test_near_duplicates_of_nine_tenths_are_found_and_of_six_are_not() -> None:
    draw = random.Random(0)
    near = {0.6: 0, 0.9: 0}
    for similarity in near:
        for _ in range(40):
            # Two texts of n characters with the first s in common have the similarity s / (2n - s).
            text = "".join(chr(draw.randrange(0xAC00, 0xD7A4)) for _ in range(600))
            shared = int(2 * 600 * similarity / (1 + similarity))
            other = text[:shared] + "".join(
                chr(draw.randrange(0xAC00, 0xD7A4)) for _ in range(600 - shared)
            )
            plan = make_plan(FIXES, None, 0.8, None)
            first, second = (result.minima for result in examine([text, other], plan))
            index = near_index(0.8)
            index.add("1", first)
            near[similarity] += not index.add("2", second)
    assert near[0.6] == 0
    assert near[0.9] >= 38


def test_a_document_of_just_enough_characters_stays(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.jsonl", ["네 글자", " 다섯 글자 ", "   하나   ", " \n\t "])
    report = clean(spec, tmp_path / "out", min_characters=5)
    assert read(tmp_path / "out") == [" 다섯 글자 "]
    assert {name: report.rows[name].repaired for name in ("tiny", "empty")} == {
        "tiny": 2,
        "empty": 1,
    }


def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CHUNK_CHARACTERS", 20_000)
    peaks = []
    for size in (200, 2000):
        path = tmp_path / f"{size}.txt"
        path.write_text("".join(f"{i} {SENTENCE * 8}\n" for i in range(size)), encoding="utf-8")
        check(str(path), workers=1)  # so that imports and compiled patterns do not count
        tracemalloc.start()
        check(str(path), workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4_000_000, peaks  # ten times the text is 2 MB more


def test_each_encoding_is_counted_by_files(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, codec in (
        ("a", "cp949"),
        ("b", "utf-16"),
        ("c", "utf-8-sig"),
        ("d", "utf-8"),
        ("e", "utf-8"),
    ):
        (folder / f"{name}.txt").write_text(f"{SENTENCE} {name}", encoding=codec)
    report = check(str(folder))
    assert report.encodings == {
        "CP949": 1,
        "UTF-16": 1,
        "UTF-8 with a byte order mark": 1,
        "UTF-8": 2,
    }
    assert report.documents == 5
    assert not any(row.documents for row in report.rows.values())


# --- what staging does by itself


def test_staging_repairs_without_loss_and_names_what_is_left(tmp_path: Path) -> None:
    texts = [
        "\ufeff첫 문장이다.",
        unicodedata.normalize("NFD", "둘째 문장이다."),
        "비\u200b가\x00 온다 👩\u200d🚀",
    ]
    texts += [f"{i}번째 문장" for i in range(100)]
    corpus = prepare_corpus(write(tmp_path / "a.jsonl", texts), cache=tmp_path / "cache")
    whole = "".join(corpus.text(split) for split in corpus.splits)
    assert "\ufeff" not in whole
    assert unicodedata.is_normalized("NFC", whole)
    assert "비\u200b가\x00 온다 👩\u200d🚀" in whole
    assert "1 document began with a byte order mark, now left out" in corpus.findings
    assert (
        "control characters (1), characters without width (1) left in: "
        "see `semigpt text check`, repair with `semigpt text clean`" in corpus.findings
    )


def test_staging_says_when_a_text_looks_misread_and_not_of_real_text(tmp_path: Path) -> None:
    lines = [f"{i} {SENTENCE}" for i in range(100)]
    damaged = [line.encode("cp949").decode("latin-1") for line in lines]
    for texts, expected in ((lines, False), (damaged, True)):
        corpus = prepare_corpus(
            write(tmp_path / f"{expected}.jsonl", texts), cache=tmp_path / "cache"
        )
        assert any("misread Korean" in finding for finding in corpus.findings) is expected


# --- refusals and the command line


def test_a_folder_that_exists_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(CorpusError, match="out: it exists already"):
        clean(write(tmp_path / "a.jsonl", DAMAGED), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_link_to_nowhere_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match="out: it exists already"):
        clean(write(tmp_path / "a.jsonl", DAMAGED), tmp_path / "out")
    assert (tmp_path / "out").is_symlink()


def test_a_text_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.jsonl", ["짧다", " "])
    with pytest.raises(CorpusError, match="nothing is left of it to write"):
        clean(spec, tmp_path / "out", min_characters=5)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    spec = write(tmp_path / "a.jsonl", DAMAGED)
    with pytest.raises(CorpusError, match="cannot be written .*name another folder with --out"):
        clean(spec, tmp_path / "file" / "out")


def test_a_broken_source_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "하나"}\n{"text": \n', encoding="utf-8")
    with pytest.raises(CorpusError, match="a.jsonl, line 2: not JSON"):
        clean(str(tmp_path / "a.jsonl"), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("htlm", "--fix htlm: not something to fix; choose from lossless, all, encoding,"),
        ("lossless,email", "--fix email: that is repaired with --mask-personal"),
        ("replacement", "--fix replacement: not something to fix"),
    ],
)
def test_a_name_that_cannot_be_fixed_is_named(names: str, message: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        selected_fixes(names)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--squeeze", "0"], "--squeeze 0: how often a character may repeat is at least 1"),
        (["--near-duplicates", "1.5"], "--near-duplicates 1.5: a share above 0 and up to 1"),
        (["--min-characters", "0"], "--min-characters 0: give at least 1"),
        (["--workers", "0"], "--workers 0: give at least 1"),
    ],
)
def test_values_that_cannot_work_are_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["text", "check", write(tmp_path / "a.jsonl", DAMAGED), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"semigpt: {message}")
    assert error.count("\n") == 1


def test_without_the_library_the_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rensa", None)
    with pytest.raises(SettingsError, match=re.escape("pip install 'semigpt[text]'")):
        check(write(tmp_path / "a.jsonl", DAMAGED), near_duplicates=0.8)


def test_the_command_line_reports_for_people_and_for_scripts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write(tmp_path / "a.jsonl", DAMAGED)
    assert main(["text", "check", spec]) == 0
    table = capsys.readouterr().out
    assert "--fix mojibake" in table
    assert "010-2345" not in table
    assert main(["text", "check", spec, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["findings"]["html"]["places"] == 2
    assert report["documents"] == len(DAMAGED)
    assert set(report["findings"]) == set(BY_NAME)
    assert (
        main(["text", "clean", spec, "--out", str(tmp_path / "out"), "--fix", "lossless,html"]) == 0
    )
    assert "written: train 9" in capsys.readouterr().out
    assert "clean" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="asks /proc which processes are alive")
def test_a_killed_clean_leaves_no_folder_and_no_process(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.jsonl", [f"{i} {SENTENCE * 20}" for i in range(4000)])
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from multiprocessing import active_children\n"
        "from semigpt.corpus.doctor.run import clean\n"
        "if __name__ == '__main__':\n"
        "    def progress(documents, characters):\n"
        "        print(*[child.pid for child in active_children()], flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    clean(sys.argv[1], Path(sys.argv[2]), workers=2, progress=progress)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code, encoding="utf-8")
    out = tmp_path / "below" / "out"
    killed = subprocess.run(
        [sys.executable, str(script), spec, str(out)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pids = [int(pid) for pid in killed.stdout.split()]
    assert len(pids) == 2
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)
    assert not out.exists()
    clean(
        write(tmp_path / "b.jsonl", [SENTENCE]), out
    )  # which also removes what the killed one left
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False


def test_the_doctor_imports_no_torch() -> None:
    code = (
        "import sys, semigpt.corpus.doctor.run\n"
        "sys.exit('torch' in sys.modules or 'datasets' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
