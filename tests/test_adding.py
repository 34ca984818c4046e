"""What processes share: sums with the bits of the tree, and the work of Muon."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn

from semigpt.adding import SharedMemory, SharedSum, TreeSum
from semigpt.parallel import ALONE, Group
from semigpt.training.muon import Muon


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
        found = []
        for values in rounds:
            found.append(sums[rank].add(values[rank].clone(), meeting.wait))
            rows = sums[rank].gather(values[rank, 1:], meeting.wait)
            assert torch.equal(rows, values[:, 1:])
        return found

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


class Replica(Group):
    """One of several in threads of this process."""

    def __init__(self, rank: int, size: int, rows: list[torch.Tensor], meeting: Any) -> None:
        super().__init__(size)
        self.rank, self._rows, self._meeting = rank, rows, meeting

    def gather(self, values: torch.Tensor) -> torch.Tensor:
        self._rows[self.rank] = values
        self._meeting.wait()
        return torch.stack(self._rows)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_replicas_share_what_muon_computes(size: int) -> None:
    """Each makes some matrices orthogonal, of a shape with few of them perhaps none."""
    generator = torch.Generator().manual_seed(0)
    stacks = [torch.randn(shape, generator=generator) for shape in ((4, 16, 48), (3, 32, 16))]
    meeting = threading.Barrier(size, timeout=20)
    rows = [torch.zeros(0)] * size

    def process(group: Group) -> list[torch.Tensor]:
        weights = [nn.Parameter(m.clone()) for stack in stacks for m in stack]
        muon = Muon(weights, momentum=0.9, weight_decay=0.1, replicas=group)
        for weight in weights:
            weight.grad = weight.detach().cos()
        muon.step(0.1)
        return weights

    alone = process(ALONE)
    with ThreadPoolExecutor(size) as pool:
        groups = [Replica(rank, size, rows, meeting) for rank in range(size)]
        for weights in pool.map(process, groups):
            assert all(map(torch.equal, weights, alone))
