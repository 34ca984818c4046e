"""`semigpt`: parse, call, print. What a script reads goes to standard output, everything else to standard error.

Exit codes: 0 done; 1 the answer is no (a check that found a difference); 2 something the user can put right, said in
one line; 130 and 143 stopped by SIGINT or SIGTERM, what there was to save saved.

Nothing heavy is imported here: `semigpt --help` answers in a tenth of a second, and each command brings what it needs.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from semigpt.errors import SemigptError, SettingsError
from semigpt.settings import nearest, parse_value, read_toml

if TYPE_CHECKING:
    pass

__all__ = ["main"]

EXIT_BAD_INPUT = 2
RUNS = Path("runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    parser = build_parser()
    try:
        options = parser.parse_args(arguments)
        options.arguments = sys.argv[1:] if arguments is None else list(arguments)
        if options.run is None:
            parser.print_help(sys.stderr)
            return EXIT_BAD_INPUT
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except SemigptError as error:
        return _say(str(error))
    except BrokenPipeError:
        # Whoever read our output has gone. Point it nowhere, or Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _say(
            f"{place}{error.strerror or error}; check the path, its permissions and the free disk"
        )
    except KeyboardInterrupt as stop:
        say_notes(stop)
        return 128 + signal.SIGINT
    except (MemoryError, RuntimeError) as error:
        if (
            not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError"
        ):  # torch's own
            raise
        return _say(
            "not enough memory for this; choose a smaller --size, batch_size or context_length"
        )


def say_notes(stop: KeyboardInterrupt) -> None:
    """What is left to go on with, in a line."""
    for line in getattr(stop, "__notes__", ()):
        note(line)


def _say(message: str) -> int:
    print(f"semigpt: {' '.join(message.split())}", file=sys.stderr)
    return EXIT_BAD_INPUT


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **settings
        )

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"{message}; see `{self.prog} --help`")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = options.parser or self
            flags = [
                flag
                for action in command._actions
                for flag in action.option_strings
                if flag.startswith("--")
            ]
            hint = (
                nearest(unknown[0].split("=")[0], flags)
                if unknown[0].startswith("-")
                else "one argument too many"
            )
            raise SettingsError(
                f"unknown argument {unknown[0]!r}: {hint}; see `{command.prog} --help`"
            )
        return options


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from semigpt import __version__

    parser = _Parser(prog="semigpt", description="A language model of your own from Korean text.")
    parser.set_defaults(run=None, parser=None)
    parser.add_argument("--version", action="version", version=f"semigpt {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help: str, description: str = ""
    ) -> _Parser:
        sub: _Parser = commands.add_parser(
            name, help=help, description=f"{help}\n\n{description}".strip()
        )
        sub.set_defaults(run=run, parser=sub)
        return sub

    sub = command("train", run_train, "train a model on a text", TRAIN_HELP)
    _data_flags(sub)
    sub.add_argument(
        "--tokenizer",
        metavar="KIND",
        help="char, byte, jamo, bpe, unigram, or a folder of one (default: unigram for a gpt that will not read its text often, else char)",
    )
    sub.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help="tokens in all (default: every character; 8,000 for bpe and unigram)",
    )
    sub.add_argument(
        "--model",
        metavar="RUNG",
        help="bigram, attention, multihead, feedforward, blocks, gpt (default) or memory",
    )
    sub.add_argument(
        "--memory",
        action="store_true",
        help="a gpt that looks n-grams up as well: --model memory, needs semigpt",
    )
    sub.add_argument(
        "--size",
        help="tiny, small, base or large: shape, batch and rates together (default: by --minutes)",
    )
    sub.add_argument("--steps", type=int, help="how long: updates of the weights")
    sub.add_argument("--tokens", type=int, help="how long: tokens learnt from")
    sub.add_argument("--minutes", type=float, help="how long: minutes of training (default: 2)")
    sub.add_argument("--seed", type=int, help="of weights, order of data and samples (default: 0)")
    _machine_flags(sub)
    sub.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the run folder (default: a new one in runs/)"
    )
    sub.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help="go on with a run (default: --out, or the last one)",
    )
    sub.add_argument(
        "--config", type=Path, metavar="FILE", help="a config.toml to start from; flags go over it"
    )
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="TABLE.KEY=VALUE",
        help="any setting of config.toml, such as model.num_layers=6 or optimizer.learning_rate=1e-3",
    )
    sub.add_argument(
        "--refresh",
        action="store_true",
        help="read the text anew (a Hub dataset is kept once read)",
    )
    sub.add_argument("--prompt", help="what the samples while training begin with")
    sub.add_argument(
        "--save-every",
        metavar="N",
        help="a checkpoint every 500 steps, or 2m minutes (default: as often as 2%% of the time allows)",
    )
    sub.add_argument("--keep", type=int, metavar="N", help="checkpoints kept (default: 2)")
    sub.add_argument(
        "--explain",
        action="store_true",
        help="measure how a step runs best here, say what is chosen and why; no training",
    )
    sub.add_argument(
        "--on-nonfinite",
        choices=("stop", "skip"),
        help="at a loss that is not finite: stop (default), or skip the step and count it",
    )
    sub.add_argument("--json", action="store_true", help="print the result as one JSON object")

    sub = command(
        "torture",
        run_torture,
        "kill small trainings, go on with them, and compare every byte",
        TORTURE_HELP,
    )
    sub.add_argument(
        "--kills", type=int, default=10, metavar="N", help="kills a rung (default: 10)"
    )
    sub.add_argument(
        "--model",
        action="append",
        metavar="RUNG",
        help="a rung; may be given again (default: every rung)",
    )
    sub.add_argument("--seed", type=int, default=0, help="of the moments of the kills (default: 0)")
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command("generate", run_generate, "continue a text with a trained model")
    sub.add_argument(
        "model", type=Path, metavar="RUN", help="a run folder, or a Hugging Face folder"
    )
    sub.add_argument(
        "prompt",
        nargs="?",
        default="",
        help="what the text begins with; any text works, nothing too",
    )
    sub.add_argument(
        "--max-new-tokens", type=int, default=300, help="how long at most (default: 300)"
    )
    sub.add_argument(
        "--temperature",
        type=float,
        default=0.8,
        help="0 takes the likeliest each time (default: 0.8)",
    )
    sub.add_argument("--top-k", type=int, help="draw from the k likeliest")
    sub.add_argument("--top-p", type=float, help="draw from the likeliest that together reach p")
    sub.add_argument("--seed", type=int, help="the same seed gives the same text")
    sub.add_argument("--num-samples", type=int, default=1, help="how many texts (default: 1)")
    sub.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="end before this text; may be given again",
    )
    sub.add_argument(
        "--no-echo", action="store_true", help="print the continuation without the prompt"
    )
    sub.add_argument(
        "--prompt-file",
        type=Path,
        metavar="FILE",
        help="read the prompt there; - is standard input",
    )
    sub.add_argument(
        "--min-p", type=float, help="draw from those at least p times as likely as the likeliest"
    )
    sub.add_argument(
        "--repetition-penalty",
        type=float,
        default=1.0,
        help="more than 1: less of what is there already",
    )
    sub.add_argument(
        "--frequency-penalty",
        type=float,
        default=0.0,
        help="off a token's logit for each time it was written",
    )
    sub.add_argument(
        "--presence-penalty", type=float, default=0.0, help="off a token's logit if it was written"
    )
    sub.add_argument(
        "--no-repeat-ngram-size",
        type=int,
        default=0,
        metavar="N",
        help="no run of N tokens comes twice",
    )
    sub.add_argument(
        "--logit-bias",
        action="append",
        default=[],
        metavar="ID=BIAS",
        help="added to a token's logit",
    )
    sub.add_argument(
        "--num-beams",
        type=int,
        default=1,
        metavar="N",
        help="the best text N parallel ones find; nothing is drawn",
    )
    sub.add_argument(
        "--ban",
        action="append",
        default=[],
        metavar="TEXT",
        help="never write this; may be given again",
    )
    sub.add_argument(
        "--pattern", metavar="REGEX", help="write only what Python's re.fullmatch takes"
    )
    sub.add_argument(
        "--choice",
        action="append",
        default=[],
        metavar="TEXT",
        help="write one of these; give it again",
    )
    sub.add_argument(
        "--show", action="store_true", help="each character's surprise, and what else was likely"
    )
    sub.add_argument(
        "--logprobs",
        type=int,
        metavar="K",
        help="with --json: each token's log-probability beside the K likeliest",
    )
    sub.add_argument(
        "--interactive",
        action="store_true",
        help="go on behind each line from standard input, in one text",
    )
    sub.add_argument(
        "--json", action="store_true", help="print one JSON object, the prompt apart from the texts"
    )
    sub.add_argument("--device", help="auto (default), cpu, cuda or mps")
    sub.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="of the weights: float32 (default), bfloat16 or int8",
    )
    sub.add_argument(
        "--no-native", action="store_true", help="PyTorch alone, without the compiled CPU loop"
    )

    sub = command(
        "evaluate",
        run_evaluate,
        "measure a model on a whole split, beside baselines",
        EVALUATE_HELP,
    )
    sub.add_argument("model", type=Path, metavar="RUN", help="a run folder")
    _data_flags(sub)
    sub.add_argument(
        "--stride", type=int, help="tokens that windows move on by (default: half the context)"
    )
    sub.add_argument(
        "--no-xz", action="store_true", help="leave the compressor out: it takes a minute on 50 MB"
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object")
    _machine_flags(sub)

    _tokenizer_commands(commands)

    sub = command(
        "ladder", run_ladder, "train every rung on the same text, and compare", LADDER_HELP
    )
    _data_flags(sub)
    sub.add_argument(
        "--rungs",
        nargs="+",
        metavar="RUNG",
        help="some of the rungs (default: all, from bigram to gpt)",
    )
    sub.add_argument("--steps", type=int, help="the same steps for all")
    sub.add_argument(
        "--minutes",
        type=float,
        help="the same minutes for each, with its own good settings (default: 1)",
    )
    sub.add_argument(
        "--book",
        action="store_true",
        help="the book's batch 32, block 8, learning rate 1e-2; with --steps",
    )
    sub.add_argument(
        "--seed", type=int, default=0, help="of weights, order of data and samples (default: 0)"
    )
    sub.add_argument("--prompt", default="", help="what every rung's samples begin with")
    sub.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where the rungs and the table go (default: runs/ladder)",
    )
    sub.add_argument("--json", action="store_true", help="print the rows as JSON")
    _machine_flags(sub)

    sub = command("tour", run_tour, "the book's chapter on your own text, step by step")
    _data_flags(sub)
    sub.add_argument("--lang", choices=("ko", "en"), default="ko", help="ko (default) or en")
    sub.add_argument(
        "--seconds", type=float, default=60.0, help="how long the tour trains (default: 60)"
    )
    sub.add_argument(
        "--steps", type=int, help="steps of each model instead, for numbers that repeat exactly"
    )
    sub.add_argument("--seed", type=int, default=0)

    sub = command(
        "text", run_text, "the text doctor: find what is wrong with a text, and repair it"
    )
    verbs = sub.add_subparsers(metavar="VERB")
    for verb, run, help in (
        (
            "check",
            run_text_check,
            "count what is wrong with a text, with examples; nothing is written",
        ),
        ("clean", run_text_clean, "write a text repaired: lossless repairs, and those asked for"),
    ):
        sub = verbs.add_parser(verb, help=help, description=help)
        sub.set_defaults(run=run, parser=sub)
        _text_flags(sub)
    sub.add_argument(
        "--out", type=Path, metavar="FOLDER", required=True, help="a new folder of Parquet files"
    )
    sub.add_argument(
        "--fix",
        metavar="NAMES",
        default="lossless",
        help="lossless (default), all, or names from the report: html,control",
    )
    sub.add_argument(
        "--mask-personal",
        action="store_true",
        help="put [전화번호] and the like over personal data",
    )
    return parser


TRAIN_HELP = """\
--data SPEC is one of
  news                     the bundled corpus; news#articles=22194,seed=7 for more of it
  a file, glob or folder   .txt .jsonl .csv .tsv .parquet, each also .gz or .zst, or a dataset folder
  hf:ORG/NAME              a dataset of the Hub; hf:ORG/NAME#config=…,revision=…,split=…,streaming=yes
"""
TORTURE_HELP = """\
Small models are trained on the bundled corpus, killed by SIGKILL at random moments, some while a checkpoint is being
written, gone on with and killed again. In the end weights, optimizer, random state and logs must be, byte for byte,
those of a run that was left alone. Exit code 1 where they are not.
"""
COMPARE_HELP = """\
With --minutes (or --steps) the same model is trained on each kind for the same time, and told in bits per character, the
one measure that is fair between tokenizers; the runs and a page with their curves go to --out (default: in runs/).
"""
LADDER_HELP = """\
Each rung is a run in FOLDER/RUNG that can be resumed, generated from and evaluated; one that is finished with the same
settings is not trained again. FOLDER gets ladder.html (curves against steps and seconds), ladder.md and ladder.json.
"""
EVALUATE_HELP = """\
--data takes another text than the one trained on; --split says which of its splits (default: test).
"""


def _tokenizer_commands(commands: Any) -> None:
    """`semigpt tokenizer` and its three commands."""
    tokenizer = commands.add_parser("tokenizer", help="train, show or compare tokenizers")
    tokenizer.set_defaults(run=run_tokenizer, parser=tokenizer)
    verbs = tokenizer.add_subparsers(metavar="COMMAND")

    def command(
        name: str, run: Callable[[argparse.Namespace], int], help: str, more: str = ""
    ) -> _Parser:
        sub: _Parser = verbs.add_parser(name, help=help, description=f"{help}\n\n{more}".strip())
        sub.set_defaults(run=run, parser=sub)
        return sub

    sub = command(
        "train", run_tokenizer_train, "train a tokenizer and save it in a folder of its own"
    )
    sub.add_argument("--kind", default="char", help="char (default), byte, jamo, bpe or unigram")
    _data_flags(sub)
    sub.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help="tokens in all (default: every character; 8,000 for bpe and unigram)",
    )
    sub.add_argument(
        "--min-count",
        type=int,
        metavar="N",
        help="rarer characters (pairs, for bpe) are spelt in bytes (default: 1)",
    )
    sub.add_argument(
        "--special",
        action="append",
        default=[],
        metavar="TOKEN",
        help="a special token, such as <|user|>; may be given again",
    )
    sub.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="a new folder, which AutoTokenizer loads",
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command("show", run_tokenizer_show, "show the tokens of a text, with their ids and bytes")
    sub.add_argument("text", metavar="TEXT", help="any text")
    sub.add_argument(
        "--tokenizer",
        action="append",
        metavar="NAME",
        help="a tokenizer's folder, a run folder, or char (default), byte, jamo, bpe or unigram, trained on --data; "
        "may be given again",
    )
    _data_flags(sub)
    sub.add_argument("--json", action="store_true", help="print one JSON object")

    sub = command(
        "compare", run_tokenizer_compare, "measure every kind of tokenizer on a text", COMPARE_HELP
    )
    _data_flags(sub)
    sub.add_argument(
        "--kinds",
        nargs="+",
        metavar="KIND",
        help="some of char, byte, jamo, bpe and unigram (default: all)",
    )
    sub.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help="tokens in all, at most (default: every character; 8,000 for bpe and unigram)",
    )
    sub.add_argument(
        "--minutes", type=float, help="also train a model on each kind, for so many minutes"
    )
    sub.add_argument("--steps", type=int, help="also train a model on each kind, for so many steps")
    sub.add_argument("--size", help="of those models: tiny (default), small, base or large")
    sub.add_argument("--seed", type=int, help="of those models (default: 0)")
    _machine_flags(sub)
    sub.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="a new folder for compare.html, .md, .json and the runs",
    )
    sub.add_argument("--json", action="store_true", help="print one JSON object")


def _data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", metavar="SPEC", help="the text (default: news)")
    parser.add_argument(
        "--column",
        help="the column that holds it (default: document, text, or the only one of text)",
    )
    parser.add_argument(
        "--split",
        help="auto, offset:0.9 (the book's cut) …; for evaluate: train, validation or test",
    )


def _text_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="the text, as --data names it")
    parser.add_argument("--column", help="the column that holds it")
    parser.add_argument(
        "--squeeze", type=int, metavar="N", help="at most N of a character in a row: ㅋㅋㅋㅋㅋ"
    )
    parser.add_argument(
        "--min-characters", type=int, metavar="N", help="leave out documents of fewer characters"
    )
    parser.add_argument(
        "--near-duplicates",
        type=float,
        metavar="SHARE",
        help="leave out documents this much like one before: 0.8",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")


def _machine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="auto (default), cpu, cuda or mps")
    parser.add_argument("--precision", help="auto (default), float32 or bfloat16")


# train


def recipe_tables(
    options: argparse.Namespace, base: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """The tables that the flags ask for, over those of --config or of a run to go on with."""
    tables = dict(base or {})
    if options.config is not None:
        tables = read_toml(options.config)
    tables = {
        name: dict(table) if isinstance(table, dict) else table for name, table in tables.items()
    }
    if options.memory and options.model not in (None, "memory"):
        raise SettingsError(
            f"--memory is --model memory; it does not go with --model {options.model}"
        )
    given = {
        "data.spec": options.data,
        "data.column": options.column,
        "data.split": options.split,
        "tokenizer.kind": options.tokenizer,
        "tokenizer.vocab_size": options.vocab_size,
        "model.rung": "memory" if options.memory else options.model,
        "model.size": options.size,
        "training.steps": options.steps,
        "training.tokens": options.tokens,
        "training.minutes": options.minutes,
        "training.seed": options.seed,
        "machine.device": options.device,
        "machine.precision": options.precision,
        "sample.prompt": options.prompt,
        "training.save_every": None
        if options.save_every is None
        else parse_value(options.save_every),
        "training.keep": options.keep,
        "training.on_nonfinite": options.on_nonfinite,
    }
    if options.tokenizer is not None and Path(options.tokenizer).is_dir():
        given["tokenizer.folder"] = given.pop("tokenizer.kind")
    for setting in options.set:
        name, equals, value = setting.partition("=")
        if not equals or name.count(".") != 1:
            raise SettingsError(
                f"--set takes TABLE.KEY=VALUE, such as model.num_layers=6, not {setting!r}"
            )
        given[name] = parse_value(value)
    if any(given[f"training.{key}"] is not None for key in ("steps", "tokens", "minutes")):
        for key in ("steps", "tokens", "minutes"):
            tables.get("training", {}).pop(key, None)
    if given["model.size"] is not None or given["model.rung"] is not None:
        # A turn of the dial goes over the values the old position of it had left in a config.
        old = tables.get("model", {})
        tables["model"] = {key: old[key] for key in ("rung", "size") if key in old}
    for name, value in given.items():
        if value is not None:
            table, key = name.split(".")
            tables.setdefault(table, {})[key] = value
    return tables


def run_train(options: argparse.Namespace) -> int:
    """semigpt train"""
    from semigpt.recipe import Recipe, check_unchanged
    from semigpt.run_folder import RunFolder

    resume = options.resume is not None
    if resume:
        folder = Path(options.resume) if options.resume is not True else options.out or newest_run()
        saved = RunFolder.open(folder).config()
        begun = Recipe.from_tables(saved)
        recipe = Recipe.from_tables(
            recipe_tables(options, saved), str(folder / "config.toml")
        ).as_begun(begun)
        check_unchanged(begun, recipe, folder)
    else:
        recipe = Recipe.from_tables(
            recipe_tables(options), str(options.config or "the command line")
        )
        name = (
            Path(recipe.data.spec.split("#")[0].removeprefix("hf:")).name.split(".")[0].strip("*")
            or "text"
        )
        folder = options.out or RunFolder.free_name(RUNS / f"{name}-{recipe.model['rung']}")
    if options.refresh:
        from semigpt.corpus.staging import prepare_corpus

        data = recipe.data
        prepare_corpus(data.spec, column=data.column, split=data.split, refresh=True)
    if options.explain:
        return explain_training(recipe, as_json=options.json)
    from semigpt.cli.terminal import show_training

    with stopping() as stop:
        try:
            finished = show_training(
                recipe,
                folder,
                resume=resume,
                stop=lambda: stop[0] is not None,
                as_json=options.json,
            )
        except KeyboardInterrupt as stopped:
            if stop[0] is None:
                raise
            if not hasattr(stopped, "__notes__"):
                stopped.add_note("stopped before the first step; the same command begins again")
            say_notes(stopped)
            return 128 + stop[0]
    return 128 + stop[0] if stop[0] is not None and not finished.complete else 0


def explain_training(recipe: Any, *, as_json: bool) -> int:
    """semigpt train --explain"""
    from semigpt.studies.explain import explain

    choices = list(explain(recipe))
    if as_json:
        print(json.dumps([vars(choice) for choice in choices], ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table("what", "chosen", "why", "force it with")
    for choice in choices:
        table.add_row(choice.what, choice.chosen, choice.why, choice.force)
    Console().print(table)
    return 0


def newest_run() -> Path:
    """The run in runs/ that was written to last."""
    runs = (
        [path for path in RUNS.glob("*") if (path / "config.toml").is_file()]
        if RUNS.is_dir()
        else []
    )
    if not runs:
        raise SettingsError(
            f"no run in {RUNS}/ to go on with; name one: semigpt train --resume FOLDER"
        )
    return max(runs, key=lambda path: max((p.stat().st_mtime for p in path.iterdir()), default=0.0))


@contextlib.contextmanager
def stopping() -> Iterator[list[int | None]]:
    """The first SIGINT or SIGTERM is put in the list, to be heeded between two steps; a second one ends at once."""
    seen: list[int | None] = [None]

    def note(number: int, frame: object) -> None:
        if seen[0] is not None:
            os._exit(128 + number)
        seen[0] = number
        print("\nstopping after this step and saving; once more to stop at once", file=sys.stderr)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# torture


def run_torture(options: argparse.Namespace) -> int:
    """semigpt torture"""
    from semigpt.cli.terminal import torture_line, torture_table
    from semigpt.studies.crash_test import torture

    trials = []
    for trial in torture(options.model, kills=options.kills, seed=options.seed):
        trials.append(trial)
        torture_line(trial)
    if options.json:
        write_json({"kills": sum(t.kills for t in trials), "trials": [t.as_dict() for t in trials]})
    else:
        torture_table(trials)
    return int(any(trial.differences for trial in trials))


# generate


def run_generate(options: argparse.Namespace) -> int:
    """semigpt generate"""
    from semigpt.corpus.text import normalize
    from semigpt.generation.sampling import SamplingSettings

    sampling = SamplingSettings(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        frequency_penalty=options.frequency_penalty,
        presence_penalty=options.presence_penalty,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        logit_bias=dict(map(token_and_bias, options.logit_bias)),
        num_beams=options.num_beams,
    )
    if options.prompt_file is not None and options.prompt:
        raise SettingsError("give the prompt or --prompt-file, not both")
    if options.interactive and (
        options.json or options.num_samples > 1 or options.prompt_file is not None
    ):
        raise SettingsError(
            "--interactive writes one text at a time and reads its lines from standard input"
        )
    prompt = options.prompt if options.prompt_file is None else read_prompt(options.prompt_file)
    engine = load_engine(options)
    prompt = normalize(prompt)
    settings: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "sampling": sampling,
        "seed": options.seed,
        "num_samples": options.num_samples,
        "stop": options.stop,
        "banned": options.ban,
        "pattern": None if options.pattern is None else normalize(options.pattern),
        "choices": [normalize(choice) for choice in options.choice],
        "logprobs": options.logprobs
        if options.logprobs is not None
        else 5
        if options.show
        else None,
        "echo": not options.no_echo and not options.json,
    }
    if options.interactive:
        return converse(engine, prompt, settings, show=options.show)
    pieces = engine.stream(prompt, **settings)
    if options.json:
        samples: list[dict[str, Any]] = [
            {"text": "", "finish_reason": None, "tokens": []}
            if settings["logprobs"] is not None
            else {"text": "", "finish_reason": None}
            for _ in range(options.num_samples)
        ]
        for piece in pieces:
            sample = samples[piece.sample]
            sample["text"] += piece.text
            sample["finish_reason"] = piece.finish_reason
            if settings["logprobs"] is not None:
                sample["tokens"] += map(dataclasses.asdict, piece.scores)
        write_json({"prompt": prompt, "seed": options.seed, "samples": samples})
        return 0
    if options.num_samples == 1:
        write_pieces(pieces, show=options.show)
        return 0
    texts: list[list[Any]] = [[] for _ in range(options.num_samples)]
    for piece in pieces:
        texts[piece.sample].append(piece)
    for number, text in enumerate(texts):
        write("\n---\n\n" if number else "")
        write_pieces(iter(text), show=options.show)
    return 0


def token_and_bias(text: str) -> tuple[int, float]:
    """`ID=BIAS` of --logit-bias."""
    token, _, bias = text.partition("=")
    try:
        return int(token), float(bias)
    except ValueError:
        raise SettingsError(f"--logit-bias takes ID=NUMBER, such as 17=-5, not {text!r}") from None


def read_prompt(path: Path) -> str:
    """The text of --prompt-file; bytes that are no UTF-8 are refused."""
    data = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise SettingsError(
            f"{path} is not UTF-8 at byte {error.start}; save the prompt as UTF-8"
        ) from None


def write_pieces(pieces: Iterator[Any], *, show: bool) -> None:
    """A text as it comes, painted by its surprise or plain."""
    if show:
        from semigpt.cli.paint import painted

        for text in painted(pieces):
            write(text)
        return
    for piece in pieces:
        write(piece.text)
    write("\n")


def converse(engine: Any, prompt: str, settings: dict[str, Any], *, show: bool) -> int:
    """Write, take a line from standard input, go on behind it: one text, read by the model once."""
    from semigpt.corpus.text import normalize
    from semigpt.generation.engine import Conversation

    conversation = Conversation()
    asked = sys.stdin.isatty()
    for turns in itertools.count():
        if prompt or turns:
            write_pieces(engine.stream(prompt, conversation=conversation, **settings), show=show)
        if asked:
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline()
        if not line:
            break
        prompt = normalize(line.decode("utf-8", "replace").rstrip("\r\n"))
        settings["echo"] = False  # the line stands on the screen already
    return 0


def load_engine(options: argparse.Namespace) -> Any:
    """The model on the device asked for, in the precision asked for, and its tokenizer, made ready to write."""
    from semigpt.device import pick_device
    from semigpt.generation.engine import Engine
    from semigpt.huggingface.open import open_run

    _, model, tokenizer = open_run(options.model)
    model = model.to(pick_device(options.device or "auto"))
    return Engine(
        model, tokenizer, precision=options.precision, native=False if options.no_native else None
    )


def write(text: str) -> None:
    """Text to standard output at once, lone surrogates too."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass"))
    sys.stdout.buffer.flush()


def write_json(value: Any) -> None:
    write(json.dumps(value, ensure_ascii=False) + "\n")


# evaluate


def run_evaluate(options: argparse.Namespace) -> int:
    """semigpt evaluate"""
    from semigpt.cli.terminal import evaluate_run, evaluation_table
    from semigpt.device import pick_device
    from semigpt.huggingface.open import open_run
    from semigpt.recipe import DataSettings

    run, model, tokenizer = open_run(options.model)
    if run is None:
        if options.data is None:
            raise SettingsError(
                f"{options.model} is a model folder, which does not say its text; give --data"
            )
        data = DataSettings(spec=options.data, column=options.column)
    else:
        data = DataSettings(**run.config()["data"])
    result = evaluate_run(
        model.to(pick_device(options.device or "auto")),
        tokenizer,
        data,
        other=None
        if options.data is None
        else DataSettings(spec=options.data, column=options.column),
        split=options.split or "test",
        stride=options.stride,
        xz=not options.no_xz,
    )
    if options.json:
        write_json(result.as_dict())
    else:
        evaluation_table(result, options.split or "test")
    return 0


# tokenizer


def run_tokenizer(options: argparse.Namespace) -> int:
    """semigpt tokenizer, without a command"""
    options.parser.print_help(sys.stderr)
    return EXIT_BAD_INPUT


def tokenizer_corpus(options: argparse.Namespace) -> Any:
    """The corpus that --data names, the bundled one by default."""
    from semigpt.corpus.staging import prepare_corpus

    with reading() as progress:
        return prepare_corpus(
            options.data or "news",
            column=options.column,
            split=options.split or "auto",
            progress=progress,
        )


def run_tokenizer_train(options: argparse.Namespace) -> int:
    """semigpt tokenizer train"""
    from semigpt.cli.token_table import check_free, train_into

    check_free(options.out)
    corpus = tokenizer_corpus(options)
    tokenizer = train_into(
        options.out,
        options.kind,
        corpus,
        vocab_size=options.vocab_size,
        min_count=options.min_count,
        special_tokens=options.special,
    )
    for finding in corpus.findings:
        note(finding)
    note(
        f"{tokenizer.kind}: {tokenizer.vocab_size:,} tokens from {corpus.characters('train'):,} characters of {corpus.spec}"
    )
    if options.json:
        facts = {
            "folder": str(options.out),
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
        }
        facts |= {
            "normalization": tokenizer.normalization,
            "special_tokens": dict(tokenizer.special_tokens),
        }
        write_json({**facts, "fingerprint": tokenizer.fingerprint})
    else:
        write(f"{options.out}\n")
    return 0


def run_tokenizer_show(options: argparse.Namespace) -> int:
    """semigpt tokenizer show"""
    from rich.console import Console

    from semigpt.cli.token_table import find_tokenizer, pieces, print_pieces

    found = {
        name: find_tokenizer(name, lambda: tokenizer_corpus(options))
        for name in options.tokenizer or ["char"]
    }
    shown: list[dict[str, Any]] = []
    for name, tokenizer in found.items():
        parts = pieces(tokenizer, options.text)
        characters = len(
            tokenizer.decode(part.id for part in parts)
        )  # composed, where the tokenizer composes
        ratio = characters / len(parts) if parts else None
        if options.json:
            tokens = [
                {"id": part.id, "text": part.text, "bytes": part.bytes.hex()} for part in parts
            ]
            facts = {"tokenizer": name, "kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size}
            shown.append(
                {**facts, "count": len(parts), "characters_per_token": ratio, "tokens": tokens}
            )
            continue
        each = "" if ratio is None else f", {ratio:.2f} characters per token"
        write(f"{name}: {len(parts):,} tokens for {characters:,} characters{each}\n\n")
        print_pieces(Console(highlight=False), parts)
    if options.json:
        write_json({"text": options.text, "tokenizers": shown})
    return 0


def run_tokenizer_compare(options: argparse.Namespace) -> int:
    """semigpt tokenizer compare"""
    asked = {
        "data": {"spec": options.data, "column": options.column, "split": options.split},
        "tokenizer": {"vocab_size": options.vocab_size},
        "model": {"size": options.size or "tiny"},
        "training": {"minutes": options.minutes, "steps": options.steps},
        "machine": {"device": options.device, "precision": options.precision},
    }
    tables = {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in asked.items()
    }
    trains = bool(tables["training"])
    for flag, value in (("--size", options.size), ("--seed", options.seed)):
        if value is not None and not trains:
            raise SettingsError(f"{flag} is of the models; give --minutes too, or leave it out")
    if options.seed is not None:
        tables["training"]["seed"] = options.seed
    from semigpt.run_folder import RunFolder
    from semigpt.studies.tokenizers import compare, print_comparison

    out = options.out
    if trains and out is None:
        out = RunFolder.free_name(RUNS / "tokenizers")
    kinds = {"kinds": options.kinds} if options.kinds else {}
    with stopping() if trains else contextlib.nullcontext([None]) as stop, reading() as progress:
        comparisons = compare(
            tables, **kinds, out=out, stop=lambda: stop[0] is not None, say=note, progress=progress
        )
        rows = list(comparisons)  # each holds a row more than the one before
    if rows and options.json:
        write_json(rows[-1].as_dict())
    elif rows:
        print_comparison(rows[-1])
        if out is not None:
            write(f"{out}\n")
    return 0 if stop[0] is None else 128 + stop[0]


def note(line: str) -> None:
    """A line on how it goes, to standard error."""
    print("\r\x1b[K" * sys.stderr.isatty() + line, file=sys.stderr)


@contextlib.contextmanager
def reading() -> Iterator[Callable[[int, int], None]]:
    """What tells how much text has been read: one line that changes, on a terminal alone."""

    def tell(documents: int, characters: int) -> None:
        if sys.stderr.isatty():
            line = f"reading: {documents:,} documents, {characters:,} characters"
            print(f"\r{line}", end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# ladder


def run_ladder(options: argparse.Namespace) -> int:
    """semigpt ladder"""
    from dataclasses import asdict

    from semigpt.models import RUNGS
    from semigpt.studies.ladder import LadderSettings, show_ladder

    data = {"spec": options.data, "column": options.column, "split": options.split}
    machine = {"device": options.device, "precision": options.precision}
    settings = LadderSettings(
        rungs=tuple(options.rungs or RUNGS),
        steps=options.steps,
        minutes=options.minutes
        or (1.0 if options.steps is None and options.minutes is None else None),
        book=options.book,
        seed=options.seed,
        data={key: value for key, value in data.items() if value is not None},
        machine={key: value for key, value in machine.items() if value is not None},
        sample={"prompt": options.prompt},
    )
    folder = options.out or RUNS / "ladder"
    with stopping() as stop:
        rows = show_ladder(settings, folder, stop=lambda: stop[0] is not None)
    if options.json:
        write_json([asdict(row) for row in rows])
    else:
        write(f"{folder}\n")
    return 0 if stop[0] is None else 128 + stop[0]


# tour


def run_tour(options: argparse.Namespace) -> int:
    """semigpt tour"""
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


# text


def run_text(options: argparse.Namespace) -> int:
    """semigpt text"""
    options.parser.print_help(sys.stderr)
    return EXIT_BAD_INPUT


def run_text_check(options: argparse.Namespace) -> int:
    """semigpt text check"""
    from semigpt.corpus.doctor.run import check

    with _reading() as progress:
        report = check(options.spec, **_text_settings(options), progress=progress)
    return _print_text_report(options, report)


def run_text_clean(options: argparse.Namespace) -> int:
    """semigpt text clean"""
    import shlex

    from semigpt.corpus.doctor.run import clean, selected_fixes

    with _reading() as progress:
        report = clean(
            options.spec,
            options.out,
            **_text_settings(options),
            fixes=selected_fixes(options.fix),
            mask_personal=options.mask_personal,
            progress=progress,
            command=shlex.join(["semigpt", *options.arguments]),
        )
    return _print_text_report(options, report)


def _text_settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("column", "squeeze", "min_characters", "near_duplicates", "workers")
    return {name: getattr(options, name) for name in names}


@contextlib.contextmanager
def _reading() -> Iterator[Callable[[int, int], None]]:
    """A line on the terminal that says how much has been read."""
    from rich.console import Console

    # SIGTERM unwinds like any exception, so that what was begun is taken away again.
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with Console(stderr=True).status("reading") as status:
            yield lambda documents, characters: status.update(
                f"{documents:,} documents, {characters:,} characters"
            )
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_text_report(options: argparse.Namespace, report: Any) -> int:
    if options.json:
        write_json(report.as_dict())
    else:
        from rich.console import Console

        # A pipe has no width: what is read there should not be cut at 80 columns.
        width = None if sys.stdout.isatty() else 160
        Console(highlight=False, markup=False, width=width).print(report.table())
    return 0
