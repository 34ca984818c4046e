"""What tests share: a cache of their own, and small models of every rung."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from semigpt.dataset import Dataset, TokenStream
from semigpt.device import MachineSettings
from semigpt.models import LADDER, build_model, model_class
from semigpt.models.base import LanguageModel
from semigpt.models.memory import MemoryGPT
from semigpt.ngrams.counts import Counts
from semigpt.system import available_cores
from semigpt.training.speed import Speed

if TYPE_CHECKING:
    from serving_stand import Stand

# What is asserted of messages is their English, whatever the locale of whoever runs the tests.
os.environ["LANGUAGE"] = "en"

# Models this small run no faster on two threads, and 20 x slower where something else holds a core.
torch.set_num_threads(1)

# Under nohup the processes that tests start would ignore what they are sent.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

VOCABULARY = 50
SMALL = {kind: model_class(kind).small for kind in LADDER}


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """The whole suite runs in two processes where pytest-xdist is there and `-n` does not say
    otherwise. Files that are named run in this one: a second would only import torch once more.
    """
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if hasattr(config, "workerinput"):  # one of the two: it makes none of its own
        return
    if whole and getattr(config.option, "numprocesses", 0) is None:
        config.option.numprocesses = min(2, available_cores())
        config.option.dist = "worksteal"


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is imported and collected stays: no search for garbage looks at it again, of which there
    are two in each training.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Nothing is read from or left in the cache of whoever runs the tests.

    Processes that share the suite share a cache, as those of a person do: C is compiled once.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "cache"
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEMIGPT_CACHE", str(folder))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_clock() -> Iterator[None]:
    """Every machine is as fast as every other: 130 GFLOP/s, as two cores with AVX2."""
    speed = Speed(per_step=0.0, per_work=1 / 130)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semigpt.preparation.measured_speed", lambda machine: speed)
        patch.setattr("semigpt.preparation.corrected", lambda *arguments: None)
        yield


@pytest.fixture(params=SMALL)
def rung(request: pytest.FixtureRequest) -> str:
    """Each rung of the ladder in turn."""
    return str(request.param)


def small_model(rung: str, **changes: object) -> LanguageModel:
    torch.manual_seed(0)
    model = build_model(rung, VOCABULARY, {**SMALL[rung], **changes})
    with torch.no_grad():  # a fresh bigram is all zeros; tests want logits that differ
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_()
    if isinstance(model, MemoryGPT):
        model.set_counts(Counts.fit(small_stream(), VOCABULARY, order=3))
    return model


@pytest.fixture
def model(rung: str) -> LanguageModel:
    """A small model of each rung."""
    return small_model(rung)


def machine(backend: str = "auto") -> MachineSettings:
    """The settings of a machine that runs training steps this way."""
    return MachineSettings(backend=backend)


def small_stream() -> np.ndarray[Any, Any]:
    """6,000 tokens, each of which follows from the one before, but for some noise."""
    draw = np.random.default_rng(0)
    noise = draw.integers(0, VOCABULARY, 6000)
    return np.where(draw.random(6000) < 0.2, noise, (np.arange(6000) * 7) % VOCABULARY).astype(
        np.uint16
    )


@pytest.fixture
def dataset() -> Dataset:
    """Two splits of a learnable stream: each token follows from the one before, but for noise."""
    stream = small_stream()
    streams = {
        "train": TokenStream([stream[:5000]], 1),
        "validation": TokenStream([stream[5000:]], 1),
    }
    return Dataset(streams, VOCABULARY, corpus_fingerprint="text", tokenizer_fingerprint="ids")


@pytest.fixture(scope="module")
def stand(korean_text: str) -> Iterator[Stand]:
    """A server in this process, without a key."""
    from serving_stand import Stand  # here: it needs semigpt[serve]

    stand = Stand(korean_text)
    yield stand
    stand.loop.stop()


@pytest.fixture(scope="module")
def locked(korean_text: str) -> Iterator[Stand]:
    """The same with the key `serving_stand.KEY`."""
    from serving_stand import KEY, Stand

    stand = Stand(korean_text, KEY)
    yield stand
    stand.loop.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for the tests of pages; skipped, with a reason, where there is none."""
    from browser import launched

    with launched() as browser:
        yield browser


@pytest.fixture(scope="session")
def korean_text() -> str:
    """A few sentences to encode, train on and continue."""
    return (
        "기상청은 24일 전국이 대체로 맑겠다고 밝혔다. "
        "아침 최저기온은 영하 3도에서 5도, 낮 최고기온은 8도에서 13도로 예보됐다.\n"
        "의사협회는 이날 서울에서 기자회견을 열고 “환자의 안전이 먼저”라고 말했다. "
        "정부는 다음 달까지 대책을 내놓기로 했다.\n"
        "한빛전자는 3분기 매출이 1조 2,300억 원으로 지난해보다 7.4% 늘었다고 공시했다.\n"
    )


@contextlib.contextmanager
def little_memory(megabytes: int) -> Iterator[None]:
    """At most so much address space beyond what the process has, for C that must find no memory."""
    if sys.platform != "linux":
        pytest.skip("RLIMIT_AS is Linux's")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (megabytes << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
