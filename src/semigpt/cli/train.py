"""semigpt train"""

from __future__ import annotations

import argparse
import contextlib
import gc
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.cli.flags import Commands, add_command
from semigpt.cli.opened import opened, telling
from semigpt.cli.output import EXIT_BAD_INPUT, RUNS, note, stopping, write_json
from semigpt.cli.processes import LOST, launch, own_process
from semigpt.cli.train_flags import HELP, Further, add_flags
from semigpt.errors import LostProcessError, SemigptError, SettingsError
from semigpt.language import _
from semigpt.settings import parse_value, read_toml
from semigpt.system import ending_signals, handled

if TYPE_CHECKING:
    from semigpt.config import Recipe
    from semigpt.parallel import Processes
    from semigpt.training.settings import More


def add(commands: Commands) -> None:
    add_flags(add_command(commands, "train", run, _("train a model on a text"), _(HELP)))


def run(options: argparse.Namespace) -> int:
    asked: int | None = options.processes
    if asked is not None and asked < 1:
        raise SettingsError(_("--processes must be at least 1, not {asked}").format(asked=asked))
    own = own_process(asked, sharded=options.shard)
    if own is None and options.shard and asked == 1:
        raise shards_alone()
    if own is not None and own.rank:
        return follow(own)
    with opened(options.open) as page:
        if own is None and (asked or 1) > 1:
            device = asked_device(options)
            return page.stay(launch(asked or 1, options.arguments, device=device))
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
    import_uncollected()
    from semigpt.cli.gpus import gpu_processes
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
        tables, folder = recipe_tables(options), options.out
        share_out(tables, own, folder)
        recipe = Recipe.from_tables(tables, str(options.config or _("the command line")))
    if own is not None and own.begun is not None:  # all were started again: the leg has begun
        folder, more = Path(own.begun), None
        if RunFolder.open(folder).complete:  # a process died after the end
            return 0
    if options.refresh:
        from semigpt.corpus.staging import prepare_corpus

        data = recipe.data
        prepare_corpus(data.spec, column=data.column, split=data.split, refresh=True)
    if options.explain:
        return explain(recipe, as_json=options.json)
    if own is None and options.processes is None:
        fixed = "gradient_accumulation" in tables.get("training", {})
        if (processes := gpu_processes(recipe, fixed=fixed, sharded=options.shard)) > 1:
            return launch(processes, options.arguments)
        if options.shard:
            raise shards_alone()
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


def import_uncollected() -> None:
    """Import what a run needs, with no search for garbage in objects that all stay: 0.2 of 1.8 s,
    and 0.1 of each search that follows.
    """
    if "semigpt.recipe" in sys.modules:
        return
    gc.disable()
    try:
        import semigpt.cli.terminal
        import semigpt.recipe  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def shards_alone() -> SettingsError:
    return SettingsError(_("--shard cuts a model among processes: add --processes N"))


def asked_device(options: argparse.Namespace) -> str:
    """The device that flags or config name; `auto` where none does."""
    without_text = argparse.Namespace(**{**vars(options), "data": None})
    machine = recipe_tables(without_text).get("machine", {})
    return str(machine.get("device", "auto")) if isinstance(machine, dict) else "auto"


def share_out(
    tables: dict[str, dict[str, Any]], own: Processes | None, folder: Path | None
) -> None:
    """Settle in the tables what the processes decide that begin a run: its micro-batches, and an
    equal part of the machine's threads each. A run in `folder` has begun, with what it says.
    """
    import torch

    from semigpt.cli.gpus import lanes_of
    from semigpt.config import Recipe
    from semigpt.run_folder import RunFolder

    decided: dict[tuple[str, str], Any] = {}
    if folder is not None and (folder / "config.toml").is_file():
        begun = RunFolder.open(folder).config()
        for table, key in (("training", "gradient_accumulation"), ("machine", "threads")):
            settings = begun.get(table)
            if isinstance(settings, dict) and key in settings:
                decided[table, key] = settings[key]
    elif own is not None:
        lanes = lanes_of(Recipe.from_tables(tables, _("the command line")), own.size)
        decided["training", "gradient_accumulation"] = lanes
        if not torch.cuda.is_available():
            threads = max(1, torch.get_num_threads() // own.place.local_size)
            decided["machine", "threads"] = threads
    for (table, key), value in decided.items():
        tables.setdefault(table, {}).setdefault(key, value)


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
