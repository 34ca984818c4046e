"""The flags of `semigpt train`."""

from __future__ import annotations

from argparse import BooleanOptionalAction
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from semigpt.cli.flags import Parser, add_data_flags, add_json_flag, add_machine_flags
from semigpt.language import N_, _
from semigpt.settings import parse_value

__all__ = ["HELP", "Further", "add_flags"]

HELP = N_(
    """\
--data SPEC is one of
  news                     practice news, synthetic; for more of them
                           news#articles=22194,seed=7
  a file, glob or folder   .txt .jsonl .csv .tsv .parquet, each also .gz or
                           .zst, or a dataset folder; a.csv#header=none,
                           separator=semicolon, quoting=none, misfits=skip;
                           a.txt#by=line, paragraph, document
  -                        standard input
  hf:ORG/NAME              a dataset of the Hub; hf:ORG/NAME#config=...,
                           revision=...,split=...,streaming=yes
Several are one corpus, in this order.
"""
)


class Further(NamedTuple):
    """A length that begins with +: so much more than a run has had."""

    length: float


def length(number: Callable[[str], float]) -> Callable[[str], float | Further]:
    """A type of argument: a number, or one with a + before it."""

    def parse(text: str) -> float | Further:
        return Further(number(text[1:])) if text.startswith("+") else number(text)

    parse.__name__ = number.__name__
    return parse


def add_flags(sub: Parser) -> None:
    add_data_flags(sub)
    sub.add_argument(
        "--tokenizer",
        metavar="KIND",
        help=_(
            "char, byte, jamo, bpe, char_bpe, unigram, or a folder of one (default: char or "
            "char_bpe, whichever is expected to learn most)"
        ),
    )
    sub.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help=_(
            "tokens in all (default: every character; 8,000 for bpe; for char_bpe and unigram "
            "what is expected to learn most)"
        ),
    )
    sub.add_argument(
        "--model",
        metavar="RUNG",
        help=_("bigram, attention, multihead, feedforward, blocks, gpt (default) or memory"),
    )
    sub.add_argument(
        "--memory",
        action="store_true",
        help=_("a gpt that looks n-grams up as well: --model memory, needs semigpt"),
    )
    sub.add_argument(
        "--size",
        help=_(
            "tiny, small, base or large: shape, batch and rates together (default: the best); of "
            "gpt also 0.3b, 0.6b, 1b, 1.7b, 3b and 8b"
        ),
    )
    add_start_flags(sub)
    add_length_flags(sub)
    sub.add_argument(
        "--seed", type=int, help=_("of weights, order of data and samples (default: 0)")
    )
    sub.add_argument(
        "--save-every",
        type=parse_value,
        metavar="N",
        help=_("a checkpoint every N steps, or minutes as 2m (default: as often as costs 2 %%)"),
    )
    add_machine_flags(sub)
    add_process_flags(sub)
    sub.add_argument(
        "--out", type=Path, metavar="FOLDER", help=_("the run folder (default: a new one in runs/)")
    )
    sub.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help=_(
            "resume a run (default: --out, or the last one); with --minutes +10, --steps +N or "
            "--tokens +N train it so much further, finished or not"
        ),
    )
    sub.add_argument(
        "--other-bits",
        action="store_true",
        help=_("resume also where this machine, its torch or its compiler rounds otherwise"),
    )
    add_setting_flags(sub)
    sub.add_argument(
        "--refresh",
        action="store_true",
        help=_("read the text again (a Hub dataset is kept once read)"),
    )
    sub.add_argument(
        "--explain",
        action="store_true",
        help=_("measure how a step runs best here, say what is chosen and why; no training"),
    )
    add_open_flag(sub)
    add_json_flag(sub, _("print the result as one JSON object"))


def add_open_flag(sub: Parser) -> None:
    sub.add_argument(
        "--open",
        action="store_true",
        help=_(
            "open a browser at the run: its curve while it trains, and a page to write with it, "
            "which stays after training until Ctrl-C; needs semigpt[serve]"
        ),
    )


def add_process_flags(sub: Parser) -> None:
    sub.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help=_(
            "share each step among N processes, which end in the bits of one (default: one, or one "
            "for each GPU)"
        ),
    )
    sub.add_argument(
        "--shard",
        action=BooleanOptionalAction,
        default=None,
        help=_(
            "cut weights, gradients and optimizer state among the processes (FSDP; default: where "
            "a whole model in each does not fit in memory)"
        ),
    )


def add_setting_flags(sub: Parser) -> None:
    sub.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=_("a config.toml to start from; flags go over it"),
    )
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help=_("any setting of config.toml, such as model.num_layers=6 or sample.prompt=서울"),
    )


def add_length_flags(sub: Parser) -> None:
    sub.add_argument("--steps", type=length(int), help=_("how long: updates of the weights"))
    sub.add_argument("--tokens", type=length(int), help=_("how long: tokens trained on"))
    sub.add_argument(
        "--minutes", type=length(float), help=_("how long: minutes of training (default: 2)")
    )


def add_start_flags(sub: Parser) -> None:
    sub.add_argument(
        "--from",
        dest="start",
        metavar="FOLDER",
        help=_(
            "begin with the weights and the tokenizer of a run or model folder (Qwen3, Qwen2, "
            "Llama, Mistral and GPT-2 of others too), of hf:USER/NAME, or of `starter`, which a "
            "short Korean text takes by itself; `none` for random weights"
        ),
    )
    sub.add_argument(
        "--lora",
        type=int,
        metavar="RANK",
        help=_(
            "with --from: train small matrices of this rank beside the weights, which saves "
            "memory; model/ has them merged, adapter/ is a folder of peft's"
        ),
    )
    sub.add_argument(
        "--keep-vocabulary",
        choices=("used",),
        help=_("with --from: only the tokens that the text needs, of a model of others"),
    )
