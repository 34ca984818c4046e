"""Every automatic choice: what a run does where its settings leave it open.

Each function takes plain numbers (minutes, characters, epochs, GFLOP/s) and answers one question.
What was measured for it stands in docs/choices.md under the name of the function.
`semigpt.config.Recipe` applies the answers and keeps them in the run's config.toml, so a run that
is resumed never asks again. A rung names the questions that were measured for it in
`LanguageModel.auto`; the others keep their settings' own defaults.
"""

from __future__ import annotations

from typing import Literal, get_args

__all__ = [
    "SIZES",
    "Choice",
    "Size",
    "batch_size",
    "checkpoint_due",
    "compiles",
    "documents_step",
    "dropout",
    "evaluations",
    "model_size",
    "started_rate",
    "teaches",
    "tokenizer_kind",
    "tokens_per_minute",
    "unigram_vocab_size",
    "weight_decay",
]

Size = Literal["tiny", "small", "base", "large"]
SIZES: tuple[Size, ...] = get_args(Size)
Choice = Literal["size", "tokenizer", "batch_size", "teacher", "dropout", "weight_decay", "compile"]

# Minutes x GFLOP/s from which `small` learns more than `tiny`, and `base` more than `small`.
SMALL_WORK, BASE_WORK = 3800, 27_000
LONG_CHARACTERS = 4_000_000  # of a training text, from which larger batches and vocabularies pay
UNIGRAM_CHARACTERS = 750_000  # of a training text, from which it may be cut into longer tokens
UNIGRAM_EPOCHS = 6.5  # by `tokens_per_minute` and two characters per token; some five in truth
FRESH_EPOCHS = 2.2  # up to which hardly anything of a text is memorised
BATCH_STEPS = (1500, 3000)  # steps of a run above which the batch is doubled, once for each
TEACHER_TOKENS = 1_200_000  # of a training split, from which the n-gram counts teach
TEACHER_ORDER = 5
TOKENIZER_CHARACTERS = 6_000_000  # of a training split, from which a tokenizer is learnt
COMPILE_SECONDS = 60
STARTED_RATE = 0.3  # of the usual rates, for a run that begins from a trained model
EVALUATIONS, EVALUATION_FRACTION = 10, 0.05
SAVING_FRACTION, SAVING_PAUSE = 0.02, 30.0


def model_size(minutes: float, gigaflops: float) -> Size:
    """The size that learns most in so many minutes on a machine of so many GFLOP/s.

    `large` is never chosen: where it begins to pay is not measured. docs/choices.md#model-size.
    """
    work = minutes * gigaflops
    return "tiny" if work < SMALL_WORK else "small" if work < BASE_WORK else "base"


def tokens_per_minute(parameters: int, gigaflops: float, *, gpu: bool = False) -> float:
    """About how many tokens a `gpt` trains on in a minute: within a quarter of what was measured on
    three machines.
    """
    return 60 / (6.5e-9 * parameters / gigaflops + (0.35e-6 if gpu else 17e-6))


def tokenizer_kind(characters: int, tokens_to_read: float) -> Literal["char", "unigram"]:
    """The tokenizer with which a run learns most that reads so many Unigram tokens of a training
    text.

    Tokens of two characters cover twice the text in the same time, and are memorised sooner when
    the text repeats. docs/choices.md#tokenizer-kind.
    """
    seldom = tokens_to_read <= UNIGRAM_EPOCHS * characters / 2
    return "unigram" if characters >= UNIGRAM_CHARACTERS and seldom else "char"


def unigram_vocab_size(characters: int) -> int:
    """The Unigram vocabulary for a training text so long. docs/choices.md#unigram-vocab-size."""
    return 8000 if characters >= LONG_CHARACTERS else 4000


def documents_step(characters: int) -> int:
    """Learn tokens longer than a character from every n-th document: some six million characters
    say as much as all of them.
    """
    return max(-(-characters // TOKENIZER_CHARACTERS), 1)


def batch_size(size_batch: int, steps: float, characters: int) -> int:
    """The batch size of a run that could make so many steps of `size_batch` sequences.

    The longer a run of a long text, the less a step's noise matters beside what larger batches
    save. `tiny`, five minutes of film reviews: 12 sequences 3.692 bits per character, 24 3.664.
    docs/choices.md#batch-size.
    """
    if characters >= LONG_CHARACTERS:
        for limit in BATCH_STEPS:
            if steps > limit:
                size_batch, steps = 2 * size_batch, steps / 2
    return size_batch


def dropout(epochs: float) -> float:
    """The dropout of a run that reads its text so many times. docs/choices.md#dropout."""
    return 0.2 if epochs >= 10 else 0.0


def weight_decay(epochs: float) -> float:
    """The weight decay of a run that reads its text so many times: what is read once cannot be
    memorised.

    docs/choices.md#weight-decay.
    """
    return 0.0 if epochs <= FRESH_EPOCHS else 0.1


def started_rate(rate: float) -> float:
    """The learning rate of a run that begins from a trained model, from that of one that begins
    from random weights. docs/choices.md#started-rate.
    """
    return STARTED_RATE * rate


def teaches(tokens: int) -> bool:
    """Whether the n-gram counts of a training split of so many tokens help a model learn it.

    They help one that will not read much of a long text itself. docs/choices.md#teacher.
    """
    return tokens >= TEACHER_TOKENS


def compiles(device_type: str, seconds: float) -> bool:
    """Whether torch.compile pays for itself in a run of so many seconds: on an NVIDIA GPU, from a
    minute on.

    On a CPU the compiled C step is faster than what it gives. docs/choices.md#compile.
    """
    return device_type == "cuda" and seconds >= COMPILE_SECONDS


def evaluations(minutes: float | None, seconds_per_evaluation: float) -> int:
    """How often a run is evaluated: ten times, or fewer (two at least) where that would take over 5
    % of its minutes.
    """
    if (
        minutes is None
        or seconds_per_evaluation * EVALUATIONS <= EVALUATION_FRACTION * 60 * minutes
    ):
        return EVALUATIONS
    return max(int(EVALUATION_FRACTION * 60 * minutes / seconds_per_evaluation), 2)


def checkpoint_due(seconds: float, since_last: float, spent: float, next_cost: float) -> bool:
    """Whether a run of so many seconds saves a checkpoint now: half a minute apart, 2 % of its time
    in all at most.

    spent: seconds that saving has taken so far. next_cost: seconds that the next checkpoint is
    expected to take.
    """
    return since_last >= SAVING_PAUSE and spent + next_cost <= SAVING_FRACTION * seconds
