"""BPE over whole characters, with bytes for what has no token: the kind of Llama 2.

Nothing cuts the text into words first: programs that do, each in its own way, would give other ids.
Merges are learnt from words, which are runs of characters of one class with the spaces before them,
or a line end with the white space behind it. So no token is a part of two words, unless it begins
with spaces behind a line end.

Merging the two neighbours whose token comes first, whichever they are, gives the same ids as
merging by rank (SentencePiece, and llama.cpp's SPM). By induction on the merges, a span of the text
that becomes a token goes through the same steps wherever it stands, so it is always joined from the
same two parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar, Self, final

import numpy as np

from semigpt.errors import TokenizerError
from semigpt.language import _
from semigpt.native import tokenize as native
from semigpt.tokenizers.base import (
    Kind,
    Normalization,
    bpe_model,
    byte_token,
    normalization_of,
    special_tokens_of,
)
from semigpt.tokenizers.bpe_order import WordTable, order_merges
from semigpt.tokenizers.bpe_pruning import EXTRA, Merge, prune
from semigpt.tokenizers.bpe_trainer import learn_merges, symbol_counts
from semigpt.tokenizers.byte_level import WordTokenizer, reserved_tokens
from semigpt.tokenizers.unigram_trainer import LONGEST, cut_words
from semigpt.tokenizers.words import count_words

__all__ = ["CharBPETokenizer"]

# Always written in bytes. JSON has no lone surrogates, C strings end at a NUL, and llama.cpp and
# SentencePiece write a space as U+2581.
_NO_TOKEN = re.compile("[\0\u2581\ud800-\udfff]")

Pair = tuple[str, str]

# What the order of merges is learnt from: the most frequent words, and a Unigram model that starts
# with so many substrings for each piece that it keeps. All 307,000 words of film reviews take 3.4 s
# more for 0.003 bits per character by the tokens' frequencies.
_ORDERING_WORDS = 100_000
_SEEDS_PER_PIECE = 3


@final
class CharBPETokenizer(WordTokenizer):
    """Whole characters merged, and bytes for characters outside the vocabulary.

    Ids 0 to 255 are the bytes, which only spell characters that have no token. Then come
    `characters` in code point order, what each of `merges` makes, <|endoftext|> and
    `special_tokens`.

    Args:
        characters: Each distinct one becomes a token, but for U+0000, U+2581 and surrogates.
        merges: The texts of two tokens that become one, the first merge first. Training gives
            merges that SentencePiece's way of merging reads alike; others need not be so.

    Raises TokenizerError for a merge of what is no token yet or of what makes a token that there
    is already, and for a special token that cannot be one.
    """

    kind: ClassVar[Kind] = "char_bpe"

    def __init__(
        self,
        characters: Iterable[str],
        merges: Iterable[Pair] = (),
        *,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> None:
        self.merges = list(merges)
        self._characters = sorted(c for c in set(characters) if not _NO_TOKEN.match(c))
        texts = [*map(byte_token, range(256)), *self._characters]
        ids = {text: i for i, text in enumerate(texts)}
        for left, right in self.merges:
            if min(ids.get(left, 0), ids.get(right, 0)) < 256:
                raise TokenizerError(
                    _("the merge of {left!r} and {right!r}: not both are tokens").format(
                        left=left, right=right
                    )
                )
            if left + right in ids:
                raise TokenizerError(
                    _("two merges make {left!r}; leave one out").format(left=left + right)
                )
            ids[left + right] = len(ids)
        for spelling in special_tokens:
            if spelling in ids:
                raise TokenizerError(
                    _(
                        "special token {spelling!r} is a token of the text; "
                        "give it another spelling"
                    ).format(spelling=spelling)
                )
        self._text_ids = ids
        learned = [text.encode() for text in list(ids)[256:]]
        tokens = [*(bytes([byte]) for byte in range(256)), *learned]
        super().__init__(tokens, normalization, special_tokens)

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        *,
        vocab_size: int = 8000,
        min_count: int = 1,
        normalization: Normalization | None = None,
        special_tokens: Sequence[str] = (),
    ) -> Self:
        """Learn at most `vocab_size` tokens of at most ten bytes, special tokens included.

        Half as many again are learnt and put in order (`bpe_order`), unless the order in which they
        were learnt makes the text likelier, and those that the text would miss least are dropped
        (`bpe_pruning`). Characters and merges compete: a character of three bytes that occurs n
        times saves 2n tokens, and a merge as many as the pair occurs. Neither is learned if it
        occurs fewer than `min_count` times. Raises TokenizerError for a size that the bytes alone
        exceed.
        """
        room = vocab_size - reserved_tokens(vocab_size, special_tokens)
        words = count_words(documents, normalization, runs=True)
        counts = symbol_counts(words)
        if any(map(_NO_TOKEN.match, counts)):
            words = {word: n for word, n in words.items() if not _NO_TOKEN.search(word)}
            counts = symbol_counts(words)
        sizes = {c: len(c.encode()) for c in counts if counts[c] >= min_count}
        saved = {c: counts[c] * max(size - 1, 1) for c, size in sizes.items()}
        characters = sorted(sizes, key=lambda c: (-saved[c], c))
        texts = list(sizes)
        merges: list[Pair] = []
        learnt = round(EXTRA * room)
        saving = 0  # of the characters: those that save as much as the last merge
        for left, right, count in learn_merges(
            words, sizes, most=learnt, longest=LONGEST, min_count=min_count
        ):
            while saving < len(characters) and saved[characters[saving]] >= count:
                saving += 1
            if saving + len(merges) >= learnt:
                break
            merges.append((texts[left], texts[right]))
            texts.append(texts[left] + texts[right])
        candidates = {c: counts[c] for c in characters[: max(learnt - len(merges), 0)]}
        table = WordTable(words)
        reliable = _reliable_first([left + right for left, right in merges], words, room)
        pruned = (
            prune(candidates, _counted(candidates, order, table), room)
            for order in (reliable, merges)
        )
        kept = min(pruned, key=attrgetter("nats"))
        return cls(
            kept.characters,
            kept.merges,
            normalization=normalization,
            special_tokens=special_tokens,
        )

    @classmethod
    def from_tokenizer_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer that `tokenizer_json` gave `document` for."""
        return cls(
            [token for token in document["model"]["vocab"] if len(token) == 1],
            [(left, right) for left, right in document["model"]["merges"]],
            normalization=normalization_of(document["normalizer"]),
            special_tokens=special_tokens_of(document),
        )

    def token_text(self, token_id: int) -> str:
        return byte_token(token_id) if 0 <= token_id < 256 else super().token_text(token_id)

    def tokenizer_json(self) -> dict[str, Any]:
        """See `Tokenizer.tokenizer_json`."""
        return super().tokenizer_json() | {
            "pre_tokenizer": None,
            "decoder": {
                "type": "Sequence",
                "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}],
            },
        }

    def _new_encoder(self) -> native.Encoder:
        ids = self._text_ids
        merges = [(ids[left], ids[right], ids[left + right]) for left, right in self.merges]
        adjacent = {(ids[left[-1]], ids[right[0]]) for left, right in self.merges}
        characters = np.full(0x110000, -1, np.int32)
        characters[[ord(c) for c in self._characters]] = np.arange(256, 256 + len(self._characters))
        return native.char_bpe_encoder(
            np.array(merges, np.int32).reshape(-1, 3),
            np.array(sorted(adjacent), np.int32).reshape(-1, 2),
            characters,
        )

    def _model_json(self) -> dict[str, Any]:
        return bpe_model(list(self._text_ids), self.merges) | {"byte_fallback": True}


def _reliable_first(texts: Sequence[str], words: Mapping[str, int], num_pieces: int) -> list[Pair]:
    """Merges that make `texts`, in the order in which they cut words as a Unigram model of
    `num_pieces` would.

    Args:
        words: How often each occurs.
    """
    chosen = sorted(words, key=words.__getitem__, reverse=True)[:_ORDERING_WORDS]
    frequent = {word: words[word] for word in chosen}
    parts, pieces = cut_words(frequent, num_pieces, seeds_per_piece=_SEEDS_PER_PIECE)
    return order_merges(WordTable(parts).reliability(texts, pieces))


def _counted(characters: Iterable[str], merges: Sequence[Pair], table: WordTable) -> list[Merge]:
    """The merges, and how often each is made of the words of the table."""
    counts = table.token_counts(CharBPETokenizer(characters, merges))
    tokens = [*sorted(characters), *(left + right for left, right in merges)]
    made = dict(zip(tokens, counts[256:].tolist(), strict=False))
    for left, right in reversed(merges):  # what became a longer token was made before
        made[left] += made[left + right]
        made[right] += made[left + right]
    return [(left, right, made[left + right]) for left, right in merges]
