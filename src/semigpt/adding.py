"""Sums in one order, a tree of neighbours, whoever adds: of one process's tensors, and of those of
the processes of a machine.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING

from semigpt.system import memory_file

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SharedMemory", "SharedSum", "TreeSum"]


class TreeSum:
    """The sum of tensors of one shape as a tree of neighbours. It keeps what it is given."""

    def __init__(self) -> None:
        self._partial: list[tuple[int, Tensor]] = []  # (summands, their sum), the most first

    def add(self, value: Tensor) -> None:
        count = 1
        while self._partial and self._partial[-1][0] == count:
            _, left = self._partial.pop()
            value, count = left.add_(value), 2 * count
        self._partial.append((count, value))

    def total(self) -> Tensor:
        """The sum of all that was added, at least one tensor; in the place of the first."""
        _, total = self._partial.pop()
        while self._partial:
            total = self._partial.pop()[1].add_(total)
        return total


class SharedMemory:
    """Memory of so many bytes that one process creates and others open, as long as it has it open.

    No file has its name, so nothing is left of it where all are killed.
    """

    LARGEST = 1 << 28  # bytes: more is left to those who ask how much memory there is

    def __init__(self, size: int) -> None:
        self.size = size
        self.file: int | None = None

    def create(self) -> str:
        """Its name for the others, which begins with a word that it holds; "" where this system has
        no such memory, or not so much.
        """
        self.file = memory_file(self.size) if self.size <= self.LARGEST else None
        if self.file is None:
            return ""
        word = secrets.token_bytes(16)
        os.write(self.file, word)
        return f"{word.hex()} /proc/{os.getpid()}/fd/{self.file}"

    def open(self, name: str) -> None:
        """Open what another process created; `file` stays None where that cannot be."""
        if self.file is not None or not name:
            return
        word, _space, path = name.partition(" ")
        with contextlib.suppress(OSError):
            self.file = os.open(path, os.O_RDWR)
            if os.read(self.file, 16).hex() != word:  # another system's process of that number
                self.close()

    def mapped(self) -> mmap.mmap:
        """The bytes, which stay when it is closed."""
        assert self.file is not None
        return mmap.mmap(self.file, self.size)

    def close(self) -> None:
        if self.file is not None:
            os.close(self.file)
        self.file = None


class SharedSum:
    """Sums of tensors of one length and type, in memory that the processes of a machine share.

    Each process adds a part of the numbers. Two places take turns: nobody begins a sum before all
    have left the one before the last.
    """

    def __init__(self, rank: int, size: int, like: Tensor, memory: SharedMemory) -> None:
        """memory: open, of twice `size` tensors like this one"""
        import torch

        places = torch.frombuffer(memory.mapped(), dtype=like.dtype)
        self._places = places.view(2, size, len(like))
        part = -(-len(like) // size)
        self._rank, self._own, self._turn = rank, slice(rank * part, (rank + 1) * part), 0

    def fits(self, values: Tensor) -> bool:
        return values.shape == self._places.shape[2:] and values.dtype == self._places.dtype

    def holds(self, values: Tensor) -> bool:
        return values.device.type == "cpu" and values.nbytes <= self._places[0, 0].nbytes

    def gather(self, values: Tensor, wait: Callable[[], object]) -> Tensor:
        """Every process's `values` `[P]`, as `[size, P]`, until the sum after the next."""
        rows = self._next().view(values.dtype)[:, : len(values)]
        rows[self._rank] = values
        wait()
        return rows

    def _next(self) -> Tensor:
        place, self._turn = self._places[self._turn], 1 - self._turn
        return place

    def add(self, values: Tensor, wait: Callable[[], object]) -> Tensor:
        """The sum of every process's `values`, in their place; `wait` returns when all have called
        it.
        """
        place = self._next()
        place[self._rank] = values
        wait()
        tree = TreeSum()
        for own in place[:, self._own]:
            tree.add(own)
        tree.total()
        wait()
        return values.copy_(place[0])
