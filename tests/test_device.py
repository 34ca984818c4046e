"""How fast a machine multiplies."""

from __future__ import annotations

import pytest
import torch

from semigpt import device
from semigpt.device import MachineSettings, gigaflops


def test_products_are_timed_once_and_on_the_threads_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device._gigaflops.cache_clear()
    used = []
    multiply = torch.mm

    def noted(*arguments: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        used.append((torch.get_num_threads(), out.dtype))
        return multiply(*arguments, out=out)

    before = torch.get_num_threads()
    monkeypatch.setattr(torch, "mm", noted)
    asked = MachineSettings(threads=before + 1, precision="float32")
    pace = gigaflops(asked)
    assert pace > 0
    assert set(used) == {(before + 1, torch.float32)}
    assert torch.get_num_threads() == before
    calls = len(used)
    assert gigaflops(MachineSettings(threads=before + 1, precision="float32")) == pace
    assert len(used) == calls, "a second recipe does not wait again"
