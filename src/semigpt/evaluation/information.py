"""Nats to bits per character: one sum of log-probabilities in the units people compare.

A model gives each next token a probability p. The token's *information*, or surprisal, is -log p.
Summed over a text it is the length of the text in the best code that the model allows. Every figure
here is that sum in another unit.

- **nats**: the natural logarithm; what cross-entropy and a training loss report, per token.
- **bits**: base 2; one nat is 1 / ln 2 = 1.443 bits. A fair coin's toss is one bit.
- **perplexity**: e to the nats per token. A perplexity of 50 is the uncertainty of a fair choice
  among 50 tokens.
- **bits per character**: the whole sum in bits, divided by the text's characters. A loss per token
  cannot be compared between tokenizers, since a longer token carries more; this can. It is the
  number to quote.
- **bits per byte**: the same by UTF-8 bytes, as papers quote it. A Hangul syllable is three bytes,
  so Korean looks easy by this measure. Divided by 8 it is a compression ratio.

The sum covers every token, end-of-text marks and byte tokens too; the divisor counts characters
alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from semigpt import html
from semigpt.errors import CorpusError
from semigpt.language import N_, _

__all__ = ["BASELINE_NAMES", "Information", "bits"]

# Each baseline's name for people, by the field of `baselines.Baselines`.
BASELINE_NAMES = {
    "uniform": N_("uniform"),
    "unigram": N_("unigram (character frequencies)"),
    "bigram": N_("bigram (character pairs)"),
    "xz": "xz -9e",
    "kneser_ney_5": N_("5-gram (Kneser-Ney)"),
}
LARGEST_EXPONENT = 709.0  # e to more than this does not fit a double


def bits(nats: float) -> float:
    """Nats in bits: nats / ln 2."""
    return nats / math.log(2)


@dataclass(frozen=True, repr=False)
class Information:
    """A text's information under a model: `nats` over so many tokens, characters and UTF-8 bytes.

    Raises CorpusError where there are no tokens, characters or bytes to divide by.
    """

    nats: float
    tokens: int
    characters: int
    bytes: int

    def __post_init__(self) -> None:
        if min(self.tokens, self.characters, self.bytes) < 1:
            raise CorpusError(
                _(
                    "nothing to measure in {tokens} tokens, {characters} characters, "
                    "{bytes} bytes: give a text of at least one character"
                ).format(tokens=self.tokens, characters=self.characters, bytes=self.bytes)
            )

    @property
    def loss_nats_per_token(self) -> float:
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """e^loss; infinite where a double cannot hold it."""
        loss = self.loss_nats_per_token
        return math.exp(loss) if loss < LARGEST_EXPONENT else math.inf

    @property
    def bits_per_character(self) -> float:
        return bits(self.nats) / self.characters

    @property
    def bits_per_byte(self) -> float:
        return bits(self.nats) / self.bytes

    def as_dict(self) -> dict[str, float | int]:
        """The four measures and the three sizes, as `evaluate --json` names them."""
        return {
            "loss_nats_per_token": self.loss_nats_per_token,
            "perplexity": self.perplexity,
            "bits_per_character": self.bits_per_character,
            "bits_per_byte": self.bits_per_byte,
            "tokens": self.tokens,
            "characters": self.characters,
            "bytes": self.bytes,
        }

    def as_rows(self) -> list[tuple[str, str]]:
        """(name, value) of every measure, as a person reads them."""
        return [
            (_("bits per character"), f"{self.bits_per_character:.4f}"),
            (_("bits per byte"), f"{self.bits_per_byte:.4f}"),
            (_("loss, nats per token"), f"{self.loss_nats_per_token:.4f}"),
            ("perplexity", f"{self.perplexity:.2f}"),
            ("characters", f"{self.characters:,}"),
            ("tokens", f"{self.tokens:,}"),
        ]

    def __repr__(self) -> str:
        return (
            f"<Information: {self.bits_per_character:.4f} bits per character, "
            f"{self.loss_nats_per_token:.4f} nats per token; "
            f"{self.characters:,} characters, {self.tokens:,} tokens>"
        )

    def _repr_html_(self) -> str:
        return html.table("Information", self.as_rows())
