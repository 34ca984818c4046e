"""P11: any string comes back exactly, from every tokenizer; what is streamed is what is decoded."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.tokenizers import CharTokenizer, Kind, Tokenizer, load_tokenizer, train_tokenizer

KOREAN = (
    "기상청은 24일 전국이 대체로 맑겠다고 밝혔다.\n아침 최저기온은 영하 3도에서 5도로 예보됐다.\r\n"
    "의사협회는 “환자의 안전이 먼저”라고 말했다.  "
    "정부는 다음 달까지 대책을 내놓기로 했다. ㅋㅋ\t<|user|>"
)
TRICKY = [
    "",
    " ",
    "  띄어쓰기  두 칸 ",
    "\n\n\r\n\t\0\x7f",
    "<0x41> <0xEA><|endoftext|> <|user|>",
    "▁Ġĉ 뷁",
    "ㄱㅏㅋㅋㅠㅠ ﾤﾷ",
    unicodedata.normalize("NFD", "한국어 é"),
    # A syllable before a final of its own, and letters that stand alone.
    "하\u11ab각\u1100\u1161\u1100",
    "\ufeff👩‍👩‍👧 𠮷\U0010ffff",
    "\ud800\udc00 \ud83d 가\udfff",  # lone surrogates, two of which would make a pair
    "\ufffd",
]
anything = st.characters(exclude_categories=())
# By itself Hypothesis hardly ever draws Hangul or a surrogate, so half of the draws are from these.
picked = st.sampled_from(
    [*KOREAN, *"뷁각ㅏ\u1112\u1161\u11ab\u11a8\u115f\u1160\u3000\ud83d\ude00\ufffd\0"]
)
strings = st.lists(st.one_of(picked, anything)).map("".join) | st.sampled_from(TRICKY)
unicode_strings = strings.filter(lambda text: not any("\ud800" <= c <= "\udfff" for c in text))


def make(name: str) -> Tokenizer:
    kind, _, normalization = name.partition("-")
    return train_tokenizer(
        kind,
        [KOREAN] * 3,
        vocab_size={"bpe": 330, "char_bpe": 370, "unigram": 300}.get(kind),
        normalization=normalization or None,
        special_tokens=["<|user|>"],
    )


NAMES = [*get_args(Kind), "char-NFC", "jamo-NFC", "bpe-NFC", "char_bpe-NFC"]
MADE = {name: make(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return MADE[request.param]


def expected(tokenizer: Tokenizer, text: str) -> str:
    return unicodedata.normalize("NFC", text) if tokenizer.normalization else text


@given(text=strings)
@settings(max_examples=80, deadline=None)
def check_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == tokenizer.dtype
    assert ids.ndim == 1
    assert not set(ids.tolist()) & set(tokenizer.special_tokens.values())
    assert tokenizer.decode(ids) == expected(tokenizer, text)
    stream = tokenizer.stream()
    chunks = [stream.push(i) for i in ids.tolist()]
    assert "".join([*chunks, stream.finish()]) == expected(tokenizer, text)


def test_any_string_comes_back_and_streams_in_whole_characters(tokenizer: Tokenizer) -> None:
    check_round_trip(tokenizer)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_what_is_streamed_is_what_is_decoded_for_any_ids(name: str, data: Any) -> None:
    tokenizer = MADE[name]
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1) | st.integers(0, 330)))
    ids = [i % tokenizer.vocab_size for i in ids]
    stream = tokenizer.stream()
    chunks = [stream.push(i) for i in ids]
    assert "".join([*chunks, stream.finish()]) == tokenizer.decode(ids)


def test_a_tokenizer_saved_and_loaded_gives_the_same_ids(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint == tokenizer.fingerprint
    for text in [KOREAN, *TRICKY]:
        np.testing.assert_array_equal(loaded.encode(text), tokenizer.encode(text))
        assert loaded.decode(tokenizer.encode(text)) == expected(tokenizer, text)


@pytest.mark.parametrize("name", NAMES)
def test_the_tokenizers_library_gives_the_same_ids_and_text(name: str, tmp_path: Path) -> None:
    from tokenizers import Tokenizer as Engine

    MADE[name].save(tmp_path)
    engine = Engine.from_file(str(tmp_path / "tokenizer.json"))

    @given(text=unicode_strings.filter(lambda text: "<|" not in text))
    @settings(max_examples=40, deadline=None)
    def check(text: str) -> None:
        ids = MADE[name].encode(text).tolist()
        assert engine.encode(text, add_special_tokens=False).ids == ids
        assert engine.encode(text).ids == [MADE[name].end_of_text, *ids]
        assert engine.decode(engine.encode(text).ids) == MADE[name].decode(ids)

    check()


def test_transformers_loads_every_kind_with_no_code_of_ours(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path, context_length=64)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    text = KOREAN.replace("<|user|>", "") + "뷁 é <0x41>"
    ids, end = tokenizer.encode(text).tolist(), tokenizer.end_of_text
    assert theirs(text)["input_ids"] == [end, *ids]
    assert theirs(text, add_special_tokens=False)["input_ids"] == ids
    assert theirs.decode(theirs(text)["input_ids"], skip_special_tokens=True) == text
    assert theirs.eos_token_id == end
    assert theirs.model_max_length == 64
    # Their way with the spelling of a special token, and ours: text is text.
    assert theirs("가<|endoftext|>")["input_ids"] == [end, *tokenizer.encode("가"), end]
    assert end not in tokenizer.encode("가<|endoftext|>")
    # What they save again is still ours.
    theirs.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").fingerprint == tokenizer.fingerprint


def test_a_batch_begins_each_text_is_padded_at_the_left_and_cut_at_the_right(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer.save(tmp_path, context_length=16)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    end = tokenizer.end_of_text
    ids = [[end, *tokenizer.encode(text).tolist()] for text in ("", "가", KOREAN)]
    batch = theirs(["", "가", KOREAN], padding=True, truncation=True)
    padding = [16 - len(row[:16]) for row in ids]
    assert batch["input_ids"] == [
        [end] * pad + row[:16] for pad, row in zip(padding, ids, strict=True)
    ]
    assert batch["attention_mask"] == [[0] * pad + [1] * (16 - pad) for pad in padding]
    assert theirs("가", "가")["input_ids"] == ids[1] + ids[1][1:]


def test_a_file_that_puts_nothing_before_a_text_still_loads(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    tokenizer.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": None}))
    loaded = load_tokenizer(tmp_path)
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(KOREAN).tolist() == tokenizer.encode(KOREAN).tolist()


def test_characters_have_the_books_ids_however_much_else_there_is() -> None:
    book = {character: i for i, character in enumerate(sorted(set(KOREAN)))}
    ids = [book[character] for character in KOREAN]
    assert CharTokenizer(KOREAN).encode(KOREAN).tolist() == ids
    assert CharTokenizer.plain(KOREAN).encode(KOREAN).tolist() == ids
    assert CharTokenizer.plain(KOREAN).vocab_size == len(book)
    assert CharTokenizer.plain(KOREAN).decode(ids) == KOREAN
