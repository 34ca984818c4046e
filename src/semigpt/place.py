"""Where torchrun or Slurm put this process among those that train together."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from semigpt.errors import SettingsError
from semigpt.language import _

__all__ = ["Place", "place_of"]


@dataclass(frozen=True)
class Place:
    """Where a launcher put this process."""

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    port: int
    attempt: int = 0  # times that all were started again before
    hosted: bool = False  # the launcher keeps the store

    @property
    def machine(self) -> int:
        """Processes of each machine, as this one sees it, where their sum is a branch of the tree;
        else all.
        """
        local = self.local_size
        fits = local > 1 and self.size % local == 0 and local & (local - 1) == 0
        return local if fits and self.rank % local == self.local_rank else self.size


def place_of(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Where torchrun's or Slurm's variables put this process; None for one that was not launched.

    Raises SettingsError for variables that are no place.
    """
    try:
        if environment.get("WORLD_SIZE", "1") != "1" and "RANK" in environment:
            return Place(
                rank=int(environment["RANK"]),
                size=int(environment["WORLD_SIZE"]),
                local_rank=int(environment.get("LOCAL_RANK", 0)),
                local_size=int(environment.get("LOCAL_WORLD_SIZE", 1)),
                address=environment["MASTER_ADDR"],
                port=int(environment["MASTER_PORT"]),
                attempt=int(environment.get("TORCHELASTIC_RESTART_COUNT", 0)),
                hosted=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            )
        # Those of a step, that is of srun: a batch script itself is one process.
        if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environment:
            tasks = environment["SLURM_STEP_TASKS_PER_NODE"]
            return Place(
                rank=int(environment["SLURM_PROCID"]),
                size=int(environment["SLURM_STEP_NUM_TASKS"]),
                local_rank=int(environment["SLURM_LOCALID"]),
                local_size=int(tasks.split("(")[0].split(",")[0]),
                address=_first_host(environment["SLURM_STEP_NODELIST"]),
                port=20_000 + int(environment["SLURM_JOB_ID"]) % 20_000,
            )
    except (KeyError, ValueError) as error:
        raise SettingsError(
            _(
                "the launcher's variables do not say where this process stands ({error}): start it "
                "with semigpt train --processes N, torchrun or srun"
            ).format(error=error)
        ) from None
    return None


def _first_host(hosts: str) -> str:
    """The first of Slurm's `node[03-05,9],other`."""
    found = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\])?([^,]*)", hosts)
    if found is None:
        raise ValueError(f"SLURM_STEP_NODELIST={hosts}")
    return f"{found[1]}{found[2] or ''}{found[3]}"
