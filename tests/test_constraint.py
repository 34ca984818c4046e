"""Constrained text: automata agree with Python's `re` and UTF-8, whatever the tokenizer."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.errors import SettingsError
from semigpt.generation.automata import Automaton, Banned, Pattern, Utf8
from semigpt.generation.budget import Budget
from semigpt.generation.constraint import Vocabulary, text_constraint
from semigpt.generation.engine import generate_text, stream_text
from semigpt.generation.sampling import SamplingSettings
from semigpt.generation.symbols import SYMBOLS, category, complement
from semigpt.models.gpt import GPT, GPTSettings
from semigpt.tokenizers import CharTokenizer, Tokenizer, train_tokenizer
from semigpt.tokenizers.byte_level import ByteTokenizer


def pattern_of(expression: str) -> Pattern:
    return Pattern(expression, Budget(expression, 10**7))


PATTERNS = (
    r"",
    r"가|나다|나라",
    r"[가-힣]{2,4}",
    r"[^가-힣\d]+?",
    r"\d{1,3}(\.\d+)?도",
    r"(?:서울|부산)(?:은|는) \S+\s?",
    r"\w*[.!?]",
    r"(?s).{0,3}",
    r".*한.*",
    r"^[a-z]*$",
    r"[각-깋힣]?a{2}",
    r"[^\W_]{,2}",
)


@pytest.mark.parametrize("letter", ["d", "s", "w"])
def test_a_class_has_the_characters_that_re_finds(letter: str) -> None:
    every = "".join(map(chr, range(0x110000)))
    wanted = [(run.start(), run.end() - 1) for run in re.finditer(rf"\{letter}+", every)]
    assert category(f"CATEGORY_{letter.upper()}") == wanted
    assert category(f"CATEGORY_NOT_{letter.upper()}") == complement(wanted)


def after(automaton: Automaton, state: Any, symbol: int) -> Any:
    """The state after a symbol."""
    return next(state for behind, state in automaton.runs(state) if symbol < behind)


def reads(automaton: Automaton, data: bytes) -> bool:
    state = automaton.start
    for byte in data:
        state = after(automaton, state, byte)
        if state is None:
            return False
    return automaton.accepts(state)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_takes_what_re_fullmatch_takes(pattern: str) -> None:
    automaton = pattern_of(pattern)

    @settings(max_examples=60, deadline=None)
    @given(
        st.one_of(
            st.from_regex(pattern, fullmatch=True),
            st.text("가각갂나다라한힣 1٣.!a_\n😀", max_size=6),
        )
    )
    def same(text: str) -> None:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            return
        assert reads(automaton, data) == (re.fullmatch(pattern, text) is not None)

    same()


def test_exactly_the_well_formed_sequences_can_be_written() -> None:
    """Code points of every length, and sequences that Python's strict decoder refuses."""
    everything = pattern_of(r"(?s).*")
    for automaton in (Utf8(), everything):
        for code_point in (
            *range(0, 0x900, 3),
            *range(0xAC00, 0xD7A4, 97),
            *range(0xD7FF, 0x11000, 997),
            0x10FFFF,
        ):
            surrogate = 0xD800 <= code_point < 0xE000
            assert (
                reads(automaton, chr(code_point).encode("utf-8", "surrogatepass")) is not surrogate
            )
        for broken in (
            b"\x80",
            b"\xc0\x80",
            b"\xe0\x80\x80",
            b"\xed\xa0\x80",
            b"\xf0\x80\x80\x80",
            b"\xf4\x90\x80\x80",
        ):
            assert not reads(automaton, broken)
        for broken in (b"\xf5", b"\xff", b"\xea\x41", b"\xc3\xc3", "한".encode()[:2]):
            assert not reads(automaton, broken)


def test_a_repetition_has_its_bounds_and_no_symbol_leads_nowhere() -> None:
    for n in range(9):
        assert reads(pattern_of("가{2,4}"), ("가" * n).encode()) == (2 <= n <= 4)
        assert reads(pattern_of("(가나?){3,}"), ("가" * n).encode()) == (n >= 3)
    dead_end = pattern_of(r"가[^\s\S]|나")
    first = [symbol for symbol in range(SYMBOLS) if after(dead_end, dead_end.start, symbol)]
    assert first == ["나".encode()[0]]


def test_a_pattern_that_costs_too_much_gets_its_one_line() -> None:
    assert reads(pattern_of("(){4000000000}가"), "가".encode()), (
        "nothing, however often, is nothing"
    )
    nested = "(" * 250 + "가" + ")*" * 250
    large = "(가나다라){90000}"
    for pattern, message in ((large, "too much work"), (nested, "nested too deeply")):
        with pytest.raises(SettingsError, match=message) as refusal:
            Pattern(pattern, Budget(pattern))
        assert "\n" not in str(refusal.value)


LARGE = [
    ("[가-힣]{1,2000}", ["가"]),
    ("(가{1,100}){1,100}", []),
    ("(.{0,50}){0,50}", []),
    ("(.*a.{400})", ["b"]),
    ("|".join(f"맑음{number}" for number in range(4000)), []),
    ("[가나]*", ["다" * 20_000]),
]


@pytest.mark.parametrize(("pattern", "banned"), LARGE, ids=lambda value: str(value)[:20])
def test_work_is_counted_and_ends_in_one_line(pattern: str, banned: list[str]) -> None:
    """Before the first token, or at a later one: there is no way to spend more."""
    tokenizer = ByteTokenizer()
    with pytest.raises(SettingsError, match="too much work to follow") as refusal:
        constraint = text_constraint(Vocabulary(tokenizer, 256), pattern=pattern, banned=banned)
        state = 1
        for _ in range(300):
            after = np.unique(constraint.transitions(state))
            state = int(after[after > 0][-1])
    assert len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("pattern", "banned"),
    [
        ("[가-힣]{1,2000}", []),
        (".{0,3000}", []),
        ("[가-힣]{1,50}", ["가", "나라"]),
        (r"\w+", []),
        (r"([가-힣]+ )*[가-힣]+다\.", ["서울", "부산"]),
        ("(.*a.{14})", []),
        ("(.*)*(.*)*x", ["y"]),
    ],
)
def test_what_is_commonly_asked_is_within_the_budget(pattern: str, banned: list[str]) -> None:
    constraint = text_constraint(Vocabulary(ByteTokenizer(), 256), pattern=pattern, banned=banned)
    assert constraint.transitions(1).any()


def test_transitions_that_are_not_kept_are_computed_anew(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = Vocabulary(tokenizer, tokenizer.vocab_size)
    ask = {"pattern": "(한빛|[가-바]{3,9}\\d)", "banned": ["다라"]}
    kept = text_constraint(vocabulary, **ask)
    kept.explore()
    monkeypatch.setattr("semigpt.generation.constraint.BYTES_KEPT", 0)
    anew = text_constraint(vocabulary, **ask)
    for _ in range(2):
        anew.explore()
        states = range(1, 40)
        assert all((kept.transitions(s) == anew.transitions(s)).all() for s in states)


@given(
    st.text("가나다", max_size=12),
    st.lists(st.text("가나다", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_banned_strings_are_found_wherever_they_are(text: str, banned: list[str]) -> None:
    free = reads(Banned((word.encode() for word in banned), Budget("")), text.encode())
    assert free == all(word not in text for word in banned)


@pytest.fixture(scope="module", params=["char", "byte", "jamo", "bpe", "char_bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest, korean_text: str) -> Tokenizer:
    size = 400 if request.param in ("bpe", "char_bpe", "unigram") else None
    return train_tokenizer(request.param, [korean_text] * 3, vocab_size=size)


@pytest.fixture(scope="module")
def writer(tokenizer: Tokenizer) -> GPT:
    torch.manual_seed(0)
    return GPT(
        GPTSettings(
            vocab_size=tokenizer.vocab_size, context_length=32, width=32, num_layers=1, num_heads=2
        )
    )


@pytest.mark.parametrize(
    "pattern", [r"[가-힣]{2,4} \d{1,3}도\.", r"(서울|부산) [^\n]{1,5}다", "한빛전자|의사협회"]
)
def test_every_tokenizer_writes_what_the_pattern_says(
    writer: GPT, tokenizer: Tokenizer, pattern: str
) -> None:
    """An untrained model would never write it unasked."""
    settings = {"pattern": pattern, "max_new_tokens": 150, "num_samples": 6, "seed": 1}
    texts = generate_text(writer, tokenizer, "의사", **settings)
    assert all(re.fullmatch(pattern, text) for text in texts), texts
    assert texts == generate_text(writer, tokenizer, "의사", native=False, **settings)
    assert generate_text(
        writer, tokenizer, "의사", sampling=SamplingSettings(num_beams=3), pattern=pattern
    ) != [""]


def test_every_tokenizer_writes_one_of_the_choices(writer: GPT, tokenizer: Tokenizer) -> None:
    choices = ["맑음", "흐림", "눈(雪)"]
    texts = generate_text(writer, tokenizer, "날씨", choices=choices, num_samples=12, seed=1)
    assert set(texts) <= set(choices)
    assert len(set(texts)) > 1


def test_a_choice_ends_the_text_without_another_token(writer: GPT, tokenizer: Tokenizer) -> None:
    (choice,) = {"맑음"}
    ask = {"choices": [choice], "seed": 1, "logprobs": 0}
    spelled = [
        score.token
        for chunk in stream_text(writer, tokenizer, "날씨", **ask)
        for score in chunk.scores
    ]
    assert tokenizer.decode(spelled) == choice
    for native in (None, False):
        exact = {"max_new_tokens": len(spelled), "native": native, **ask}
        assert list(stream_text(writer, tokenizer, "날씨", **exact))[-1].finish_reason == "stop"


def test_no_tokenizer_writes_what_is_banned(writer: GPT, tokenizer: Tokenizer) -> None:
    settings = {"max_new_tokens": 60, "seed": 1, "num_samples": 3, "pattern": "[가나 ]*"}
    assert any("가" in text for text in generate_text(writer, tokenizer, "", **settings))
    assert not any(
        "가" in text for text in generate_text(writer, tokenizer, "", banned=["가"], **settings)
    )


def test_a_pattern_that_no_token_can_spell_is_refused(korean_text: str) -> None:
    plain = CharTokenizer.plain(korean_text)
    with pytest.raises(SettingsError, match="cannot be written with this model's tokens"):
        text_constraint(Vocabulary(plain, plain.vocab_size), pattern="한빛Z")
    with pytest.raises(SettingsError, match="cannot be written"):
        text_constraint(Vocabulary(plain, plain.vocab_size), choices=["한빛"], banned=["빛"])
    every_byte = ByteTokenizer()
    with pytest.raises(SettingsError, match="cannot be written"):
        text_constraint(Vocabulary(every_byte, 256), choices=["한빛"], banned=["빛"])
    only = text_constraint(Vocabulary(plain, plain.vocab_size), pattern="한빛(Z|전자)")
    state = 1
    for character in "한빛전":
        state = int(only.transitions(state)[plain.encode(character)[0]])
        assert state
    two_ways = text_constraint(Vocabulary(plain, plain.vocab_size), pattern="한(빛Z|자)")
    behind = two_ways.transitions(int(two_ways.transitions(1)[plain.encode("한")[0]]))
    assert np.flatnonzero(behind).tolist() == plain.encode("자").tolist(), "빛 leads to no end"


def test_without_an_end_of_text_a_pattern_ends_as_soon_as_it_is_met(korean_text: str) -> None:
    plain = CharTokenizer.plain(korean_text)
    torch.manual_seed(0)
    shape = {"context_length": 16, "width": 32, "num_layers": 1, "num_heads": 2}
    model = GPT(GPTSettings(vocab_size=plain.vocab_size, **shape))
    chunks = list(stream_text(model, plain, "의사", pattern="한빛+", max_new_tokens=9, seed=1))
    assert "".join(chunk.text for chunk in chunks) == "한빛"
    assert chunks[-1].finish_reason == "stop"
