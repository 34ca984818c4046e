"""`.npy` files as memory maps: exactly the array expected, in any thread."""

import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from semigpt.npy import array_bytes, map_array

UINT16 = np.dtype(np.uint16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(5, dtype=UINT16))
    return tmp_path / "a.npy"


@pytest.fixture
def threads_take_turns_at_each_collection() -> Iterator[None]:
    def give_way(*_: object) -> None:
        time.sleep(0)

    thresholds = gc.get_threshold()
    gc.set_threshold(20)
    gc.callbacks.append(give_way)
    yield
    gc.callbacks.remove(give_way)
    gc.set_threshold(*thresholds)


def test_what_numpy_wrote_comes_back(path: Path) -> None:
    assert map_array(path, 5, UINT16).tolist() == [0, 1, 2, 3, 4]
    assert path.stat().st_size == array_bytes(5, UINT16)
    np.save(path, np.zeros(0, UINT16))
    assert map_array(path, 0, UINT16).tolist() == []


@pytest.mark.parametrize("damage", ["length", "type", "short", "long", "shape", "empty"])
def test_any_other_file_is_refused(path: Path, damage: str) -> None:
    length, dtype, whole = 5, UINT16, path.read_bytes()
    if damage == "length":
        length = 4
    elif damage == "type":
        dtype = np.dtype(np.int16)
    elif damage == "shape":
        np.save(path, np.zeros((5, 1), UINT16))
    else:
        path.write_bytes({"short": whole[:-1], "long": whole + b"\0", "empty": b""}[damage])
    with pytest.raises(ValueError, match=rf"not an array of {length} numbers of type {dtype}"):
        map_array(path, length, dtype)


@pytest.mark.usefixtures("threads_take_turns_at_each_collection")
def test_threads_open_files_side_by_side(path: Path) -> None:
    """With `np.load`, every tenth call raises SystemError in Python 3.11."""
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda _: int(map_array(path, 5, UINT16).sum()), range(300)))
    assert sums == [10] * 300
