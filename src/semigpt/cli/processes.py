"""A command in several processes: started together, started again where one dies, one exit code."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from semigpt.cli.output import note
from semigpt.errors import SettingsError
from semigpt.language import _

if TYPE_CHECKING:
    from semigpt.parallel import Processes

__all__ = ["LOST", "launch", "own_process", "told_launcher"]

OUTCOME = "SEMIGPT_OUTCOME"  # the file in which the first process leaves the command's exit code
RESTARTS = 20
LOST = 1  # the exit code of a process that is to be started again


def launch(processes: int, arguments: list[str], *, device: str = "auto") -> int:
    """Run `semigpt` with these arguments in several processes of this machine; its exit code.

    torch.distributed's launcher starts all of them again where one dies. Those of a CPU do not see
    the machine's GPUs. Raises SettingsError for more processes than GPUs.
    """
    from semigpt.cli.gpus import check_gpus

    check_gpus(processes, device)
    variables = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the run tells
    with tempfile.TemporaryDirectory(prefix="semigpt-") as place:
        outcome = Path(place) / "outcome"
        variables[OUTCOME] = str(outcome)
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id="semigpt",
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            max_restarts=RESTARTS,
            monitor_interval=0.1,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "semigpt", *arguments)
        except SignalException as stopped:
            return 128 + int(stopped.sigval)
        except ChildFailedError:
            note(
                _("a process died {restarts} times; what was saved is whole").format(
                    restarts=RESTARTS + 1
                )
            )
            return LOST
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                os.environ.update({} if value is None else {name: value})
        return int(outcome.read_text())


def own_process(asked: int | None, *, sharded: bool | None = None) -> Processes | None:
    """This process among those that a launcher started; None where none did.

    Raises SettingsError where the command asks for another number of them.
    """
    from semigpt.parallel import Processes
    from semigpt.place import place_of

    place = place_of()
    if place is None:
        return None
    if asked not in (None, place.size):
        raise SettingsError(
            _(
                "--processes {asked} and the launcher's {size} processes: leave one of them out"
            ).format(asked=asked, size=place.size)
        )
    if place.attempt and not place.rank:
        note(_("a process was lost, and all are started again"))
    return Processes(place, sharded=sharded)


def told_launcher(code: int) -> int:
    """The exit code of this process, where `launch` started it: not 0 only for one that is to be
    started again. The first process leaves the command's own code for the launcher.
    """
    outcome = os.environ.get(OUTCOME)
    if outcome is None or code == LOST:
        return code
    if os.environ.get("RANK") == "0":
        Path(outcome).write_text(str(code))
    return 0
