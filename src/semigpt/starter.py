"""The starter that comes with the package, as a candidate for a text: what it knows of it.

Its bits per character on a piece of the validation split are measured once, a second of work, and
kept beside the corpus. A text that is not Korean is none of its.
"""

from __future__ import annotations

import json
import math

import torch

from semigpt.corpus.corpus import Corpus
from semigpt.evaluation.counting import code_points
from semigpt.huggingface.folder import load_model, weights_digest
from semigpt.huggingface.open import open_tokenizer
from semigpt.start import STARTER_FOLDER
from semigpt.started_law import Known
from semigpt.storage import replace_file

__all__ = ["is_korean", "known_of"]

SCORED = 16_000  # characters of validation
SPAN = 1 << 13  # bytes read at a place of a long split
ROWS = 8  # contexts at a time
HANGUL = range(0xAC00, 0xD7A4)


def known_of(corpus: Corpus) -> Known | None:
    """What the starter knows of a text before it reads it; None where the text is not Korean."""
    if not is_korean(corpus):
        return None
    path = corpus.folder / f"starter-{weights_digest(STARTER_FOLDER)[:12]}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Known(float(kept["bits"]), float(kept["per_character"]), int(kept["vocab_size"]))
    except (OSError, ValueError, TypeError, LookupError):
        known = measured(corpus)
    if known is not None:
        replace_file(path, json.dumps(vars(known)).encode())
    return known


def is_korean(corpus: Corpus) -> bool:
    """Whether most letters of a training text are Hangul syllables."""
    letters = {c: count for c, count in corpus.character_counts.items() if c.isalpha()}
    return 2 * sum(n for c, n in letters.items() if ord(c) in HANGUL) > sum(letters.values())


@torch.no_grad()
def measured(corpus: Corpus) -> Known | None:
    """The starter's bits and tokens per character on about SCORED characters of validation; None
    where there are fewer than two tokens.
    """
    points = code_points(corpus, "validation", SCORED, span=SPAN)
    model, tokenizer = load_model(STARTER_FOLDER).eval(), open_tokenizer(STARTER_FOLDER)
    ids = torch.from_numpy(tokenizer.encode(points.tobytes().decode("utf-32-le"))).long()
    context = min(model.settings.context_length, len(ids) - 1)
    if context < 1:
        return None
    count = (len(ids) - 1) // context
    windows_BT = ids.unfold(0, context + 1, context)[:count]
    nats = 0.0
    for first in range(0, count, ROWS):
        rows_BT = windows_BT[first : first + ROWS]
        nats += model.token_losses(rows_BT[:, :-1], rows_BT[:, 1:]).double().sum().item()
    per_character = len(ids) / len(points)
    bits = nats / math.log(2) / (count * context) * per_character
    return Known(bits, per_character, tokenizer.vocab_size)
