"""Sums in memory that processes share: the bits of the tree."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from semigpt.adding import SharedMemory, SharedSum, TreeSum


@pytest.mark.parametrize(("size", "length"), [(2, 10), (3, 7), (4, 2)])
def test_every_process_gets_the_bits_of_the_tree(size: int, length: int) -> None:
    like, meeting = torch.zeros(length), threading.Barrier(size, timeout=20)
    memory = SharedMemory(2 * size * like.nbytes)
    name = memory.create()
    if not name:
        pytest.skip("no such memory here")
    generator = torch.Generator().manual_seed(size)
    rounds = [torch.randn(size, length, generator=generator) for _ in range(5)]
    opened = [SharedMemory(memory.size) for _ in range(size)]
    for other in opened:
        other.open(name)
    sums = [SharedSum(rank, size, like, own) for rank, own in enumerate(opened)]
    for own in (memory, *opened):
        own.close()

    def process(rank: int) -> list[torch.Tensor]:
        return [sums[rank].add(values[rank].clone(), meeting.wait) for values in rounds]

    with ThreadPoolExecutor(size) as pool:
        found = list(pool.map(process, range(size)))
    for number, values in enumerate(rounds):
        tree = TreeSum()
        for own in values.clone():
            tree.add(own)
        expected = tree.total()
        assert all(torch.equal(of_rank[number], expected) for of_rank in found)
    assert sums[0].fits(like)
    assert not sums[0].fits(torch.zeros(length + 1))
    assert not sums[0].fits(like.double())


def test_memory_that_is_another_is_not_opened() -> None:
    memory, other = SharedMemory(1 << 12), SharedMemory(1 << 12)
    name = memory.create()
    if not name:
        pytest.skip("no such memory here")
    for wrong in ("", "0" * 32 + name[32:], name[:33] + "/proc/0/fd/0"):
        other.open(wrong)
        assert other.file is None
    memory.close()
    assert not SharedMemory(SharedMemory.LARGEST + 1).create()
    none = SharedMemory(-1)
    assert not none.create()
    assert none.file is None
