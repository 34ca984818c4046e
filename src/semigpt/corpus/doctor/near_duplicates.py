"""Near duplicates: documents that have most of their 5-character shingles in common.

The similarity of two documents is the fraction of their shingles that both have (Broder 1997, "On
the resemblance and containment of documents"). It is estimated from 128 minima of hashes (MinHash).
"""

from typing import Any

from semigpt.errors import SettingsError
from semigpt.language import _

__all__ = ["minima", "near_index"]

SHINGLE = 5
PERMUTATIONS = 128
SEED = 42


def minima(text: str) -> Any:
    """The MinHash of a text. Raises SettingsError without the package rensa."""
    shingles = [text[start : start + SHINGLE] for start in range(max(1, len(text) - SHINGLE + 1))]
    minhash = _rensa().RMinHash(PERMUTATIONS, SEED)
    minhash.update([shingle.encode("utf-8", "surrogatepass") for shingle in shingles])
    return minhash


def near_index(similarity: float) -> Any:
    """An index of minima; `add(key, minima)` is false for a near duplicate of one added before."""
    return _rensa().RMinHashDeduplicator(similarity, PERMUTATIONS, True, _bands(similarity), SEED)


def _bands(similarity: float) -> int:
    """The fewest bands of minima in which 99 % of the pairs of this similarity meet.

    Pairs of similarity s meet with probability 1 − (1 − sʳ)ᵇ, where r·b = 128 (Leskovec, Rajaraman
    and Ullman, Mining of Massive Datasets, section 3.4); all 128 minima then decide. Asked for 0.8,
    95 % of the pairs of similarity 0.85 are left out; with the library's own bands it is 44 %.
    """
    bands = 1
    while bands < PERMUTATIONS and (1 - similarity ** (PERMUTATIONS // bands)) ** bands > 0.01:
        bands *= 2
    return bands


def _rensa() -> Any:
    try:
        import rensa
    except ImportError:
        raise SettingsError(
            _("--near-duplicates needs the package rensa: pip install 'semigpt[text]'")
        ) from None
    return rensa
