"""Learn the pieces of a Unigram language model.

A word's probability is the sum over all ways to cut it into pieces of the product of theirs (Kudo
2018, "Subword Regularization", arXiv:1804.10959). Training starts with every frequent substring. It
fits the pieces' probabilities by expectation and maximization, removes those that the text needs
least, and repeats.

It is here because it is faster than the `tokenizers` library's trainer, and because a piece is
always whole characters: the library cuts bytes, so some of its pieces begin in the middle of a
syllable.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from semigpt.native import tokenize as native

__all__ = ["cut_words", "learn_pieces"]

# Bytes of a piece: three syllables with or without a space before them, or a Latin word. A net
# learns most from short ones: bits per character with up to 16 bytes 3.706, 10 3.682, 7 3.667
# (docs/choices.md).
LONGEST = 10
LONGEST_WORD = 16  # characters; a longer one, such as a line of ㅋ, is cut into several
SEEDS_PER_PIECE = 20
KEPT_FRACTION = 0.75  # of the pieces, in each round
TINY = 1e-300  # sixteen characters of four unseen bytes each are less likely still
# Subtracted from each count: exp(digamma(c)) is about c - 1/2, the mean-field estimate under a
# Dirichlet prior.
PRIOR = 0.5

Places = NDArray[np.int64]


def learn_pieces(
    words: Mapping[str, int], num_pieces: int, *, seeds_per_piece: int = SEEDS_PER_PIECE
) -> dict[bytes, float]:
    """The pieces that make `words` likeliest: log-probabilities in nats, by the pieces' bytes.

    Args:
        words: How often each word occurs. No piece crosses words. No lone surrogates.
        num_pieces: How many pieces besides the 256 bytes. Fewer come back where fewer substrings
            occur twice.
        seeds_per_piece: Substrings to start with, for each piece that is wanted.

    The likeliest piece is first, and of two as likely the one of lower bytes.
    """
    return _fitted(words, num_pieces, seeds_per_piece).scores()


def cut_words(
    words: Mapping[str, int], num_pieces: int, *, seeds_per_piece: int = SEEDS_PER_PIECE
) -> tuple[dict[str, int], Places]:
    """The words, each cut in the likeliest way into the pieces that `learn_pieces` learns of them.

    Returns how often each word occurs, long ones in parts, and at which characters of all of them,
    joined by one character between two, a piece begins.
    """
    lattice = _fitted(words, num_pieces, seeds_per_piece)
    counts = lattice.weight.astype(np.int64).tolist()
    return dict(zip(lattice.words, counts, strict=True)), lattice.cuts()


def _fitted(words: Mapping[str, int], num_pieces: int, seeds_per_piece: int) -> _Lattice:
    lattice = _Lattice(words, seeds_per_piece * num_pieces)
    while True:
        lattice.fit()
        lattice.fit()
        if lattice.removable <= num_pieces:
            return lattice
        lattice.prune(max(num_pieces, int(KEPT_FRACTION * lattice.removable)))


class _Lattice:
    """All words, and every piece at every place where it occurs in one.

    Words are sorted by length, the longest first, and are the columns of a table. `n[j]` words have
    a place j, after j characters, and those places are a row that starts at `first[j]`. The place l
    characters before is then equally far away for a whole row, and a sum over all ways to cut all
    words is a few sums over rows.

    The pieces of l characters end at `ends[l - 1]`, in order, and are `ids[l - 1]` there. Ids below
    `len(letters)` are the characters, all of which stay; those that are not `whole` are not pieces
    but spelled in bytes.
    """

    def __init__(self, words: Mapping[str, int], num_seeds: int) -> None:
        parts = {word: count for word, count in words.items() if 0 < len(word) <= LONGEST_WORD}
        for word, count in words.items():
            if len(word) > LONGEST_WORD:
                for begin in range(0, len(word), LONGEST_WORD):
                    part = word[begin : begin + LONGEST_WORD]
                    parts[part] = parts.get(part, 0) + count
        # Sorted twice: a key of two parts for each word would take three times as long.
        self.words = sorted(sorted(parts), key=len, reverse=True)
        self.weight = np.array([parts[word] for word in self.words], np.float64)
        lengths = np.array([len(word) for word in self.words], np.int64)
        self.rows = int(lengths.max(initial=0))
        self.n = [int((lengths >= j).sum()) for j in range(self.rows + 1)]
        self.first = np.concatenate(([0], np.cumsum(self.n)))
        text = np.frombuffer("".join(self.words).encode("utf-32-le"), np.uint32)
        alphabet, letters = np.unique(text, return_inverse=True)
        self.letters = [chr(letter) for letter in alphabet]
        self.spelled = np.full((len(self.letters), 4), 256)
        for i, letter in enumerate(self.letters):
            coded = letter.encode("utf-8")
            self.spelled[i, : len(coded)] = list(coded)

        begins = np.cumsum(lengths) - lengths
        letter_at = np.zeros(int(self.first[-1]), np.int64)
        for j in range(1, self.rows + 1):
            letter_at[self.first[j] : self.first[j + 1]] = letters[begins[: self.n[j]] + j - 1]
        self._seed(letter_at, num_seeds)

    def _seed(self, letter_at: Places, num_seeds: int) -> None:
        """Start with all characters, and the repeated substrings that cover most of the text."""
        num_letters = len(self.letters)
        letter_bytes = (self.spelled < 256).sum(axis=1)
        weights = np.concatenate([self.weight[:n] for n in self.n])
        places = np.arange(self.n[0], len(letter_at))
        counts = [np.bincount(letter_at[places], weights[places], num_letters)]
        self.ends, self.ids = [places], [letter_at[places]]
        one_end = [np.zeros(num_letters, np.int64)]
        # At each place: the number of the substring that ends there, and its bytes.
        found = np.where(np.arange(len(letter_at)) < self.n[0], -1, letter_at)
        size = letter_bytes[letter_at]
        for length in range(2, min(LONGEST, self.rows) + 1):
            longer, longer_size = np.full_like(found, -1), np.zeros_like(size)
            for j in range(length, self.rows + 1):
                here, before = self._row(j, self.n[j]), self._row(j - 1, self.n[j])
                longer_size[here] = size[before] + letter_bytes[letter_at[here]]
                fits = (found[before] >= 0) & (longer_size[here] <= LONGEST)
                longer[here] = np.where(fits, found[before] * num_letters + letter_at[here], -1)
            places = np.flatnonzero(longer >= 0)
            _, where, numbers = np.unique(longer[places], return_index=True, return_inverse=True)
            count = np.bincount(numbers, weights[places], len(where))
            twice = count >= 2
            longer[places] = np.where(twice, np.cumsum(twice) - 1, -1)[numbers]
            found, size = longer, longer_size
            self.ends.append(np.flatnonzero(found >= 0))
            self.ids.append(found[self.ends[-1]])
            counts.append(count[twice])
            one_end.append(places[where[twice]])

        covered = np.concatenate([length * count for length, count in enumerate(counts, start=1)])
        chosen = np.arange(len(covered)) < num_letters
        chosen[num_letters + np.argsort(-covered[num_letters:], kind="stable")[:num_seeds]] = True
        begin = 0
        for ids, count in zip(self.ids, counts, strict=True):
            ids += begin
            begin += len(count)
        self.length = np.repeat(np.arange(1, len(counts) + 1), [len(count) for count in counts])
        self.count: NDArray[np.float64] = np.concatenate(counts).astype(np.float64, copy=False)
        # One place where each piece ends: there its text is read, and how else it may be cut.
        self.end = np.concatenate(one_end)
        # A character of one byte is that byte.
        self.whole = letter_bytes > 1
        self._keep(chosen)

    def _row(self, j: int, n: int) -> slice:
        return slice(int(self.first[j]), int(self.first[j]) + n)

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Drop all other pieces, then compute the probabilities that the counts give."""
        number = np.cumsum(kept) - 1
        for i, ids in enumerate(self.ids):
            still = kept[ids]
            self.ends[i], self.ids[i] = self.ends[i][still], number[ids[still]]
        self.length, self.end, self.count = self.length[kept], self.end[kept], self.count[kept]
        # Where row j starts among the places at which pieces of a length end.
        self.starts = [np.searchsorted(ends, self.first).tolist() for ends in self.ends]
        self._maximize()

    @property
    def removable(self) -> int:
        """How many pieces are longer than a byte."""
        return len(self.length) - len(self.letters) + int(self.whole.sum())

    def _maximize(self) -> None:
        """Probabilities from the counts; a character that is no piece has its bytes' product."""
        letters = len(self.letters)
        self.whole &= self.count[:letters] > PRIOR
        spelt = np.where(self.whole, 0.0, self.count[:letters])
        self.byte_count = np.bincount(self.spelled.ravel(), np.repeat(spelt, 4), 257)[:256]
        counts = np.maximum(self.count - PRIOR, 0.0)
        counts[:letters][~self.whole] = 0.0
        byte_counts = np.maximum(self.byte_count - PRIOR, PRIOR)
        self.total = counts.sum() + byte_counts.sum()
        self.byte_p = np.append(byte_counts / self.total, 1.0)
        self.p = counts / self.total
        self.p[:letters][~self.whole] = self.byte_p[self.spelled[~self.whole]].prod(axis=1)

    def fit(self) -> None:
        """One round of expectation and maximization.

        Count how often each piece is expected over all ways to cut every word (forward-backward),
        then set the probabilities.
        """
        if native.available():
            pieces = list(zip(self.ends, self.ids, self.starts, strict=True))
            self.count = native.expected_counts(
                self.n, self.first, pieces, self.p, self.weight, TINY
            )
        else:
            self.count = self._expected_counts()
        self._maximize()

    def _expected_counts(self) -> NDArray[np.float64]:
        forward = np.zeros(int(self.first[-1]))
        forward[self._row(0, self.n[0])] = 1.0
        expected = [self.p[ids] for ids in self.ids]
        for j in range(1, self.rows + 1):
            for length, starts in enumerate(self.starts[:j], start=1):
                here = slice(starts[j], starts[j + 1])
                ends = self.ends[length - 1][here]
                begins = ends - (self.first[j] - self.first[j - length])
                forward[ends] += forward[begins] * expected[length - 1][here]
        backward = np.zeros_like(forward)
        for j in range(self.rows, 0, -1):
            # The words that end in this row are its last.
            longer = self.n[j + 1] if j < self.rows else 0
            row = self._row(j, self.n[j])
            backward[row][longer:] = self.weight[longer : self.n[j]] / np.maximum(
                forward[row][longer:], TINY
            )
            for length, starts in enumerate(self.starts[:j], start=1):
                here = slice(starts[j], starts[j + 1])
                ends = self.ends[length - 1][here]
                begins = ends - (self.first[j] - self.first[j - length])
                here_expected = expected[length - 1][here]
                here_expected *= backward[ends]
                backward[begins] += here_expected
                here_expected *= forward[begins]  # at this place
        weights = np.concatenate(expected)
        count: NDArray[np.float64] = np.bincount(
            np.concatenate(self.ids), weights, len(self.length)
        )  # type: ignore[assignment]
        return count

    def prune(self, keep: int) -> None:
        """Keep the pieces whose removal would cost the text most."""
        letters = len(self.letters)
        log_p = np.log(np.maximum(self.p, TINY))  # what is never seen goes first
        log_total = np.log(self.total)
        loss = np.full(len(self.length), -np.inf)
        whole = np.flatnonzero(self.whole)
        count = self.count[whole]
        counts = np.append(self.byte_count, 0.0)[self.spelled[whole]] + count[:, None]
        without = np.where(self.spelled[whole] < 256, np.log(counts) - log_total, 0.0).sum(axis=1)
        loss[whole] = count * (log_p[whole] - without)
        row_of = np.repeat(np.arange(self.rows + 1), self.n)
        for length in range(2, len(self.ends) + 1):
            pieces = letters + np.flatnonzero(self.length[letters:] == length)
            # In the order of their places, so that a search ends near the one before.
            pieces = pieces[np.argsort(self.end[pieces])]
            row, count = row_of[self.end[pieces]], self.count[pieces]
            word = self.end[pieces] - self.first[row]
            best = np.full((length + 1, len(pieces)), -np.inf)
            best[0] = 0.0
            # The last piece of each best cut.
            last = np.zeros((length + 1, len(pieces)), np.int64)
            for j in range(1, length + 1):
                place = self.first[row - length + j] + word
                for size in range(1, min(j, length - 1) + 1):
                    at, there = self._find(size, place)
                    found = best[j - size][there] + log_p[at]
                    better = found > best[j][there]
                    best[j][there[better]], last[j][there[better]] = found[better], at[better]
            # Without it, the pieces of its best cut would be seen more often.
            without, left = np.zeros(len(pieces)), np.full(len(pieces), length)
            while left.any():
                at = last[left, np.arange(len(pieces))]
                seen = np.log(np.maximum(self.count[at] + count, TINY)) - log_total
                spelt = (at < letters) & ~self.whole[np.minimum(at, letters - 1)]
                without += np.where(left > 0, np.where(spelt, log_p[at], seen), 0.0)
                left = np.where(left > 0, left - self.length[at], 0)
            loss[pieces] = count * (log_p[pieces] - without)
        order = np.argsort(-loss, kind="stable")[:keep]
        kept = np.zeros(len(self.length), np.bool_)
        kept[order[loss[order] > -np.inf]] = True
        self.whole &= kept[:letters]
        kept[:letters] = True
        self._keep(kept)

    def _find(self, length: int, places: Places) -> tuple[Places, Places]:
        """The pieces of `length` characters that end at `places`, and at which places there is
        one."""
        ends = self.ends[length - 1]
        index = np.minimum(np.searchsorted(ends, places), len(ends) - 1)
        there = np.flatnonzero(ends[index] == places) if len(ends) else np.zeros(0, np.int64)
        return self.ids[length - 1][index[there]], there

    def cuts(self) -> Places:
        """Where the pieces of the words' likeliest cuts begin: see `cut_words`."""
        log_p = np.log(np.maximum(self.p, TINY))
        best, last = np.full(int(self.first[-1]), -np.inf), np.zeros(int(self.first[-1]), np.int64)
        best[self._row(0, self.n[0])] = 0.0
        for j in range(1, self.rows + 1):
            for length, starts in enumerate(self.starts[:j], start=1):
                here = slice(starts[j], starts[j + 1])
                ends = self.ends[length - 1][here]
                begins = ends - (self.first[j] - self.first[j - length])
                found = best[begins] + log_p[self.ids[length - 1][here]]
                better = found > best[ends]
                best[ends[better]], last[ends[better]] = found[better], length
        lengths = np.array([len(word) for word in self.words], np.int64)
        begins = np.cumsum(lengths + 1) - lengths - 1
        cuts, words, rows = [], np.arange(len(lengths)), lengths
        while len(words):
            rows = rows - last[self.first[rows] + words]
            cuts.append(begins[words] + rows)
            words, rows = words[rows > 0], rows[rows > 0]
        return np.sort(np.concatenate([*cuts, np.zeros(0, np.int64)]))

    def scores(self) -> dict[bytes, float]:
        """The log-probabilities of bytes and pieces, to six digits."""
        letters = len(self.letters)
        found = {bytes([byte]): self.byte_p[byte] for byte in range(256)}
        for i in np.flatnonzero(self.whole):
            found[self.letters[int(i)].encode("utf-8")] = self.p[i]
        row_of = np.repeat(np.arange(self.rows + 1), self.n)
        for piece in range(letters, len(self.length)):
            row = int(row_of[self.end[piece]])
            word = self.words[int(self.end[piece] - self.first[row])]
            found[word[row - int(self.length[piece]) : row].encode("utf-8")] = self.p[piece]
        scores = {piece: round(float(np.log(p)), 6) for piece, p in found.items() if p > 0}
        return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0])))
