"""One dial: `--size` sets width, depth, context, batch and rates together; each can still be set by hand."""

from __future__ import annotations

from typing import Any, Literal

from semigpt.settings import check_choice

__all__ = [
    "SIZES",
    "Size",
    "batch_size_for",
    "dial",
    "dropout_for",
    "pieces_for",
    "size_for",
    "tokenizer_for",
    "tokens_per_minute",
    "weight_decay_for",
]

Size = Literal["tiny", "small", "base", "large"]
LONG = 4_000_000  # characters of a training text, from which on larger steps pay, and more pieces
# Characters from which on a text may be cut into pieces, and readings up to which it is, by `tokens_per_minute` and two characters
# a piece; some five they are in truth.
ENOUGH, PIECES_READINGS = 750_000, 6.5
# Minutes x GFLOP/s, from which on `small` learns more than `tiny`: of a long text from somewhere between 1,400 and 2,400 on, of
# a short one later. And from which on `base` learns more than `small`.
LARGER, LARGER_YET = 3800, 27_000
READINGS = 2.2  # of a text, up to which hardly anything of it is learnt by heart
SIZES: tuple[Size, ...] = ("tiny", "small", "base", "large")
# Of a run, above which each step learns from twice as many texts; and of what is left then, from twice as many again.
STEPS = (1500, 3000)


def size_for(minutes: float, gigaflops: float) -> Size:
    """The size that learns most in so many minutes on a machine whose products run at so many GFLOP/s.

    Bits per character on film reviews (22 million characters, taught by counts), tiny and small: two cores with AVX-512 alone
    (300), five minutes 3.66 and 3.68, of the memory 3.46 and 3.49; with AMX (2,400), a minute of training alone 3.94 and 3.89,
    five 3.68 of small, 3.72 of base. On the bundled news (1 million) one minute there: tiny 1.29, small 1.40. What twenty minutes
    read, of byte pairs, small (48 texts a step) and base: with AVX512-BF16 (19,200) 17.7 million 3.319 and 8.9 million 3.345, with
    AMX (48,000) 31.6 million 3.258 and 18.7 million 3.213; these were trained on a GPU, by tokens. `large` is for who asks for it:
    where it begins to pay is not measured.
    """
    work = minutes * gigaflops
    return "tiny" if work < LARGER else "small" if work < LARGER_YET else "base"


def tokens_per_minute(parameters: int, gigaflops: float, *, gpu: bool = False) -> float:
    """What a `gpt` of so many parameters reads there, about: within a quarter of what was measured on three machines and a GPU,
    and within a tenth between sizes on one (tests/test_recipe.py)."""
    return 60 / (6.5e-9 * parameters / gigaflops + (0.35e-6 if gpu else 17e-6))


def tokenizer_for(rung: str, characters: int, pieces: float) -> Literal["char", "unigram"]:
    """The kind of tokenizer with which a run that reads so many of unigram's pieces learns most from a training text.

    Pieces of two characters read twice the text in the same time, and come to know it by heart sooner; how much of it there
    is to know by heart depends on the text.
    Bits per character on unseen text, D's two cores (docs/log.md), characters and pieces: film reviews, 22 million characters, five
    minutes 3.67 (on B) and 3.588; 5 million, a minute 4.088 and 4.003, five (read 1.9 times) 3.831 and 3.731; 2.5 million, a minute
    4.116 and 4.063; one million, a minute 4.322 and 4.215, two (some four times) 4.222 and 4.155, five (some nine) 4.138 and
    4.218; half a million, a minute 4.416 and 4.444. The bundled news, two minutes (5.5 times) 1.206 and 0.951, five
    (twelve, with dropout) 1.014 and 0.943.
    The memory has the characters' neighbours in its counts and gains nothing from longer tokens.
    """
    seldom = characters >= ENOUGH and pieces <= PIECES_READINGS * characters / 2
    return "unigram" if rung == "gpt" and seldom else "char"


def pieces_for(characters: int) -> int:
    """How many of unigram's pieces a training text so long is learnt best in.

    Film reviews on D, 4,000 and 8,000: one million characters, one minute 4.215 and 4.296, two 4.155 and 4.212; 2.5 million, taught,
    one minute 4.063 and 4.085; half a million, one minute 4.444 and 4.543. The bundled news, two minutes, 0.951 and 0.935.
    """
    return 8000 if characters >= LONG else 4000


def batch_size_for(rung: str, texts: int, steps: float, characters: int) -> int:
    """How many texts a step learns most from, where `texts` are what the size has and so many steps of them would fit the run.

    Small steps and many of them are for short runs and short texts; the longer a run of a long text, the less a step's noise
    matters beside what larger ones save. Film reviews (22 million characters, two cores with AVX-512 alone), bits per character:
    `tiny` five minutes, 12 texts (2,260 steps) 3.692, 24 3.664, 48 3.663; `small` twenty, 24 texts (2,200) 3.466, 48 3.443.
    By tokens, on a GPU: 17.7 million of `small` 48 texts (2,881 steps) 3.319, 96 3.325; 18.7 million of `base` 16 texts (4,566)
    3.213, 32 3.207, 64 3.224.
    """
    if rung in ("gpt", "memory") and characters >= LONG:
        for limit in STEPS:
            if steps > limit:
                texts, steps = 2 * texts, steps / 2
    return texts


def dropout_for(rung: str, epochs: float) -> float:
    """The dropout with which a run learns most that will read its text so many times.

    Film reviews, 0.3 million characters read 18 times by a `tiny` gpt, bits per character on unseen ones at the best of eight
    looks: 4.57 without (after 9 times; 5.06 at the end), 4.43 with 0.1, 4.37 with 0.2, 4.39 with 0.3. What a memory or the
    book's rungs gain is not measured.
    """
    return 0.2 if rung == "gpt" and epochs >= 10 else 0.0


def weight_decay_for(rung: str, epochs: float) -> float:
    """The weight decay with which a run learns most that will read its text so many times.

    What is read once cannot be learnt by heart, and decay only takes back what was learnt. 1,500 steps of 4 x 256, Muon at
    0.01: byte pairs of 22 million characters of film reviews, 0.4 times, bits per token 7.216 with 0.3, 7.131 with 0.1, 7.111
    with 0.03, 7.104 with 0; of 5 million, 1.9 times, 7.324 with 0.1, 7.307 with 0; one million characters, 4.6 times, bits a
    character at the best of eight looks 3.888 with 0, 3.852 with 0.5 (at the end 4.157 and 4.005). 3,380 of 4 x 128 on the
    bundled news, 6 times: 1.094 with 0, 1.078 with 0.1.
    """
    return 0.0 if rung in ("gpt", "memory") and epochs <= READINGS else 0.1


def dial(rung: str, size: Size) -> dict[str, dict[str, Any]]:
    """The tables `model`, `training` and `optimizer` that one turn of the dial sets, as far as it sets them."""
    check_choice("size", size, SIZES)
    rates: dict[str, Any]
    if rung == "bigram":
        # A table has one size, its vocabulary's. A row is touched seldom, so its moments must last: with beta2 0.95 the
        # film reviews cost 4.20 nats after 2,000 steps of 32 x 8, with 0.999 3.72 (rate 0.03).
        rates = {
            "optimizer": "adamw",
            "learning_rate": 0.05,
            "weight_decay": 0.0,
            "betas": [0.9, 0.999],
        }
        return {"model": {"context_length": 64}, "training": {"batch_size": 64}, "optimizer": rates}
    if rung in ("attention", "multihead", "feedforward", "blocks"):
        # The book's rungs, wider. No dropout: within minutes a text is read a few times at most, and there is little to learn
        # by heart. Batch and rate of `tiny` by 24 s each on film reviews (two cores with AVX512-BF16), bits per character:
        #   attention    48 at 5e-3: 5.81    12 at 5e-3: 5.27    12 at 0.015: 5.13    12 at 0.04: 5.13    6 at 0.015: 5.17
        #   feedforward  24 at 8e-3: 5.15    12 at 5e-3: 5.20    12 at 0.015: 5.29
        #   blocks       48: 4.93    32, two units of sixteen texts: 4.77
        width, layers = {"tiny": (64, 2), "small": (128, 4), "base": (256, 6), "large": (512, 8)}[
            size
        ]
        batch, rate = {"feedforward": (24, 8e-3), "blocks": (32, None)}.get(rung, (12, 0.015))
        shape: dict[str, Any] = {"width": width, "context_length": 64}
        if rung != "attention":
            shape["num_heads"] = 4
        if rung in ("feedforward", "blocks"):
            shape["dropout"] = 0.0
        if rung == "blocks":
            shape["num_layers"] = layers
        rates = {"optimizer": "adamw", "learning_rate": rate, "weight_decay": 0.0}
        return {
            "model": shape,
            "training": {"batch_size": batch},
            "optimizer": {} if rung == "blocks" else rates,
        }
    # Small steps, many of them: after one minute on the bundled news (two cores, AVX512-BF16), bits per character:
    #   tiny   64 x 48 tokens per step: not run     64 x 24: 1.786    128 x 24: 1.973    128 x 12: 1.749
    #   small  64 x 48: 2.077    64 x 24: 1.988    128 x 24: 2.263    256 x 12: 2.700
    # `base` and `large` carry the lesson over and are not measured yet. The rate of the embedding tables: 400 steps of `small`
    # on film reviews 3.944 at 1, 3.911 at 4; 800 of `tiny` on the bundled news 1.733 and 1.596 (docs/log.md). Muon's: 1,500 of
    # `small` on byte pairs of film reviews, bits per token, with a weight decay of 0.1 7.151 at 0.02, 7.131 at 0.01, 7.162 at
    # 0.005, without 7.097 at 0.015 and 7.104 at 0.01; 3,380 of `tiny` on the bundled news 1.092 at 0.02, 1.078 at 0.01.
    shapes = {
        "tiny": {"width": 128, "num_layers": 4, "num_heads": 4, "context_length": 128},
        "small": {"width": 256, "num_layers": 4, "num_heads": 4, "context_length": 128},
        "base": {"width": 384, "num_layers": 6, "num_heads": 6, "context_length": 256},
        "large": {"width": 768, "num_layers": 12, "num_heads": 12, "context_length": 256},
    }
    return {
        "model": shapes[size],
        "training": {
            "batch_size": {"tiny": 12, "small": 24, "base": 16, "large": 32}[size],
            "teacher": "auto",
        },
        "optimizer": {"learning_rate": 6e-3, "embedding_rate": 4.0, "muon_learning_rate": 0.015},
    }
