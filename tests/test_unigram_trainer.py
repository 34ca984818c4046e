"""The trainer of Unigram's pieces: what it counts, what it keeps, and how likely the text is with
it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semigpt.corpus import prepare_corpus
from semigpt.native import tokenize as native
from semigpt.tokenizers import UnigramTokenizer
from semigpt.tokenizers.byte_level import _scores, byte_letters
from semigpt.tokenizers.unigram_trainer import (
    LONGEST,
    LONGEST_WORD,
    _Lattice,
    cut_words,
    learn_pieces,
)
from semigpt.tokenizers.words import count_words

WORDS = {" 가나": 9, "가나다": 5, "나다나다": 4, "다": 7, "abab": 3, "가": 2, "뷁": 1}


def ways(word: str, sizes: range) -> Iterator[list[str]]:
    """All ways to cut a word into parts of these sizes."""
    if not word:
        yield []
    for size in sizes:
        if size <= len(word):
            yield from ([word[:size], *rest] for rest in ways(word[size:], sizes))


def pieces_of(lattice: _Lattice) -> list[str]:
    """What each id says."""
    row_of = np.repeat(np.arange(lattice.rows + 1), lattice.n)
    longer = range(len(lattice.letters), len(lattice.length))
    said = []
    for i in longer:
        row = row_of[lattice.end[i]]
        said.append(
            lattice.words[lattice.end[i] - lattice.first[row]][row - lattice.length[i] : row]
        )
    return [*lattice.letters, *said]


def test_expected_counts_are_those_over_all_ways_to_cut_each_word() -> None:
    lattice = _Lattice(WORDS, 10)
    pieces = pieces_of(lattice)
    assert {" 가나", "나다", "abab"} < set(pieces)
    p = dict(zip(pieces, lattice.p.tolist(), strict=True))
    expected = dict.fromkeys(pieces, 0.0)
    for word, count in WORDS.items():
        cuts = [cut for cut in ways(word, range(1, 5)) if all(piece in p for piece in cut)]
        likely = [math.prod(p[piece] for piece in cut) for cut in cuts]
        for cut, probability in zip(cuts, likely, strict=True):
            for piece in cut:
                expected[piece] += count * probability / sum(likely)
    lattice.fit()
    assert dict(zip(pieces, lattice.count.tolist(), strict=True)) == pytest.approx(expected)
    # The mean-field estimate: a count less one half, over the sum of all such.
    whole = np.flatnonzero(lattice.whole)
    seen = [*whole, *range(len(lattice.letters), len(pieces))]
    for i in seen:
        assert lattice.p[i] == pytest.approx(max(lattice.count[i] - 0.5, 0) / lattice.total)


def test_what_costs_least_to_do_without_goes_first() -> None:
    lattice = _Lattice(WORDS, 10)
    lattice.fit()
    pieces, letters = pieces_of(lattice), len(lattice.letters)
    p: dict[str, float] = dict(zip(pieces, lattice.p.tolist(), strict=True))
    count: dict[str, float] = dict(zip(pieces, lattice.count.tolist(), strict=True))
    whole = {
        letter for letter, is_whole in zip(lattice.letters, lattice.whole, strict=True) if is_whole
    }

    def loss(piece: str) -> float:
        cuts = [cut for cut in ways(piece, range(1, len(piece))) if all(part in p for part in cut)]
        best = max(cuts, key=lambda cut: sum(math.log(max(p[part], 1e-300)) for part in cut))
        without = 0.0
        for part in best:
            spelt = part in lattice.letters and part not in whole
            without += math.log(p[part] if spelt else (count[part] + count[piece]) / lattice.total)
        return count[piece] * (math.log(max(p[piece], 1e-300)) - without)

    losses = {piece: loss(piece) for piece in pieces[letters:]}
    for piece in whole:
        seen = [lattice.byte_count[byte] + count[piece] for byte in piece.encode()]
        without = sum(math.log(number / lattice.total) for number in seen)
        losses[piece] = count[piece] * (math.log(p[piece]) - without)
    assert len(losses) == lattice.removable
    kept = sorted(losses, key=lambda piece: -losses[piece])[:5]
    lattice.prune(5)
    assert lattice.removable == 5
    still = {
        letter for letter, is_whole in zip(lattice.letters, lattice.whole, strict=True) if is_whole
    }
    assert {*still, *pieces_of(lattice)[letters:]} == set(kept)


@given(
    words=st.dictionaries(
        st.text("ab", min_size=1, max_size=40)
        | st.text("ㅋ하", min_size=1, max_size=40)
        | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        st.integers(1, 9),
    ),
    num_pieces=st.integers(0, 30),
)
@settings(max_examples=60, deadline=None)
def test_pieces_are_whole_characters_that_stand_twice_in_a_word(
    words: dict[str, int], num_pieces: int
) -> None:
    scores = learn_pieces(words, num_pieces)
    assert {bytes([byte]) for byte in range(256)} <= set(scores)
    assert len(scores) <= 256 + num_pieces
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert sum(map(math.exp, scores.values())) == pytest.approx(1, abs=1e-4)
    for piece in scores:
        if len(piece) > 1:
            said = piece.decode()
            assert len(said) == 1 or len(piece) <= LONGEST
            seen = sum(
                count * word.startswith(said, begin)
                for word, count in words.items()
                for begin in range(len(word))
            )
            assert len(said) == 1 or seen >= 2
    assert learn_pieces(dict(sorted(words.items())), num_pieces) == scores


def test_frequent_words_are_pieces_and_rare_characters_bytes() -> None:
    words = {" 모델": 400_000, " 언어": 300_000, "를": 300_000, "뷁": 3, " 모델을": 20}
    scores = learn_pieces(words, 3)
    assert {piece.decode() for piece in scores if len(piece) > 1} == {" 모델", " 언어", "를"}
    assert all(scores[bytes([byte])] > scores[b"\xff"] for byte in "뷁".encode())


def test_a_long_word_is_cut() -> None:
    whole, rest = divmod(1000, LONGEST_WORD)
    assert learn_pieces({"ㅋ" * 1000: 1}, 3) == learn_pieces(
        {"ㅋ" * LONGEST_WORD: whole, "ㅋ" * rest: 1}, 3
    )


def test_the_text_is_likelier_than_with_the_librarys_pieces() -> None:
    """Of the bundled news, in as many pieces, each tokenizer cutting as it finds likeliest."""
    from tokenizers import Tokenizer as Engine
    from tokenizers import models, pre_tokenizers, trainers

    documents = list(prepare_corpus("news").documents("train"))[:60]
    engine = Engine(models.Unigram())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = list(byte_letters())
    trainer = trainers.UnigramTrainer(
        vocab_size=1000, initial_alphabet=alphabet, show_progress=False
    )
    engine.train_from_iterator(documents, trainer)
    theirs = UnigramTokenizer(_scores(json.loads(engine.to_str())["model"]["vocab"]))
    ours = UnigramTokenizer.train(documents, vocab_size=theirs.vocab_size)

    def likelihood(tokenizer: UnigramTokenizer) -> float:
        scores = list(tokenizer.scores.values())
        return math.fsum(scores[i] for text in documents for i in tokenizer.encode(text).tolist())

    assert likelihood(ours) > 0.95 * likelihood(theirs)


@given(
    st.dictionaries(st.text("가나다라", min_size=1, max_size=20), st.integers(1, 50), min_size=1)
)
@settings(max_examples=50, deadline=None)
def test_words_are_cut_where_the_tokenizer_cuts_them(words: dict[str, int]) -> None:
    scores = learn_pieces(words, 12)
    tokenizer = UnigramTokenizer(scores)
    parts, begins = cut_words(words, 12)
    text = "".join(f"{part}\n" for part in parts)
    starts = np.concatenate([[0], np.cumsum([len(part) + 1 for part in parts])]).tolist()
    assert sum(parts.values()) >= sum(words.values())
    for start, (part, count) in zip(starts, parts.items(), strict=False):
        assert count == words.get(part, count) or len(part) <= LONGEST_WORD
        inside = [i for i in begins.tolist() if start <= i < start + len(part)]
        pieces = [text[i:j] for i, j in pairwise([*inside, start + len(part)])]
        assert "".join(pieces) == part

        def likelihood(pieces: list[str]) -> float:
            spelt = [scores.get(p.encode()) for p in pieces]
            return sum(
                sum(scores[bytes([byte])] for byte in piece.encode()) if score is None else score
                for piece, score in zip(pieces, spelt, strict=True)
            )

        best = sum(list(tokenizer.scores.values())[i] for i in tokenizer.encode(part).tolist())
        assert likelihood(pieces) == pytest.approx(best, abs=1e-4)


def test_lone_surrogates_are_left_out() -> None:
    tokenizer = UnigramTokenizer.train(["한국\ud800어 한국어"] * 3, vocab_size=300)
    assert tokenizer.decode(tokenizer.encode("\ud800한국어")) == "\ud800한국어"
    counted: Mapping[str, int] = count_words(["한국어"], None)
    assert UnigramTokenizer.train(["한국\ud800어"]).scores == learn_pieces(counted, 7743)


@given(st.lists(st.text("가나 '\n\t_12²ⅧaS.ㅋ\u3000\ud800🙂s"), max_size=4), st.booleans())
def test_words_are_counted_alike_with_and_without_a_compiler(
    documents: list[str], runs: bool
) -> None:
    counted = count_words(iter(documents), "NFC", runs=runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "available", lambda: False)
        without = count_words(iter(documents), "NFC", runs=runs)
    assert list(counted.items()) == list(without.items())  # which are equal in order, too


def test_runs_are_words_of_one_class() -> None:
    counted = count_words(["don't  가나12,\n\n 3 \t\t \n  "], None, runs=True)
    words = ("don", "'", "t", "  가나", "12", ",", "\n\n ", "3", " ", "\t\t \n  ")
    assert counted == dict.fromkeys(words, 1)


def test_expected_counts_have_the_same_bits_with_and_without_a_compiler() -> None:
    """So the same tokenizer is learnt on every machine."""
    random = np.random.default_rng(0)
    words = {
        "".join(chr(0xAC00 + int(i)) for i in random.zipf(1.5, random.integers(1, 16)) % 30): i
        for i in range(1, 400)
    }
    fitted = []
    for in_c in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(native, "available", lambda in_c=in_c: in_c)
            lattice = _Lattice(words, 300)
            lattice.fit()
            lattice.fit()
            fitted.append((lattice.count, lattice.p))
    assert np.array_equal(fitted[0][0], fitted[1][0])
    assert np.array_equal(fitted[0][1], fitted[1][1])
