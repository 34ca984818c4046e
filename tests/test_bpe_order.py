"""The order of merges: which two tokens are joined first, and how reliable that is."""

from __future__ import annotations

import numpy as np

from semigpt.tokenizers import CharBPETokenizer
from semigpt.tokenizers.bpe_order import WordTable, order_merges


def test_a_text_is_as_reliable_as_it_is_undivided() -> None:
    table = WordTable({"가나다": 3, "가나": 5, "라": 7, "나다라나다": 2})
    # 가|나다 가나 라 나다|라|나다, each with one character behind it.
    pieces = np.array([0, 1, 4, 7, 9, 11, 12])
    found = table.reliability(["가나", "나다", "다라", "나다라", "가나다", "마바"], pieces)
    assert found == {
        "가나": 5 / 8,
        "나다": 1.0,  # in 가나다 three times, and twice in each of two words
        "다라": 0.0,
        "나다라": 0.0,
        "가나다": 0.0,
        "마바": 0.0,
    }


def test_words_do_not_touch_and_their_tokens_are_counted() -> None:
    words = {"ab": 3, "b": 5, " a": 2, "\n": 4, "": 6}
    tokenizer = CharBPETokenizer("ab \n", [("a", "b"), (" ", "a")])
    table = WordTable(words)
    counts = dict(enumerate(table.token_counts(tokenizer).tolist()))
    tokens = {tokenizer.token_text(i): count for i, count in counts.items() if count}
    assert tokens == {"ab": 3, "b": 5, " a": 2, r"\n": 4}
    pieces = np.array([0, 3, 5, 8, 10])
    assert table.reliability(["ba", "b", " a"], pieces) == {"ba": 0.0, "b": 1.0, " a": 1.0}


def test_the_most_reliable_of_what_can_be_made_is_made_first() -> None:
    # abc is worth more than bc, and can be made only when bc is there.
    assert order_merges({"ab": 0.1, "bc": 0.5, "abc": 0.9}) == [("b", "c"), ("a", "bc"), ("a", "b")]
    assert order_merges({"ab": 0.5, "bc": 0.5, "abc": 0.9})[:2] == [("a", "b"), ("ab", "c")]
    # Its only way leads over bcd or abc, and neither is wanted.
    assert order_merges({"bc": 0.9, "ab": 0.5, "cd": 0.4, "abcd": 1.0}) == [
        ("b", "c"),
        ("a", "b"),
        ("c", "d"),
    ]
    # Of letters that repeat the leftmost two are joined first.
    assert order_merges({"ㅋㅋ": 1.0, "ㅋㅋㅋ": 0.5}) == [("ㅋ", "ㅋ"), ("ㅋㅋ", "ㅋ")]
    assert order_merges({}) == []
