"""What counting learns of a text as it reads more of it: the anchor of the law of learning.

Eight characters of context, counted on a hundredth, a quarter, a half and all of a sample, say what
a text has to teach before any net has read it: where a net will soon be, and how much each
doubling of text is worth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from semigpt.corpus.corpus import Corpus
from semigpt.law import Text
from semigpt.native import ngrams as native
from semigpt.ngrams.counts import LEVELS, Counts
from semigpt.storage import replace_file

__all__ = ["describe", "learning_curve"]

SAMPLE = 1_000_000  # characters of a training split that are counted: half a second
SLOW_SAMPLE = 200_000  # where there is no compiler
SHORT_ORDER = 3
SCORED = 60_000  # characters of validation, for each part
# For the whole sample: formal documents differ so much from each other that 60,000 characters of
# them are off by 0.09 bits (docs/choices.md#the-law-of-learning).
HELD_OUT = 300_000
BLOCK = 1000  # characters that stay together when a part is taken
PARTS = (256, 64, 16, 4, 2)  # one in so many blocks; the smallest part has a thousand characters
SPAN = 1 << 16  # bytes read at a place of a long text

Ids = npt.NDArray[np.uint32]


def describe(corpus: Corpus) -> Text:
    """A text as the law of learning takes it, measured once and kept beside the corpus."""
    path = corpus.folder / "learning-curve-2.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        short_bits = float(kept["short_bits"])
        curve = tuple((int(characters), float(bits)) for characters, bits in kept["curve"])
    except (OSError, ValueError, TypeError, LookupError):
        sample, scored = (SAMPLE, HELD_OUT) if native.available() else (SLOW_SAMPLE, SCORED)
        training = code_points(corpus, "train", sample)
        held_out = code_points(corpus, "validation", scored)
        curve, short_bits = learning_curve(training, held_out)
        replace_file(path, json.dumps({"curve": curve, "short_bits": short_bits}).encode())
    counts = np.array(list(corpus.character_counts.values()), float)
    frequencies = counts / counts.sum()
    return Text(
        characters=corpus.characters("train"),
        curve=curve,
        short_bits=short_bits,
        entropy=float(-(frequencies * np.log2(frequencies)).sum()),
        distinct=len(counts),
    )


def learning_curve(training: Ids, held_out: Ids) -> tuple[tuple[tuple[int, float], ...], float]:
    """(characters counted, bits per character on the held-out text), the fewest first; and the bits
    of all of it with short contexts.

    training, held_out: code points. A part is every n-th block of the training text, so that each
    part is of the whole. Parts are scored on every n-th block of the held-out text, and all of them
    raised or lowered by what the whole of it gives for the last part.
    """
    alphabet = np.unique(training)
    # A character that was never seen is the last of the alphabet, and costs about as much.
    ids = np.searchsorted(alphabet, training).astype(np.uint32)
    places = np.searchsorted(alphabet, held_out)
    unseen = alphabet[np.minimum(places, len(alphabet) - 1)] != held_out
    scored = np.where(unseen, len(alphabet), places).astype(np.uint32)
    blocks, scored_blocks = in_blocks(ids), in_blocks(scored)
    some = np.concatenate(scored_blocks[:: -(-len(scored) // SCORED)])

    def counts(counted: Ids, order: int) -> Counts:
        return Counts.fit(counted, len(alphabet) + 1, order)

    def bits(counted: Counts, text: Ids) -> float:
        return counted.bits(text) / len(text)

    parts = [np.concatenate(blocks[part - 1 :: part]) for part in PARTS if len(blocks) >= part]
    whole = counts(ids, LEVELS)
    end = bits(whole, some)
    scale = bits(whole, scored) / end
    curve = [(len(part), scale * bits(counts(part, LEVELS), some)) for part in parts]
    return (*curve, (len(ids), scale * end)), scale * bits(counts(ids, SHORT_ORDER), some)


def in_blocks(ids: Ids) -> list[Ids]:
    return [ids[start : start + BLOCK] for start in range(0, len(ids), BLOCK)]


def code_points(corpus: Corpus, split: str, characters: int, *, span: int = SPAN) -> Ids:
    """About so many characters of a split, of a longer one from places spread evenly over it, each
    of about `span` bytes.
    """
    whole, length = corpus.characters(split), corpus.bytes_of(split)
    spans: Sequence[int] = [0]
    size = length
    if whole > characters:
        wanted = characters / whole * length
        count = max(math.ceil(wanted / span), 1)
        size = int(wanted / count)
        spans = [int(place) for place in np.linspace(0, length - size, count)]
    parts = []
    with corpus.path(split).open("rb") as file:
        for place in spans:
            file.seek(place)
            # A character that the span cuts is left out.
            text = file.read(size).decode("utf-8", "ignore")
            parts.append(np.frombuffer(text.encode("utf-32-le"), np.uint32))
    return np.concatenate(parts)
