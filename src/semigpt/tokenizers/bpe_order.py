"""Order the merges of BPE so that they cut words as a Unigram model would.

Merging by frequency joins two tokens wherever they meet, though the likeliest cut of the word may
lie between them. So the next merge is not the most frequent one but the most reliable: the one
whose text is least often divided where each word is cut the likeliest way (Kudo 2018, "Subword
Regularization", arXiv:1804.10959). Each merge is still of two tokens that earlier ones made, so the
result is BPE.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from semigpt.tokenizers.base import Tokenizer

__all__ = ["WordTable", "order_merges"]

Integers = NDArray[np.int64]

_CODE_POINTS = 0x110000
_WORDS_AT_ONCE = 10_000


class WordTable:
    """Distinct words as one string, in which U+0000, which is no token, follows each.

    Args:
        words: How often each word occurs.
    """

    def __init__(self, words: Mapping[str, int]) -> None:
        lines = [f"{word}\0" for word in words]
        self._parts = [
            "".join(lines[i : i + _WORDS_AT_ONCE]) for i in range(0, len(lines), _WORDS_AT_ONCE)
        ]
        text = "".join(self._parts)
        self._letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.array([len(line) for line in lines], np.int64)
        # How often the word of each character occurs; what was added does not.
        self._weights = np.repeat(np.array(list(words.values()), np.int64), lengths)
        self._weights[np.cumsum(lengths) - 1] = 0
        utf8 = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
        self._character_of = np.cumsum((utf8 & 0xC0) != 0x80) - 1  # of each byte

    def _encoded(self, tokenizer: Tokenizer) -> tuple[Integers, Integers]:
        """The ids of all words, and in which character each token begins."""
        rows = tokenizer.encode_documents(self._parts)
        ids = np.concatenate([np.zeros(0, np.int64), *(row[:-1] for row in rows)])
        sizes = np.array([len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])
        ends = np.cumsum(sizes[ids])
        return ids, self._character_of[ends - sizes[ids]]

    def token_counts(self, tokenizer: Tokenizer) -> Integers:
        """How often each token stands in the words. `[vocab_size]`.

        Args:
            tokenizer: It normalizes nothing, and none of its tokens crosses words.
        """
        ids, begins = self._encoded(tokenizer)
        counts = np.bincount(ids, self._weights[begins], tokenizer.vocab_size)
        return counts.astype(np.int64)

    def reliability(self, texts: Sequence[str], pieces: Integers) -> dict[str, float]:
        """Of the places where a text occurs, how many are not divided: 0 to 1.

        Args:
            texts: One that does not occur has the reliability 0.
            pieces: At which characters of the words, joined by one between two, a piece begins.
        """
        size = len(self._letters)
        cuts = np.full(size + 1, size)
        cuts[pieces] = pieces
        next_cut = np.minimum.accumulate(cuts[::-1])[::-1][1:]  # behind each character

        # A trie: node 0 is the empty text, and an edge is a node and a character.
        nodes = {"": 0}
        for text in texts:
            for end in range(1, len(text) + 1):
                nodes.setdefault(text[:end], len(nodes))
        edges = np.array(
            [nodes[text[:-1]] * _CODE_POINTS + ord(text[-1]) for text in nodes if text]
        )
        order = np.argsort(edges)
        edges, behind = edges[order], order + 1
        found, whole = np.zeros(len(nodes)), np.zeros(len(nodes))
        begins, at = np.arange(size), np.zeros(size, np.int64)
        for length in range(1, max(map(len, texts), default=0) + 1):
            left = np.searchsorted(begins, size - length, side="right")
            begins, keys = begins[:left], at[:left] * _CODE_POINTS
            keys += self._letters[begins + length - 1]
            index = np.minimum(np.searchsorted(edges, keys), len(edges) - 1)
            there = edges[index] == keys
            begins, at = begins[there], behind[index[there]]
            weights = self._weights[begins]
            found += np.bincount(at, weights, len(nodes))
            undivided = next_cut[begins] >= begins + length
            whole += np.bincount(at[undivided], weights[undivided], len(nodes))
        return {text: float(whole[nodes[text]] / max(found[nodes[text]], 1)) for text in texts}


def order_merges(worth: Mapping[str, float]) -> list[tuple[str, str]]:
    """The merges that make the texts of `worth`, at each time the worthiest of two tokens' texts.

    A text that is never two tokens is left out: what it needs is not among the texts. Of two as
    worthy, the first in `worth` is made first.
    """
    turn = {text: number for number, text in enumerate(worth)}
    tokens = {text: list(text) for text in worth}
    holders: dict[tuple[str, str], set[str]] = {}  # the texts in which two tokens meet
    ready: list[tuple[float, int, str]] = []

    def note(text: str) -> None:
        parts = tokens[text]
        for pair in pairwise(parts):
            holders.setdefault(pair, set()).add(text)
        if len(parts) == 2:
            heapq.heappush(ready, (-worth[text], turn[text], text))

    for text in worth:
        note(text)
    merges = []
    while ready:
        *_, made = heapq.heappop(ready)
        left, right = tokens.pop(made)
        merges.append((left, right))
        for text in holders.pop((left, right)) & tokens.keys():
            parts = _merged(tokens[text], left, right)
            if len(parts) < len(tokens[text]):
                tokens[text] = parts
                note(text)
    return merges


def _merged(tokens: Sequence[str], left: str, right: str) -> list[str]:
    """The tokens with each `left` and `right` joined, the leftmost two first."""
    merged: list[str] = []
    for token in tokens:
        if token == right and merged and merged[-1] == left:
            merged[-1] = left + right
        else:
            merged.append(token)
    return merged
