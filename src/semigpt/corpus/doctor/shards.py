"""A split written to sharded Parquet files with one column, `text`."""

from pathlib import Path
from typing import Any

from semigpt.storage import fsync

__all__ = ["ShardWriter"]

ROW_GROUP_CHARACTERS = 1 << 20
SHARD_BYTES = 256 << 20  # of text, before compression


class ShardWriter:
    """Writes one split. The number of shards is in their names, so they get them at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder = folder
        self.split = split
        self.documents = 0
        self._paths: list[Path] = []
        self._writer: Any = None
        self._waiting: list[str] = []
        self._waiting_characters = 0
        self._shard_bytes = 0

    def add(self, text: str) -> None:
        """Write a document."""
        self._waiting.append(text)
        self._waiting_characters += len(text)
        self.documents += 1
        if self._waiting_characters >= ROW_GROUP_CHARACTERS:
            self._flush()

    def finish(self) -> int:
        """Write the rest and name the shards. Returns the number of documents."""
        self._flush()
        self._close()
        for number, path in enumerate(self._paths):
            name = f"{self.split}-{number:05d}-of-{len(self._paths):05d}.parquet"
            path.rename(self.folder / name)
        return self.documents

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._waiting:
            return
        table = pa.table({"text": pa.array(self._waiting, pa.string())})
        if self._writer is None:
            self._paths.append(self.folder / f"{self.split}-{len(self._paths)}.part")
            self._writer = pq.ParquetWriter(self._paths[-1], table.schema, compression="zstd")
        self._writer.write_table(table)
        self._shard_bytes += table.nbytes
        self._waiting.clear()
        self._waiting_characters = 0
        if self._shard_bytes >= SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            fsync(self._paths[-1])
            self._writer, self._shard_bytes = None, 0
