"""BPE over whole characters: what is learned, and the same ids whoever merges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.corpus import news
from semigpt.errors import TokenizerError
from semigpt.native import tokenize as native
from semigpt.tokenizers import CharBPETokenizer, char_bpe
from semigpt.tokenizers.base import byte_token
from semigpt.tokenizers.bpe_pruning import prune

REVIEWS = Path(__file__).parents[1] / "film_reviews" / "test-00000-of-00001.parquet"


def merged_by_score(tokenizer: CharBPETokenizer, text: str) -> list[int]:
    """SentencePiece's way, and llama.cpp's: join the two neighbours that make the lowest token,
    the leftmost first, anywhere in the text and whatever the merges are."""
    tokens = tokenizer.tokenizer_json()["model"]["vocab"]
    symbols = list(text)
    while True:
        ways = [(tokens[a + b], i) for i, (a, b) in enumerate(pairwise(symbols)) if a + b in tokens]
        if not ways:
            break
        _, i = min(ways)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
    spelled = (
        [symbol] if symbol in tokens else [byte_token(byte) for byte in symbol.encode()]
        for symbol in symbols
    )
    return [tokens[token] for tokens_ in spelled for token in tokens_]


def check_every_way(tokenizer: CharBPETokenizer, texts: list[str], *, longest: int = 400) -> None:
    from tokenizers import Tokenizer as Engine

    document = tokenizer.tokenizer_json() | {"added_tokens": [], "post_processor": None}
    assert document["pre_tokenizer"] is document["normalizer"] is None
    engine = Engine.from_str(json.dumps(document))
    rows = [row[:-1].tolist() for row in tokenizer.encode_documents(texts)]
    for text, ids in zip(texts, rows, strict=True):
        assert engine.encode(text).ids == ids, repr(text)
        assert engine.decode(ids) == tokenizer.decode(ids) == text
        if len(text) <= longest:
            assert merged_by_score(tokenizer, text) == ids, repr(text)


# Letters that repeat make pairs that overlap and ties; the rest are what separates words.
letters = st.text("ab가나ㅋ  1.\n\t", max_size=40) | st.text("ab", max_size=40)
anything = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)


@given(
    documents=st.lists(letters, min_size=1, max_size=6),
    texts=st.lists(letters | anything, min_size=1, max_size=6),
)
@settings(max_examples=100, deadline=None)
def test_merging_by_rank_and_by_score_is_the_same(documents: list[str], texts: list[str]) -> None:
    tokenizer = CharBPETokenizer.train(documents, vocab_size=330)
    check_every_way(tokenizer, [*documents, *texts])


def korean(source: str) -> Iterator[str]:
    if source == "news":
        yield from (article.document for article in islice(news.rows("train"), 400))
        return
    if not REVIEWS.exists():
        pytest.skip("no film_reviews: python benchmarks/film_reviews.py makes them")
    from pyarrow import parquet

    for film in parquet.read_table(REVIEWS).column("document").to_pylist():
        yield from film.split("\n")


@pytest.mark.parametrize("source", ["news", "reviews"])
def test_korean_has_the_same_ids_whoever_merges(source: str) -> None:
    documents = list(korean(source))
    tokenizer = CharBPETokenizer.train(documents, vocab_size=4000 if source == "reviews" else 1500)
    check_every_way(tokenizer, ["\n".join(documents[:500]), *documents[:2000]], longest=150)


def test_every_token_is_what_its_own_text_merges_to() -> None:
    """On which the proof stands that any way of merging gives the same ids."""
    documents = ["아아아아아 아아 abab ababab ㅋㅋㅋㅋㅋㅋㅋ 123 1212 !!?! ...."] * 3
    tokenizer = CharBPETokenizer.train(documents, vocab_size=340)
    for token in range(256, tokenizer.vocab_size - 1):
        assert tokenizer.encode(tokenizer.token_bytes(token).decode()).tolist() == [token]


def test_tokens_are_short_and_keep_to_one_kind_of_character() -> None:
    documents = [" 가나다라마바 2026년 12월! ㅋㅋㅋㅋㅋㅋ\n\n  <0x41><|user|>,abcdefghijklmn"] * 9
    tokenizer = CharBPETokenizer.train(documents, vocab_size=600)
    learned = [tokenizer.token_bytes(i).decode() for i in range(256, tokenizer.vocab_size - 1)]
    assert max(len(token.encode()) for token in learned) == 10
    assert {" 가나다", "라마바", " 2026", "abcdefgh"} <= set(learned)
    for token in learned:
        bare = token.lstrip(" ") if token.strip() else token[:1]
        assert len(bare) == 1 or bare.isdigit() or bare.isalpha() or not bare.strip("!<>|,"), token


def test_a_character_is_a_token_where_that_saves_as_much_as_a_merge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(char_bpe, "EXTRA", 1.0)  # nothing is pruned
    documents = ["ab" * 10 + "가" * 6 + "!" + "é" * 9]
    names = {}
    for room in range(1, 8):
        tokenizer = CharBPETokenizer.train(documents, vocab_size=257 + room)
        names[room] = [tokenizer.token_text(i) for i in range(256, 256 + room)]
    # 가 saves 6 x 2 tokens, a, b and their pair 10 each, é 9, two of é 4, two of ab 5.
    assert names[1] == ["가"]
    assert names[2] == ["a", "가"]
    assert names[4] == ["a", "b", "가", "ab"]
    assert names[5] == ["a", "b", "é", "가", "ab"]
    assert names[6] == ["a", "b", "é", "가", "ab", "abab"]


def bits_per_character(tokenizer: CharBPETokenizer, documents: list[str]) -> float:
    """Of tokens drawn independently, by their own frequencies."""
    counts = np.bincount(
        np.concatenate([row[:-1] for row in tokenizer.encode_documents(documents)])
    )
    counts = counts[counts > 0]
    return float(-(counts * np.log2(counts / counts.sum())).sum() / sum(map(len, documents)))


def test_a_pruned_vocabulary_makes_the_text_likelier(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = list(korean("news"))
    pruned = CharBPETokenizer.train(documents, vocab_size=1500)
    monkeypatch.setattr(char_bpe, "EXTRA", 1.0)
    plain = CharBPETokenizer.train(documents, vocab_size=1500)
    assert pruned.vocab_size == plain.vocab_size == 1500
    saved = bits_per_character(plain, documents) - bits_per_character(pruned, documents)
    assert saved > 0.05


def test_merges_in_the_order_of_their_reliability_make_the_text_likelier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    documents = list(korean("news"))
    ordered = CharBPETokenizer.train(documents, vocab_size=2500)
    monkeypatch.setattr(char_bpe, "_reliable_first", lambda *_: [])  # which no text is likelier by
    frequent = CharBPETokenizer.train(documents, vocab_size=2500)
    assert bits_per_character(frequent, documents) - bits_per_character(ordered, documents) > 0.005
    assert len(frequent.merges) > 900, "the order in which they were learnt makes it likelier"


def test_the_token_goes_that_the_text_misses_least_and_none_that_another_needs() -> None:
    characters = {"a": 20, "b": 20, "c": 9, "x": 9, "y": 9, "가": 1, "힣": 2}
    merges = [("a", "b", 20), ("ab", "c", 8), ("x", "y", 3)]
    every = {*characters, "ab", "abc", "xy"}
    before, gone = every, []
    for wanted in range(len(every) - 1, 2, -1):
        _, kept, left = prune(characters, merges, wanted)
        tokens = {*kept, *(a + b for a, b in left)}
        assert len(tokens) == wanted
        assert all({a, b} <= tokens for a, b in left)
        gone += before - tokens
        before = tokens
    # x and y are seldom together; a letter of one byte is as well that byte; c and "ab" are nearly
    # always together; a syllable is three bytes, and the rarer one is missed less.
    assert gone == ["xy", "x", "y", "abc", "c", "가", "힣"]


def test_what_files_cannot_hold_and_what_is_rare_is_written_in_bytes() -> None:
    documents = ["\0\u2581\ud800" * 9 + "가가가나"]
    tokenizer = CharBPETokenizer.train(documents, vocab_size=400, min_count=2)
    assert [tokenizer.token_text(i) for i in range(256, tokenizer.vocab_size)] == [
        *("가", "가가", "<|endoftext|>")
    ]
    text = documents[0]
    assert tokenizer.encode(text).tolist() == [
        *text[:27].encode("utf-8", "surrogatepass"), 257, 256, *"나".encode()
    ]  # fmt: skip
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_bytes_come_first_and_only_spell_what_has_no_token() -> None:
    tokenizer = CharBPETokenizer(
        "나가", [("나", "가"), ("나가", "나")], special_tokens=["<|user|>"]
    )
    assert [tokenizer.token_text(i) for i in (0, 0x41, 255, *range(256, 262))] == [
        *("<0x00>", "<0x41>", "<0xFF>", "가", "나", "나가", "나가나", "<|endoftext|>", "<|user|>")
    ]
    assert tokenizer.encode("나가나A").tolist() == [259, 0x41]


def test_merges_that_make_no_tokens_are_refused() -> None:
    for merges, says in (
        ([("가", "다")], "the merge of '가' and '다': not both are tokens"),
        ([("<0x41>", "가")], "not both are tokens"),
        ([("가나", "가"), ("가", "나")], "not both are tokens"),
        ([("가", "나"), ("가나", "가"), ("나", "가"), ("가", "나가")], "two merges make '가나가'"),
    ):
        with pytest.raises(TokenizerError, match=says):
            CharBPETokenizer("가나", merges)
    with pytest.raises(TokenizerError, match="special token '가나' is a token of the text"):
        CharBPETokenizer("가나", [("가", "나")], special_tokens=["가나"])


def test_the_encoder_in_c_cuts_only_where_no_token_reaches_across() -> None:
    """A token across white space and classes, as a file by hand might have it."""
    if not native.available():
        pytest.skip("no C compiler")
    tokenizer = CharBPETokenizer(
        "ab .\n", [("a", " "), (" ", " "), (".", "\n"), ("a ", "b"), ("b", "."), ("a b", ".\n")]
    )
    numbers = np.random.default_rng(0)
    texts = ["".join(numbers.choice([*"ab .\n가"], 30)) for _ in range(300)]
    check_every_way(tokenizer, texts, longest=0)
