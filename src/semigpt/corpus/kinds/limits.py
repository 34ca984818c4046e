"""How much a file may unpack to: what protects memory and disk from a file made to fill them."""

from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = [
    "ARCHIVE_DEPTH",
    "MEMBERS",
    "PART_BYTES",
    "Budget",
    "check_size",
]

UNPACKED_BYTES = 256 << 20  # any file may unpack to so much
RATIO = 200  # and a larger one to so many times its size; text by gzip is 3 to 20
MEMBERS = 100_000  # of an archive
ARCHIVE_DEPTH = 2  # an archive in an archive is read, one in that is not
PART_BYTES = 128 << 20  # of what is read in one piece, as an XML part, a page or a JSON file is


class Budget:
    """The bytes that a file may still unpack to.

    where:  what an error calls the file
    packed: its size in bytes
    """

    def __init__(self, where: str, packed: int) -> None:
        self.where = where
        self.left = max(UNPACKED_BYTES, RATIO * packed)

    def spend(self, count: int) -> None:
        """Count bytes that were unpacked. Raises CorpusError where they are too many."""
        self.left -= count
        if self.left < 0:
            raise CorpusError(
                _(
                    "{where}: unpacks to more than {ratio} times its size, as a file made to "
                    "fill the disk does: if it is none, unpack it yourself and give what was in it"
                ).format(where=self.where, ratio=RATIO)
            )


def check_size(where: str, size: int, advice: str) -> None:
    """Raise CorpusError where `size` bytes are more than are read in one piece."""
    if size > PART_BYTES:
        raise CorpusError(
            _("{where}: more than {part_bytes} MiB, and it is read in one piece: {advice}").format(
                where=where, part_bytes=PART_BYTES >> 20, advice=advice
            )
        )
