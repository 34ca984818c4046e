"""Tokenizers: vocabularies, training, files, and what they say to bad input."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import little_memory
from semigpt.errors import TokenizerError
from semigpt.native import tokenize as native
from semigpt.tokenizers import (
    LEARNING_VERSION,
    BPETokenizer,
    ByteTokenizer,
    CharTokenizer,
    JamoTokenizer,
    Tokenizer,
    UnigramTokenizer,
    count_characters,
    load_tokenizer,
    train_tokenizer,
)
from semigpt.tokenizers.base import Ids
from semigpt.tokenizers.bpe_trainer import BYTES, learn_merges
from semigpt.tokenizers.byte_level import ByteLevelTokenizer, WordTokenizer

TEXT = "한국어 언어 모델을 만든다.\n"


def test_importing_the_tokenizers_imports_no_heavy_library() -> None:
    program = (
        "import sys, semigpt.tokenizers as t; t.CharTokenizer('가나').encode('나가');"
        "heavy = ('torch', 'transformers', 'datasets', 'tokenizers');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Vocabularies


def test_a_char_vocabulary_is_characters_then_end_of_text_then_bytes_then_special_tokens() -> None:
    tokenizer = CharTokenizer("나가", special_tokens=["<|user|>"])
    assert [tokenizer.token_text(i) for i in (0, 1, 2, 3, 258, 259)] == [
        *("가", "나", "<|endoftext|>", "<0x00>", "<0xFF>", "<|user|>")
    ]
    assert tokenizer.vocab_size == len(tokenizer) == 2 + 1 + 256 + 1
    assert tokenizer.special_tokens == {"<|endoftext|>": 2, "<|user|>": 259}
    assert tokenizer.encode("가뷁").tolist() == [0, *(3 + byte for byte in "뷁".encode())]


def test_rare_characters_are_left_to_the_bytes() -> None:
    counts = {"가": 5, "나": 2, "다": 2, "라": 1, "\ud800": 9}
    assert CharTokenizer.from_counts(counts, min_count=2).characters == ["가", "나", "다"]
    assert CharTokenizer.from_counts(counts, max_vocab_size=257 + 2).characters == ["가", "나"]
    assert CharTokenizer("가\ud800").characters == ["가"]  # JSON has no lone surrogates
    assert count_characters(["가나", "", "가\ud800"]) == {"가": 2, "나": 1, "\ud800": 1}
    assert count_characters(["\u1100\u1161"], "NFC") == {"가": 1}


def test_ids_take_the_smallest_type_that_holds_the_vocabulary() -> None:
    assert CharTokenizer.plain("가나다").encode("다가").dtype == np.uint8
    assert CharTokenizer("가나다").encode("다가").dtype == np.uint16
    many = "".join(chr(c) for c in range(0x10000, 0x10000 + 65536 - 257))
    assert CharTokenizer(many).dtype == np.uint16
    assert CharTokenizer(many + "가").dtype == np.uint32
    assert CharTokenizer.plain("".join(chr(c) for c in range(256))).encode("\xff").tolist() == [255]


def test_a_plain_vocabulary_names_the_character_it_lacks_and_its_place() -> None:
    tokenizer = CharTokenizer.plain("가나")
    assert tokenizer.end_of_text is None
    with pytest.raises(TokenizerError, match=r"character 2 of the text, '뷁'"):
        tokenizer.encode("가나뷁")
    with pytest.raises(TokenizerError, match="character 100000 of the text"):
        tokenizer.encode("가" * 100_000 + "뷁")  # far enough to be in another chunk
    with pytest.raises(TokenizerError, match="character 1 of the text is a lone surrogate"):
        CharTokenizer.plain("가\ud800")
    with pytest.raises(TokenizerError, match="empty"):
        CharTokenizer.plain("")


def test_a_syllable_is_its_letters_and_stray_letters_are_bytes() -> None:
    tokenizer = JamoTokenizer("ㅋ")
    assert [tokenizer.token_text(i) for i in tokenizer.encode("한가ㅋ")] == [
        "ᄒ",
        "ᅡ",
        "ᆫ",
        "ᄀ",
        "ᅡ",
        "ㅋ",
    ]
    assert tokenizer.encode("\u1112\u1161").tolist() == list("\u1112\u1161".encode())
    assert tokenizer.decode([*tokenizer.encode("가"), *tokenizer.encode("\u11a8")]) == "가\u11a8"
    composing = JamoTokenizer(normalization="NFC")
    assert composing.decode(composing.encode("\u1112\u1161\u11ab")) == "한"


def test_long_texts_are_encoded_in_chunks_that_leave_no_seam() -> None:
    text = ("가나다 뷁\ud83d\ude00" * 60_000)[: 5 * 65536 + 1]
    for tokenizer in (CharTokenizer("가나다 "), JamoTokenizer("ㅋ"), ByteTokenizer()):
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        np.testing.assert_array_equal(ids[-40:], tokenizer.encode(text[-40:])[-40:])


# Decoding


def test_bytes_that_are_no_character_become_one_replacement_a_part_as_in_python() -> None:
    tokenizer = ByteTokenizer()
    for data in (
        b"\xea\xb0",
        b"\xea\xb0A",
        b"\xff\xfe",
        b"\xf0\x9f\x98\xea",
        b"\xed\xa0A",
        "가".encode() + b"\xea",
    ):
        assert tokenizer.decode(data) == data.decode(errors="replace")
    char = CharTokenizer("가")
    assert char.decode([2 + 0xEA, 2 + 0xB0, 2 + 0x80, 0, 2 + 0xEA]) == "가가\ufffd"


def test_a_stream_holds_a_character_back_until_it_is_whole() -> None:
    stream = ByteTokenizer().stream()
    assert [stream.push(byte) for byte in "가\ud800a".encode("utf-8", "surrogatepass")] == [
        *("", "", "가", "", "", "\ud800", "a")
    ]
    stream.push(0xEA)
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""
    letters = JamoTokenizer()
    stream = letters.stream()
    assert [stream.push(i) for i in letters.encode("한가 ").tolist()] == [
        "",
        "",
        "한",
        "",
        "",
        "가 ",
    ]


def test_decode_takes_any_row_of_ids() -> None:
    for tokenizer in (CharTokenizer("가나"), ByteTokenizer(), BPETokenizer([]), JamoTokenizer()):
        ids = tokenizer.encode("나가뷁")
        for row in (
            ids,
            ids.tolist(),
            tuple(ids),
            iter(ids.tolist()),
            torch.from_numpy(ids.astype(np.int64)),
        ):
            assert tokenizer.decode(row) == "나가뷁"
        assert tokenizer.decode([]) == tokenizer.decode(np.array([])) == ""
        assert tokenizer.decode([tokenizer.end_of_text, *ids]) == "나가뷁"
        for wrong in ([0, tokenizer.vocab_size], [0, -1], np.array([0, -1], np.int16)):
            with pytest.raises(TokenizerError, match="at position 1 is outside the vocabulary"):
                tokenizer.decode(wrong)
        with pytest.raises(TokenizerError, match="one row of integers"):
            tokenizer.decode(np.zeros((2, 2), int))
        with pytest.raises(TokenizerError, match="one row of integers"):
            tokenizer.decode([0.5])


def test_token_text_shows_bytes_and_control_characters() -> None:
    tokenizer = ByteTokenizer()
    assert [tokenizer.token_text(i) for i in (0xEA, ord("a"), ord("\n"), 0, 256)] == [
        *("<0xEA>", "a", "\\n", "\\x00", "<|endoftext|>")
    ]
    assert CharTokenizer("a").token_text(2 + ord("a")) == "<0x61>"


# Training


@pytest.mark.parametrize("kind", ["char", "byte", "jamo", "bpe", "char_bpe", "unigram"])
def test_documents_end_where_end_of_text_says(kind: str) -> None:
    documents = [TEXT, "", "\ud800<|endoftext|>", TEXT * 3]
    tokenizer = train_tokenizer(kind, documents, vocab_size=400)
    rows = list(tokenizer.encode_documents(documents))
    assert [tokenizer.decode(row) for row in rows] == documents
    for row, document in zip(rows, documents, strict=True):
        np.testing.assert_array_equal(row, [*tokenizer.encode(document), tokenizer.end_of_text])
        assert row.dtype == tokenizer.dtype


@pytest.mark.parametrize("kind", ["char", "byte", "jamo", "bpe", "char_bpe", "unigram"])
def test_training_twice_gives_the_same_tokenizer_within_the_size_asked_for(kind: str) -> None:
    documents = [TEXT, "모델은 언어를 배운다. ", "언어 모델"] * 5
    first, second = (
        train_tokenizer(kind, iter(documents), vocab_size=340, special_tokens=["<|user|>"])
        for _ in range(2)
    )
    assert first.kind == kind
    assert first.fingerprint == second.fingerprint
    assert first.vocab_size <= 340
    assert list(first.special_tokens) == ["<|endoftext|>", "<|user|>"]


@given(
    words=st.dictionaries(
        st.text("ab", min_size=1, max_size=12) | st.text("aㄱ가", min_size=1), st.integers(1, 9)
    )
)
@settings(max_examples=60, deadline=None)
def test_merges_are_those_of_the_tokenizers_library(words: dict[str, int]) -> None:
    from tokenizers import Tokenizer as Engine
    from tokenizers import models, pre_tokenizers, trainers

    from semigpt.tokenizers.byte_level import byte_letters

    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    letters = list(byte_letters())
    trainer = trainers.BpeTrainer(
        vocab_size=276, initial_alphabet=letters, show_progress=False, min_frequency=1
    )
    engine.train_from_iterator(
        (word for word, count in words.items() for _ in range(count)), trainer
    )
    theirs = [tuple(merge) for merge in json.loads(engine.to_str())["model"]["merges"]]

    # The library numbers bytes in the order of their letters, which decides between pairs seen as
    # often.
    rank = {letter: i for i, letter in enumerate(sorted(letters))}
    renumbered = {
        "".join(chr(rank[letters[byte]]) for byte in word.encode()): n for word, n in words.items()
    }
    spelled = sorted(letters)
    ours = []
    for left, right, _ in learn_merges(renumbered, BYTES, most=20):
        ours.append((spelled[left], spelled[right]))
        spelled.append(spelled[left] + spelled[right])
    assert ours == theirs


@given(
    words=st.dictionaries(
        st.text("ab", min_size=1, max_size=12) | st.text("abㄱ가나\n", min_size=1),
        st.integers(1, 9),
        max_size=12,
    ),
    longest=st.integers(2, 9),
    min_count=st.integers(1, 4),
    most=st.integers(0, 30),
)
def test_merges_are_the_same_with_and_without_a_compiler(
    words: dict[str, int], longest: int, min_count: int, most: int
) -> None:
    alphabet = {"가": 3, "a": 1, "b": 1, "나": 3}  # not ㄱ: a boundary within words
    limits = {"most": most, "longest": longest, "min_count": min_count}
    merges = learn_merges(words, alphabet, **limits)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "available", lambda: False)
        assert merges == learn_merges(words, alphabet, **limits)


def test_whoever_learns_other_tokens_raises_the_version() -> None:
    """Or a tokenizer that is kept beside a corpus goes on being used."""
    documents = [
        " ".join(words)
        for words in product(
            ("도서관은", "시립도서관이", "연구원은"),
            ("지난해", "하반기에", "어제", "2026년"),
            ("대출을", "기록을", "자료를"),
            ("정리했다.", "정했다.", "찾았다!"),
        )
    ]
    text = "시립연구원이 지난해 대출 기록을 찾았다."
    learnt = {}
    for kind in ("bpe", "char_bpe", "unigram"):
        tokenizer = train_tokenizer(kind, documents, vocab_size=330)
        tokens = [tokenizer.decode([token]) for token in tokenizer.encode(text).tolist()]
        learnt[kind] = "|".join(tokens).replace("\N{REPLACEMENT CHARACTER}", "?")
    assert (LEARNING_VERSION, learnt) == (
        2,
        {
            "bpe": "시|?|?|연?|???|???|?| ?|?|??|?|?|?|?|?| 대?|?|?| 기록을| 찾았다|.",
            "char_bpe": "시립|연구원|이| 지난해| 대|출| 기록을| 찾았다|.",
            "unigram": "?|?|?|?|?|?|연구원|?|?|?| 지난해| |?|?|?|?|?|?| 기록을| 찾았다|.",
        },
    )


def test_merging_stops_where_no_pair_is_frequent_enough() -> None:
    assert learn_merges({"abab": 1, "cd": 1}, BYTES, most=9, min_count=2) == [(97, 98, 2)]
    assert learn_merges({}, BYTES, most=9) == []
    assert BPETokenizer.train([""]).vocab_size == 257


def test_bpe_puts_frequent_words_in_one_token() -> None:
    tokenizer = BPETokenizer.train(["한국어 모델, 한국어 문장, 한국어 사전"] * 3, vocab_size=290)
    assert tokenizer.token_text(int(tokenizer.encode("한국어 모델")[0])) == "한국어"


STRANGE = [
    "'", " ", "  ", "\n", "\t", "s", "t", "re", "ve", "ll", "d", "m", "한국", "어", "하하하",
    "ㅋㅋ", "1", "2026", "²", "Ⅷ", "٣", "_", "!", "''", "\u3000", "\xa0", "\x85", "\u200b",
    "\u180e", "é", "e\u0301", "\u1112\u1161", "漢", "😀", "\x00", "\uffff", "\U0010ffff",
]  # fmt: skip


@pytest.fixture(scope="module")
def strange_texts() -> list[str]:
    """Of whose tokens some reach across what GPT-2 cuts, were it not cut, and repeat themselves."""
    numbers = np.random.default_rng(1)
    texts = ["".join(numbers.choice([*"abcd", *STRANGE], 12)) for _ in range(300)]
    texts += ["".join(numbers.choice([*"ab"], 20)) for _ in range(300)]
    return [*texts, TEXT * 9, "ㅋㅋㅋㅋ 하하하하하하하"]


@pytest.fixture(scope="module")
def pairs(strange_texts: list[str]) -> BPETokenizer:
    return BPETokenizer.train(strange_texts, vocab_size=700)


@pytest.fixture(scope="module")
def pieces(strange_texts: list[str]) -> UnigramTokenizer:
    """With scores that are often alike, so that many a word is cut as well one way as another."""
    learnt = UnigramTokenizer.train(strange_texts, vocab_size=700)
    return UnigramTokenizer(
        {piece: float(round(score / 2)) for piece, score in learnt.scores.items()}
    )


@pytest.mark.parametrize("kind", ["bpe", "char_bpe", "unigram", "unigram of alike pieces"])
@pytest.mark.parametrize("defines", [(), ("CACHE_SLOTS=2", "CACHE_BYTES=1024")])
def test_the_encoder_in_c_gives_the_librarys_ids(
    strange_texts: list[str],
    pairs: BPETokenizer,
    pieces: UnigramTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    defines: tuple[str, ...],
) -> None:
    """With words cached, and with a small cache: moved to more slots, and emptied."""
    if not native.available():
        pytest.skip("no C compiler")
    library = native.library(*defines)
    monkeypatch.setattr(native, "library", lambda: library)
    tokenizer: WordTokenizer
    match kind:
        case "bpe":
            tokenizer = BPETokenizer(pairs.merges, normalization="NFC")
        case "char_bpe" | "unigram":
            tokenizer = train_tokenizer(kind, strange_texts, vocab_size=700)
        case _:
            tokenizer = pieces
    numbers = np.random.default_rng(0)
    drawn = [*"abcd", *STRANGE, *(chr(point) for point in numbers.integers(0xE000, 0x110000, 60))]
    drawn += [chr(point) for point in numbers.integers(0, 0xD800, 100)]
    texts = ["".join(numbers.choice(drawn, numbers.integers(0, 40))) for _ in range(3000)]
    texts += ["".join(numbers.choice([*"ab"], 30)) for _ in range(300)]
    texts += [
        "",
        "하" * 20_000,
        "하ㅋ" * 9_999,
        " " * 5000,
        "'" * 999,
        "한국어" + "\n" * 99,
        "a\ud800b 하하",
    ]
    ours, theirs = (
        tokenizer.encode_batch(texts),
        ByteLevelTokenizer.encode_batch(tokenizer, texts),
    )
    for text, a, b in zip(texts, ours, theirs, strict=True):
        assert a.dtype == b.dtype
        assert a.tolist() == b.tolist(), repr(text)
    assert [ids.tolist() for ids in tokenizer.encode_documents(texts)] == [
        ids.tolist() for ids in theirs
    ]
    copied = pickle.loads(pickle.dumps(tokenizer))
    assert copied.encode(texts[0]).tolist() == tokenizer.encode(texts[0]).tolist()


def test_the_encoder_in_c_cuts_where_gpt_2_does() -> None:
    """With merges that reach across: the last letter of 's, 't, 'm, 'd, 're, 've and 'll, and the
    next one."""
    if not native.available():
        pytest.skip("no C compiler")
    tokenizer = BPETokenizer([(ord(letter), ord("x")) for letter in "stmdel"])
    texts = [
        "a'sx",
        "'tx",
        "'mx",
        "'dx",
        "'rex",
        "'vex",
        "'llx",
        "'lx",
        "'ex",
        " 'sx",
        "'Sx",
        "''sx",
    ]
    texts += ["'", "'r", "'l", "a'"]
    theirs = ByteLevelTokenizer.encode_batch(tokenizer, texts)
    assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [
        ids.tolist() for ids in theirs
    ]


def test_without_a_compiler_the_library_encodes(
    pairs: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [TEXT, "하하하 it's"]
    before = [ids.tolist() for ids in pairs.encode_documents(texts)]
    monkeypatch.setattr(native, "available", lambda: False)
    asked = []
    encode = ByteLevelTokenizer.encode_batch

    def noted(self: ByteLevelTokenizer, batch: list[str]) -> list[Ids]:
        asked.append(batch)
        return encode(self, batch)

    monkeypatch.setattr(ByteLevelTokenizer, "encode_batch", noted)
    assert [ids.tolist() for ids in pairs.encode_documents(texts)] == before
    assert asked == [texts]


def test_a_unigram_score_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    scores = {bytes([byte]): -5.0 for byte in range(256)}
    for score in (float("nan"), float("-inf")):
        with pytest.raises(TokenizerError, match="score of piece b'ab' must be finite"):
            UnigramTokenizer(scores | {b"ab": score})
    path = saved(tmp_path, UnigramTokenizer(scores | {b"ab": -3.25}))
    path.write_text(path.read_text(encoding="utf-8").replace("-3.25", "NaN"), encoding="utf-8")
    with pytest.raises(TokenizerError, match="must be finite"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("score", [float("nan"), float("-inf")])
def test_the_encoder_in_c_ends_whatever_the_scores_are(score: float) -> None:
    if not native.available():
        pytest.skip("no C compiler")
    pieces = [*(bytes([byte]) for byte in range(256)), b"abc"]
    classes = np.ones(0x110000, np.uint8)
    encoder = native.unigram_encoder(pieces, np.full(257, score), classes)
    assert encoder("abcabc" * 20).tolist() == list(b"abcabc" * 20)


def test_the_encoder_in_c_without_memory_raises_memory_error() -> None:
    if not native.available():
        pytest.skip("no C compiler")
    classes = np.ones(0x110000, np.uint8)
    handle = native.library().semigpt_bpe_new(2**58, None, classes.ctypes.data, None)
    with pytest.raises(MemoryError, match="an encoder's tables"):
        native.Encoder(handle, classes)
    encoder = native.bpe_encoder(np.zeros((0, 3), np.int32), classes)
    with little_memory(200), pytest.raises(MemoryError, match="semigpt_encode"):
        encoder("a" * (16 << 20))  # one word, whose workspace is nine times as much and more
    assert encoder("ab").tolist() == list(b"ab")


def test_too_small_a_vocabulary_is_one_clear_error() -> None:
    with pytest.raises(
        TokenizerError, match="bytes and special tokens take 257; give at least 258"
    ):
        train_tokenizer("char", [TEXT], vocab_size=257)
    for kind in ("byte", "bpe", "char_bpe", "unigram", "jamo"):
        with pytest.raises(TokenizerError, match="a vocabulary of 100 is too small"):
            train_tokenizer(kind, [TEXT], vocab_size=100)
    with pytest.raises(TokenizerError, match="no tokenizer of kind 'word'"):
        train_tokenizer("word", [TEXT])


@pytest.mark.parametrize("spelling", ["가", "", " <|a|>", "<|endoftext|>", "<0x41>", "a\nb"])
def test_a_special_token_must_be_told_from_text(spelling: str) -> None:
    for kind in (CharTokenizer, JamoTokenizer):
        with pytest.raises(TokenizerError, match="special token"):
            kind("가", special_tokens=[spelling])


def test_documents_are_encoded_as_they_come() -> None:
    read = 0

    def endless() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield "가나다 " * 1000

    for tokenizer in (CharTokenizer("가나다 "), BPETokenizer.train(["가나다"])):
        read = 0
        next(tokenizer.encode_documents(endless()))
        assert read <= 60  # three batches of 65,000 characters


# Files


def saved(folder: Path, tokenizer: Tokenizer | None = None) -> Path:
    (tokenizer or CharTokenizer("가나다")).save(folder)
    return folder / "tokenizer.json"


def test_plain_and_trained_tokenizers_come_back_from_their_files(tmp_path: Path) -> None:
    plain = CharTokenizer.plain("다나가")
    saved(tmp_path / "plain", plain)
    loaded = load_tokenizer(tmp_path / "plain")
    assert loaded.encode("가다").tolist() == [0, 2]
    assert loaded.end_of_text is None
    unigram = UnigramTokenizer.train([TEXT] * 5, vocab_size=300)
    saved(tmp_path / "unigram", unigram)
    assert (
        load_tokenizer(tmp_path / "unigram").encode(TEXT).tolist() == unigram.encode(TEXT).tolist()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ("{}", "is not a tokenizer: "),
        ('{"model": {"type": "WordPiece"}}', "is not a tokenizer: "),
        ('{"model": {"type": "Unigram"}}', "is not a tokenizer: "),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused_by_name(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(TokenizerError, match=message) as error:
        load_tokenizer(tmp_path)
    assert "tokenizer.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_holds_no_tokenizer_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(TokenizerError, match="no tokenizer in"):
            load_tokenizer(folder)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(TokenizerError, match="is not JSON"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["char", "jamo", "bpe", "char_bpe", "unigram"])
def test_ids_changed_by_hand_are_refused(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, train_tokenizer(kind, [TEXT] * 3, vocab_size=360))
    document = json.loads(path.read_text(encoding="utf-8"))
    vocab = document["model"]["vocab"]
    if isinstance(vocab, dict):
        first, second = list(vocab)[:2]
        vocab[first], vocab[second] = vocab[second], vocab[first]
    else:
        vocab[0], vocab[1] = vocab[1], vocab[0]
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(TokenizerError, match="was changed since"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_beside_anothers_configuration_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, CharTokenizer("가나다"))
    other = saved(tmp_path / "other", CharTokenizer("가나라"))
    (tmp_path / "tokenizer.json").write_bytes(other.read_bytes())
    with pytest.raises(TokenizerError, match=r"is not the one that .* was saved with"):
        load_tokenizer(tmp_path)


def test_saving_where_nothing_can_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TokenizerError, match="cannot save the tokenizer in"):
        CharTokenizer("가").save(tmp_path / "file")


def test_equal_tokenizers_share_a_fingerprint_and_others_do_not() -> None:
    different = [
        CharTokenizer("가나"),
        CharTokenizer("가다"),
        CharTokenizer("가나", normalization="NFC"),
        CharTokenizer("가나", special_tokens=["<|user|>"]),
        CharTokenizer.plain("가나"),
        ByteTokenizer(),
        JamoTokenizer(),
    ]
    assert CharTokenizer(["나", "가", "가"]).fingerprint == different[0].fingerprint
    assert max(Counter(tokenizer.fingerprint for tokenizer in different).values()) == 1
