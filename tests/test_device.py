"""Devices and number types."""

from __future__ import annotations

import pytest
import torch

from semigpt.device import MachineSettings, pick_device, pick_precision
from semigpt.errors import SettingsError


@pytest.mark.parametrize(
    ("cuda", "mps", "fastest"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, fastest: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto").type == fastest
    assert pick_device("cpu").type == "cpu"


def test_a_device_that_is_not_there_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(SettingsError, match="no cuda device on this machine; it has cpu: choose"):
        pick_device("cuda")
    with pytest.raises(SettingsError, match="device must be one of auto, cpu, cuda, mps"):
        pick_device("tpu")


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [
        ({"amx_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"avx512": True}, torch.float32),
    ],
)
def test_bfloat16_is_chosen_where_the_cpu_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], chosen: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr("semigpt.environment.platform.machine", lambda: "x86_64")
    cpu = torch.device("cpu")
    monkeypatch.setenv("SEMIGPT_CPU", "avx2")
    assert pick_precision(cpu, "auto") == torch.float32
    monkeypatch.delenv("SEMIGPT_CPU")
    assert pick_precision(cpu, "auto") == chosen
    assert pick_precision(cpu, "float32") == torch.float32
    assert pick_precision(cpu, "bfloat16") == torch.bfloat16
    with pytest.raises(SettingsError, match="precision must be one of auto, float32, bfloat16"):
        pick_precision(cpu, "float16")


@pytest.mark.parametrize("supported", [True, False])
def test_a_gpu_multiplies_bfloat16_if_it_can(
    monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: supported)
    chosen = pick_precision(torch.device("cuda"), "auto")
    assert chosen == (torch.bfloat16 if supported else torch.float32)
    assert pick_precision(torch.device("mps"), "auto") == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu"}, "device must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"threads": 0}, "threads must be more than 0, not 0"),
    ],
)
def test_machine_settings_that_cannot_work_are_refused(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        MachineSettings(**settings)
