"""Several sources as one corpus, in the order they are given; each keeps or gets splits of its own.

A stream of the whole is called `NUMBER:NAME`, after the source and its own stream.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from semigpt.corpus.broken_text import EncodingRepairs
from semigpt.corpus.reading import Document, Reading

__all__ = ["JoinedReading"]


class JoinedReading(Reading):
    """Readings one after the other. Its own fields sum up theirs after each stream."""

    def __init__(self, parts: Sequence[Reading]) -> None:
        super().__init__()
        self.parts = list(parts)
        self.is_hub = any(part.is_hub for part in parts)
        self.revision = ",".join(part.revision for part in parts if part.revision) or None
        for number, part in enumerate(parts):
            part.texts = self.texts  # one novel in two sources is read once
            for name in part.splits:
                self.splits[f"{number}:{name}"] = partial(self._stream, number, name)
                if name in part.file_sizes:
                    stream = f"{number}:{name}"
                    self.files[stream] = part.files[name]
                    self.file_sizes[stream] = part.file_sizes[name]
                    self.cut_at[stream] = part.cut_at[name]
        self._sum_up()

    def _stream(self, number: int, name: str) -> Iterator[Document]:
        part = self.parts[number]
        for document in part.splits[name]():
            self.running = part.running
            yield document
        self._sum_up()

    def _sum_up(self) -> None:
        self.notes, self.tallies, self.encodings = [], {}, {}
        for part in self.parts:
            self.notes += [note for note in part.notes if note not in self.notes]
            for what, (count, name) in part.tallies.items():
                self.tallies.setdefault(what, [0, name])[0] += count
            for encoding, count in part.encodings.items():
                self.encodings[encoding] = self.encodings.get(encoding, 0) + count
        self.unsaid = sum(part.unsaid for part in self.parts)
        columns = {part.column: None for part in self.parts if part.column}
        self.column = ", ".join(columns) or None

    def repair_with(self, repairs: EncodingRepairs) -> None:
        for part in self.parts:
            part.repair_with(repairs)

    def of(self, stream: str) -> Reading:
        return self.parts[int(stream.partition(":")[0])]

    def absorb(self, stream: str, state: Mapping[str, Any]) -> None:
        self.of(stream).absorb(stream, state)
        self._sum_up()

    def state(self) -> dict[str, Any]:
        return {"parts": [part.state() for part in self.parts]}

    def resume(self, state: Mapping[str, Any]) -> None:
        for part, own in zip(self.parts, state["parts"], strict=True):
            part.resume(own)
        self.texts = list({digest: None for part in self.parts for digest in part.texts})
        for part in self.parts:
            part.texts = self.texts

    def fraction(self, streams: Sequence[str], stream: str) -> float | None:
        if not all(name in self.file_sizes for name in streams):
            return None
        number, _, name = stream.partition(":")
        current = self.parts[int(number)].fraction([name], name) or 0.0
        sizes = [sum(self.file_sizes[name]) for name in streams]
        place = list(streams).index(stream)
        return (sum(sizes[:place]) + current * sizes[place]) / max(sum(sizes), 1)
