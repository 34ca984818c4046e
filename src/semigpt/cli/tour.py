"""semigpt tour"""

from __future__ import annotations

import argparse

from semigpt.cli.flags import Commands, add_command, add_data_flags
from semigpt.cli.output import write


def add(commands: Commands) -> None:
    sub = add_command(commands, "tour", run, "the book's chapter on your own text, step by step")
    add_data_flags(sub)
    sub.add_argument("--lang", choices=("ko", "en"), default="ko", help="ko (default) or en")
    sub.add_argument(
        "--seconds", type=float, default=60.0, help="how long the tour trains (default: 60)"
    )
    sub.add_argument(
        "--steps", type=int, help="steps of each model instead, for numbers that repeat exactly"
    )
    sub.add_argument("--seed", type=int, default=0)


def run(options: argparse.Namespace) -> int:
    from semigpt.tour import tour

    for page in tour(
        options.data or "news",
        column=options.column,
        split=options.split or "auto",
        lang=options.lang,
        seconds=options.seconds,
        steps=options.steps,
        seed=options.seed,
    ):
        write(page + "\n\n")
    return 0
