"""semigpt torture"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from semigpt.cli.flags import Commands, add_command, add_json_flag
from semigpt.cli.output import note, write_json
from semigpt.language import N_, _

if TYPE_CHECKING:
    from semigpt.studies.crash_test import Trial

HELP = N_(
    """\
Small models are trained on the bundled corpus, killed by SIGKILL at random
moments, some while a checkpoint is being written, resumed and killed again. In
the end weights, optimizer and logs must be, byte for byte, those
of a run that was left alone. Exit code 1 where they are not.
"""
)


def add(commands: Commands) -> None:
    sub = add_command(
        commands,
        "torture",
        run,
        _("kill small trainings, resume them, and compare every byte"),
        _(HELP),
    )
    sub.add_argument(
        "--kills", type=int, default=10, metavar="N", help=_("kills per rung (default: 10)")
    )
    sub.add_argument(
        "--model",
        action="append",
        metavar="RUNG",
        help=_("a rung; may be given again (default: every rung)"),
    )
    sub.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help=_("kill one of up to N processes, a power of two (default: 1)"),
    )
    sub.add_argument(
        "--shard",
        action="store_true",
        help=_("half the times, cut the model among the processes (with --processes)"),
    )
    sub.add_argument(
        "--seed", type=int, default=0, help=_("of the moments of the kills (default: 0)")
    )
    add_json_flag(sub)


def run(options: argparse.Namespace) -> int:
    from semigpt.studies.crash_test import crash_test

    trials: list[Trial] = []
    names = ("kills", "seed", "processes", "shard")
    asked = {name: getattr(options, name) for name in names}
    for trial in crash_test(options.model, **asked):
        trials.append(trial)
        outcome = _("the same bits")
        if trial.differences:
            outcome = _("DIFFERENT: {files}").format(files=", ".join(trial.differences))
        note(
            _(
                "{rung}, gradient accumulation {gradient_accumulation}: {kills} kills, {outcome}"
            ).format(
                rung=trial.rung,
                gradient_accumulation=trial.gradient_accumulation,
                kills=trial.kills,
                outcome=outcome,
            )
        )
    if options.json:
        kills = sum(trial.kills for trial in trials)
        write_json({"kills": kills, "trials": [trial.as_dict() for trial in trials]})
    else:
        print_trials(trials)
    return int(any(trial.differences for trial in trials))


def print_trials(trials: Sequence[Trial]) -> None:
    """The table a person reads, on standard output."""
    from rich.table import Table

    from semigpt.cli.console import output_console

    kills = sum(trial.kills for trial in trials)
    table = Table(title=_("{kills} kills by SIGKILL").format(kills=kills), title_justify="left")
    table.add_column(_("rung"), no_wrap=True)
    for name in (
        _("micro-batches"),
        _("kills"),
        _("in a save"),
        _("before any"),
        _("runs"),
        _("seconds"),
        _("bytes"),
    ):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(_("differences"), min_width=11)
    for trial in trials:
        table.add_row(
            trial.rung,
            str(trial.gradient_accumulation),
            str(trial.kills),
            str(trial.while_saving),
            str(trial.before_first),
            str(trial.runs),
            f"{trial.seconds:.0f}",
            f"{trial.compared_bytes:,}",
            ", ".join(trial.differences) or _("none"),
        )
    output_console(width=max(output_console().width, 110)).print(table)
