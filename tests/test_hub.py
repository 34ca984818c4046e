"""`hf:ORG/NAME` against a Hub of our own on loopback. No test here touches the network.

huggingface_hub reads HF_ENDPOINT once, when it is imported: a load is a process of its own.
"""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hub_stand_in import HubStandIn, commit_of

NAME = "semi/news-summarization-ko"
COLUMNS = ("date", "category", "press", "title", "document", "link", "summary")

LOAD = """
import json, sys
from pathlib import Path
from semigpt.corpus import prepare_corpus
from semigpt.errors import CorpusError
for spec in sys.argv[2:]:
    try:
        corpus = prepare_corpus(spec, cache=Path(sys.argv[1]))
    except CorpusError as error:
        print(json.dumps({"error": str(error)}))
        continue
    splits = {split: list(corpus.documents(split)) for split in corpus.splits}
    print(json.dumps({"splits": splits, "column": corpus.column, "revision": corpus.revision}))
"""


def documents(split: str, how_many: int) -> list[str]:
    return [
        f"{split} 기사 {i}번: 시장은 오늘도 조용했다.\n내일은 비가 온다." for i in range(how_many)
    ]


def parquet(texts: list[str]) -> bytes:
    rows = {name: [f"{name} {i}" for i in range(len(texts))] for name in COLUMNS} | {
        "document": texts
    }
    buffer = io.BytesIO()
    pq.write_table(pa.table(rows), buffer)
    return buffer.getvalue()


def card(configs: dict[str, str]) -> bytes:
    lines = ["---", "configs:"]
    for name, folder in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in ("train", "validation", "test"):
            lines += [f"  - split: {split}", f"    path: {folder}/{split}-*.parquet"]
    return "\n".join([*lines, "---", "# 뉴스 요약"]).encode()


def files(folder: str, **counts: int) -> dict[str, bytes]:
    return {
        f"{folder}/{split}-00000-of-00001.parquet": parquet(documents(split, count))
        for split, count in counts.items()
    }


MAIN = {"README.md": card({"default": "data", "short": "short"})}
MAIN |= files("data", train=60, validation=5, test=7) | files(
    "short", train=30, validation=2, test=3
)
OLD = {"README.md": card({"default": "data"})} | files("data", train=20, validation=1, test=1)
SCRIPT = {"news-script.py": b"raise SystemExit('ran')", "data/train.csv": b"document\na\n"}


TAR = bytes(10_240)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubStandIn]:
    repositories = {
        NAME: {"main": MAIN, "v1": OLD},
        "semi/news-script": {"main": SCRIPT},
        "semi/archives": {"main": {"train-0.tar": TAR}},
    }
    with HubStandIn(repositories) as stand_in:
        yield stand_in


def load(endpoint: str, folder: Path, *specs: str) -> list[dict[str, Any]]:
    """What comes of each spec, in one process that is offered nothing but `endpoint`."""
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))
    }
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-c", LOAD, str(folder / "cache"), *specs]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert not done.stderr, "no bar, no warning, no log"
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_streams_the_default_configuration_with_its_own_splits(
    hub: HubStandIn, tmp_path: Path
) -> None:
    [found] = load(hub.endpoint, tmp_path, f"hf:{NAME}")
    expected = {"train": documents("train", 60), "validation": documents("validation", 5)}
    assert found["splits"] == expected | {"test": documents("test", 7)}
    assert found["column"] == "document"
    assert found["revision"] == commit_of(MAIN)
    assert not list((tmp_path / "hf").rglob("*.arrow")), "streamed, so no second copy of the data"

    before = len(hub.requests)
    assert load(hub.endpoint, tmp_path, f"hf:{NAME}") == [found]
    assert len(hub.requests) == before, "a staged corpus does not ask the Hub again"


def test_takes_configuration_revision_and_split_streamed_or_not(
    hub: HubStandIn, tmp_path: Path
) -> None:
    short, old = load(
        hub.endpoint,
        tmp_path,
        f"hf:{NAME}#config=short,streaming=no",
        f"hf:{NAME}#revision=v1,split=train",
    )
    assert short["splits"]["train"] == documents("train", 30)
    assert list((tmp_path / "hf").rglob("*.arrow")), "downloaded whole"
    # One split taken alone is split again; twenty documents may be too few to do so by document.
    parts = [old["splits"]["train"], old["splits"]["validation"], old["splits"]["test"]]
    everything = parts[0] + parts[1] + (parts[2] if parts[2] != parts[1] else [])
    assert sorted("".join(everything)) == sorted("".join(documents("train", 20)))
    assert old["revision"] == commit_of(OLD)


def test_no_network_is_one_line_within_seconds(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        start = time.monotonic()
        [found] = load(endpoint, tmp_path, f"hf:{NAME}")
    assert time.monotonic() - start < 60, "no retries: those take minutes"
    assert found["error"].startswith(f"hf:{NAME}: no connection to {endpoint} (")
    assert found["error"].endswith("name `news` or files of your own with --data")
    assert "\n" not in found["error"]
    assert not list((tmp_path / "cache" / "corpora").iterdir()), "nothing half written"


def test_what_the_hub_does_not_have_is_one_line(hub: HubStandIn, tmp_path: Path) -> None:
    messages = {
        "hf:semi/absent": "hf:semi/absent: not on http://127.0.0.1",
        f"hf:{NAME}#revision=v9": "at revision v9",
        f"hf:{NAME}#config=long": "'long' not found. Available: ['default', 'short']",
        f"hf:{NAME}#split=dev": "dev",
        "hf:semi/archives": "it holds webdataset files",
        "hf:semi/news-script": "news-script.py), not data: programs from the Hub are never run",
    }
    for (spec, message), found in zip(
        messages.items(), load(hub.endpoint, tmp_path, *messages), strict=True
    ):
        assert message in found["error"], spec
        assert found["error"].startswith(spec.partition("#")[0] + ": ")
        assert "\n" not in found["error"]
