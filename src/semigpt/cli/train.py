"""semigpt train"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semigpt.cli.flags import (
    Commands,
    Parser,
    add_command,
    add_data_flags,
    add_json_flag,
    add_machine_flags,
)
from semigpt.cli.opened import opened, telling
from semigpt.cli.output import EXIT_BAD_INPUT, RUNS, note, stopping, write_json
from semigpt.cli.processes import LOST, launch, own_process
from semigpt.errors import LostProcessError, SemigptError, SettingsError
from semigpt.language import N_, _
from semigpt.settings import parse_value, read_toml
from semigpt.system import ending_signals, handled

if TYPE_CHECKING:
    from semigpt.config import Recipe
    from semigpt.parallel import Processes
    from semigpt.training.settings import More

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


def add(commands: Commands) -> None:
    sub = add_command(commands, "train", run, _("train a model on a text"), _(HELP))
    add_data_flags(sub)
    sub.add_argument(
        "--tokenizer",
        metavar="KIND",
        help=_(
            "char, byte, jamo, bpe, char_bpe, unigram, or a folder of one (default: char or "
            "unigram, whichever is expected to learn most)"
        ),
    )
    sub.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help=_("tokens in all (default: every character; 8,000 for bpe, char_bpe and unigram)"),
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
        help=_("tiny, small, base or large: shape, batch and rates together (default: the best)"),
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
        help=_("share each step among N processes, which end in the bits of one (default: one)"),
    )
    sub.add_argument(
        "--shard",
        action="store_true",
        help=_("cut weights, gradients and optimizer state among the processes (FSDP)"),
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
            "Llama, Mistral and GPT-2 of others too), of hf:USER/NAME, or of `starter`"
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


def run(options: argparse.Namespace) -> int:
    asked: int | None = options.processes
    if asked is not None and asked < 1:
        raise SettingsError(_("--processes must be at least 1, not {asked}").format(asked=asked))
    own = own_process(asked, sharded=options.shard)
    if own is None and options.shard and (asked or 1) == 1:
        raise SettingsError(_("--shard cuts a model among processes: add --processes N"))
    if own is not None and own.rank:
        return follow(own)
    with opened(options.open) as page:
        if own is None and (asked or 1) > 1:
            return page.stay(launch(asked or 1, options.arguments))
        try:
            code = lead(options, own)
        finally:
            if own is not None:
                own.dismiss()
        return page.stay(code)


def follow(own: Processes) -> int:
    """A process that is not the first: silent, and stopped by the first alone."""
    from semigpt import recipe

    logging.disable(logging.WARNING)
    with handled(lambda number, frame: None, signal.SIGINT, *ending_signals()):
        try:
            recipe.follow(own)
        except LostProcessError:
            return LOST
        except SemigptError:
            return EXIT_BAD_INPUT
    return 0


def lead(options: argparse.Namespace, own: Processes | None) -> int:
    """The only process, or the first of several."""
    from semigpt.parallel import ALONE

    resume = options.resume is not None
    more = further(options, resume=resume)
    if not resume and options.device in (None, "auto", "cpu"):  # beside the imports, which take 2 s
        from semigpt.models import SOURCES, TEXT_SOURCES
        from semigpt.native.ahead import compile_ahead

        model = recipe_tables(options).get("model")
        rung = str(model.get("kind", "gpt")) if isinstance(model, dict) else "gpt"
        compile_ahead(*SOURCES.get(rung, TEXT_SOURCES))
    from semigpt.config import Recipe
    from semigpt.run_folder import RunFolder

    if resume and options.start is not None:
        raise SettingsError(
            _("--from does not go with --resume: a run that is resumed has weights")
        )
    if options.keep_vocabulary is not None:
        keep_vocabulary(options)
    if resume:
        folder = Path(options.resume) if options.resume is not True else options.out or newest_run()
        tables = recipe_tables(options, RunFolder.open(folder).config())
        recipe = Recipe.from_tables(tables, str(folder / "config.toml"))
    else:
        tables = recipe_tables(options)
        if own is not None:
            share_out(tables, own)
        recipe = Recipe.from_tables(tables, str(options.config or _("the command line")))
        folder = options.out
    if own is not None and own.begun is not None:  # all were started again: the leg has begun
        folder, more = Path(own.begun), None
    if options.refresh:
        from semigpt.corpus.staging import prepare_corpus

        data = recipe.data
        prepare_corpus(data.spec, column=data.column, split=data.split, refresh=True)
    if options.explain:
        return explain(recipe, as_json=options.json)
    from semigpt.cli.terminal import show_training
    from semigpt.recipe import train

    with contextlib.ExitStack() as held, stopping() as stop:
        if folder is None:
            folder = held.enter_context(RunFolder.claimed(RUNS / default_name(recipe)))
        try:
            events = train(
                recipe,
                folder,
                resume=resume,
                other_bits=options.other_bits,
                more=more,
                stop=lambda: stop[0] is not None,
                group=own or ALONE,
            )
            finished = show_training(recipe, telling(events, folder), as_json=options.json)
        except KeyboardInterrupt as stopped:
            if stop[0] is None:
                raise
            default = (_("stopped before the first step; the same command begins again"),)
            for line in getattr(stopped, "__notes__", default):
                note(line)
            return 128 + stop[0]
    return 128 + stop[0] if stop[0] is not None and not finished.complete else 0


def share_out(tables: dict[str, dict[str, Any]], own: Processes) -> None:
    """Settle in the tables of a new run what a launcher's processes decide: a micro-batch and an
    equal part of the machine's threads each.
    """
    import torch

    tables.setdefault("training", {}).setdefault("gradient_accumulation", own.size)
    if own.sharded:
        tables.setdefault("machine", {}).setdefault("backend", "plain")
    if not torch.cuda.is_available():
        threads = max(1, torch.get_num_threads() // own.place.local_size)
        tables.setdefault("machine", {}).setdefault("threads", threads)


def keep_vocabulary(options: argparse.Namespace) -> None:
    """Put the cut model into the place of the one to begin from, and say what that costs."""
    from semigpt.config import DataSettings
    from semigpt.corpus.staging import prepare_corpus
    from semigpt.huggingface.cut import cut_vocabulary
    from semigpt.start import StartSettings

    if options.start is None:
        raise SettingsError(_("--keep-vocabulary cuts the model of --from; name one"))
    data = DataSettings(**recipe_tables(options).get("data", {}))
    corpus = prepare_corpus(data.spec, column=data.column, split=data.split)
    cut = cut_vocabulary(StartSettings(folder=options.start).model_folder, corpus)
    note(cut.told)
    options.start = str(cut.folder)


def further(options: argparse.Namespace, *, resume: bool) -> More | None:
    """How much further a run is trained, taken out of the options; None without a +.

    Raises SettingsError where there is a + and no run to resume.
    """
    from semigpt.training.settings import LENGTHS, More

    lengths = {name: getattr(options, name) for name in LENGTHS}
    found: dict[str, Any] = {
        name: value.length for name, value in lengths.items() if isinstance(value, Further)
    }
    if not found:
        return None
    given = {name: value for name, value in lengths.items() if value is not None}
    if len(given) > 1:
        raise SettingsError(
            _("give one of {given}").format(given=", ".join(f"--{name}" for name in given))
        )
    ((name, more),) = found.items()
    amount = f"--{name} +{more:g}"
    if not resume:
        raise SettingsError(
            _(
                "{amount} trains a run further; say which: semigpt train --resume RUN {amount}"
            ).format(amount=amount)
        )
    setattr(options, name, None)
    return More(**found)


def recipe_tables(
    options: argparse.Namespace, base: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """The tables that the flags ask for, over those of --config or of a run to resume."""
    tables = dict(base or {})
    if options.config is not None:
        tables = read_toml(options.config)
    tables = {
        name: dict(table) if isinstance(table, dict) else table for name, table in tables.items()
    }
    if options.memory and options.model not in (None, "memory"):
        raise SettingsError(
            _("--memory is --model memory; it does not go with --model {model}").format(
                model=options.model
            )
        )
    from semigpt.corpus.standard_input import with_received

    given = {
        "data.spec": options.data and with_received(options.data),
        "data.column": options.column,
        "data.split": options.split,
        "tokenizer.kind": options.tokenizer,
        "tokenizer.vocab_size": options.vocab_size,
        "model.kind": "memory" if options.memory else options.model,
        "model.size": options.size,
        "start.folder": options.start,
        "start.lora": options.lora,
        "training.steps": options.steps,
        "training.tokens": options.tokens,
        "training.minutes": options.minutes,
        "training.seed": options.seed,
        "training.save_every": options.save_every,
        "machine.device": options.device,
        "machine.precision": options.precision,
    }
    if options.tokenizer is not None and Path(options.tokenizer).is_dir():
        given["tokenizer.folder"] = given.pop("tokenizer.kind")
    for setting in options.set:
        name, equals, value = setting.partition("=")
        if not equals or name.count(".") != 1:
            raise SettingsError(
                _(
                    "--set takes TABLE.KEY=VALUE, such as model.num_layers=6, not {setting!r}"
                ).format(setting=setting)
            )
        given[name] = parse_value(value)
    lengths = ("steps", "tokens", "minutes")
    if any(given[f"training.{key}"] is not None for key in lengths):
        for key in lengths:
            tables.get("training", {}).pop(key, None)
    if given["model.size"] is not None or given["model.kind"] is not None:
        # Another size or rung brings its own shape: that of the config goes.
        old = tables.get("model", {})
        tables["model"] = {key: old[key] for key in ("kind", "size") if key in old}
    for name, value in given.items():
        if value is not None:
            table, key = name.split(".")
            tables.setdefault(table, {})[key] = value
    return tables


def default_name(recipe: Recipe) -> str:
    """TEXT-RUNG, for a run that was not given a name."""
    spec = recipe.data.spec.split("\n")[0].split("#")[0].removeprefix("hf:")
    name = Path(spec).expanduser().absolute().resolve().name.split(".")[0].strip("*-")
    return f"{''.join(filter(str.isprintable, name)) or 'text'}-{recipe.kind}"


def newest_run() -> Path:
    """The run in runs/ that was written to last."""
    runs = [path for path in RUNS.glob("*") if (path / "config.toml").is_file()]
    if not runs:
        raise SettingsError(
            _("no run in {runs}/ to resume; name one: semigpt train --resume FOLDER").format(
                runs=RUNS
            )
        )
    return max(runs, key=lambda path: max((p.stat().st_mtime for p in path.iterdir()), default=0.0))


def explain(recipe: Recipe, *, as_json: bool) -> int:
    """semigpt train --explain"""
    from semigpt.studies.explain import explain as explained

    choices = list(explained(recipe))
    if as_json:
        write_json([vars(choice) for choice in choices])
        return 0
    from textwrap import TextWrapper

    from rich.text import Text

    from semigpt.cli.console import output_console

    console = output_console()
    lines = TextWrapper(console.width, break_long_words=False, break_on_hyphens=False)
    for choice in choices:
        lines.initial_indent, lines.subsequent_indent = "", "  "
        console.print(Text(lines.fill(f"{choice.what}: {choice.chosen}"), style="bold"))
        lines.initial_indent = "  "
        console.print(Text(lines.fill(choice.why)))
        # In one piece, to be copied: the terminal alone breaks it.
        console.print(Text(f"  {choice.force}", style="cyan"), soft_wrap=True)
    return 0
