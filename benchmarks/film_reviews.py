"""Make the film reviews that the benchmarks read: the Naver sentiment movie corpus, film by film.

    git clone https://github.com/e9t/nsmc
    python benchmarks/film_reviews.py nsmc

The corpus is CC0 1.0. Its folder raw/ holds a file of reviews for each film. A document is a film:
its reviews, one a line. SHA-256 of the film's number decides its split, so no film is in two:
86 % train, 4 % validation, 5 % test, and 5 % that are left out.

The folder (default: film_reviews) is a data set of three Parquet files and a card, for
`semigpt train --data film_reviews`. Two SHA-256 are checked. That of the documents must be the one
below. That of the files is the one below where pyarrow is the version below; other versions write
other bytes for the same documents.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semigpt.errors import CorpusError, SemigptError

__all__ = ["SPLITS", "read_films", "split_of", "write_folder"]

Film = dict[str, Any]  # movie_id, reviews (how many), document

COMMIT = "cc0670e872d4ac27bfe36c87456783004b39ef6c"  # of github.com/e9t/nsmc
PYARROW = "26.0.1"
CARD_SHA256 = "e2ac621252ea2d957592bf66dc51f27815078782b1b6b55d9c4a1826adc4c13a"


@dataclass(frozen=True)
class Split:
    """What a split must hold."""

    films: int
    reviews: int
    characters: int
    documents_sha256: str
    file_sha256: str


SPLITS = {
    "train": Split(
        films=12_652,
        reviews=612_280,
        characters=22_280_063,
        documents_sha256="8c7e5c1d6631f5f7cf53a973a850369552f05a35ad3ee1f0365ac1724bb7a61a",
        file_sha256="542c2e18aeac6138eb6c238250ce74d134803bcc5718e7c335b33ceb51c20300",
    ),
    "validation": Split(
        films=584,
        reviews=27_399,
        characters=989_076,
        documents_sha256="ab68ffa3e00b3ace66fc70eb590ae2b535db18f0e2d705b63023d6f96a893890",
        file_sha256="8f7ecec49a21da4debea45a104ab243ea78ba3eed7fbca8b3fec4388fe78090a",
    ),
    "test": Split(
        films=747,
        reviews=36_503,
        characters=1_296_116,
        documents_sha256="0ebbe5716da387d10445bc6ee3517fb5b8f6ec73d1bd22d6c709564f1137a12c",
        file_sha256="6b2f3265d37b19d3148e1557f9d9c1a41f4b2310a99ab55ff14ee80caa828e74",
    ),
}

CARD = """\
---
license: cc0-1.0
language:
- ko
configs:
- config_name: default
  data_files:
  - split: train
    path: train-*.parquet
  - split: validation
    path: validation-*.parquet
  - split: test
    path: test-*.parquet
---
# Naver movie reviews, one document per film

From the Naver sentiment movie corpus (e9t/nsmc, CC0 1.0): every film's reviews joined by \
line breaks.
Columns: `movie_id` (string), `reviews` (int32, how many), `document` (string). Films are split \
by a hash of
`movie_id`.
"""


def split_of(movie_id: str) -> str | None:
    """The split of a film, by SHA-256 of its number; None for a film that is left out."""
    percent = int(hashlib.sha256(movie_id.encode()).hexdigest(), 16) % 100
    for split, end in (("train", 86), ("validation", 90), ("test", 95)):
        if percent < end:
            return split
    return None


def read_films(checkout: Path) -> dict[str, list[Film]]:
    """The films of each split, in the order of their numbers as text.

    Raises CorpusError where the checkout is not the corpus, or a file of it cannot be read.
    """
    files = sorted((checkout / "raw").glob("*.json"), key=lambda path: path.stem)
    if not files:
        raise CorpusError(
            f"no raw/*.json in {checkout}: it is no checkout of https://github.com/e9t/nsmc"
        )
    films: dict[str, list[Film]] = {split: [] for split in SPLITS}
    for path in files:
        split = split_of(path.stem)
        if split is None:
            continue
        try:
            reviews = [str(row["review"]) for row in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, LookupError, TypeError) as error:
            raise CorpusError(
                f"{path} does not hold a list of reviews ({error}); check out {COMMIT[:7]}"
            ) from None
        film = {"movie_id": path.stem, "reviews": len(reviews), "document": "\n".join(reviews)}
        films[split].append(film)
    return films


def documents_sha256(films: list[Film]) -> str:
    """SHA-256 of the films as lines of JSON."""
    digest = hashlib.sha256()
    for film in films:
        line = json.dumps(list(film.values()), ensure_ascii=False)
        digest.update(f"{line}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def check_documents(films: dict[str, list[Film]], checkout: Path) -> None:
    """Raise CorpusError with the first difference to what the benchmarks were measured on."""
    for split, expected in SPLITS.items():
        found = films[split]
        counts = {
            "films": (len(found), expected.films),
            "reviews": (sum(film["reviews"] for film in found), expected.reviews),
            "characters": (sum(len(film["document"]) for film in found), expected.characters),
        }
        differing = [
            f"{there:,} {what} ({wanted:,} expected)"
            for what, (there, wanted) in counts.items()
            if there != wanted
        ]
        if not differing and documents_sha256(found) != expected.documents_sha256:
            differing = ["other text in as many films, reviews and characters"]
        if differing:
            raise CorpusError(
                f"{checkout} is another version of the corpus{commit_of(checkout)}: its {split} "
                f"split has {', '.join(differing)}; check out {COMMIT[:7]}"
            )


def commit_of(checkout: Path) -> str:
    """The commit of the checkout in brackets; empty where git does not tell."""
    command = ["git", "-C", str(checkout), "rev-parse", "--show-prefix", "HEAD"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return "" if lines[0] else f" ({lines[1][:7]})"  # a prefix: the repository is someone else's


def write_folder(films: dict[str, list[Film]], folder: Path) -> list[str]:
    """Write the data set into a new folder; the files with other bytes than expected."""
    import pyarrow
    import pyarrow.parquet

    if folder.exists():
        raise CorpusError(f"{folder} exists already; remove it, or name another folder with --out")
    columns = {"movie_id": "string", "reviews": "int32", "document": "string"}
    schema = pyarrow.schema(list(columns.items()))
    hashes = {"README.md": CARD_SHA256}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".film-reviews-") as temporary:
        whole = Path(temporary) / "whole"
        whole.mkdir()
        (whole / "README.md").write_bytes(CARD.encode())
        for split, rows in films.items():
            name = f"{split}-00000-of-00001.parquet"
            table = pyarrow.Table.from_pylist(rows, schema=schema)
            pyarrow.parquet.write_table(
                table, whole / name, compression="zstd", compression_level=19
            )
            hashes[name] = SPLITS[split].file_sha256
        whole.rename(folder)
    return [
        name
        for name, expected in hashes.items()
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkout", type=Path, metavar="NSMC_CHECKOUT", help="of https://github.com/e9t/nsmc"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("film_reviews"),
        metavar="FOLDER",
        help="a new folder (default: film_reviews)",
    )
    options = parser.parse_args()
    try:
        films = read_films(options.checkout)
        check_documents(films, options.checkout)
        other = write_folder(films, options.out)
    except SemigptError as error:
        print(f"film_reviews.py: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for split, expected in SPLITS.items():
        print(f"{split:10} {expected.films:6,} documents {expected.characters:10,} characters")
    if other:
        import pyarrow

        print(
            f"the documents are the expected ones; {', '.join(other)} has other bytes: "
            f"pyarrow {pyarrow.__version__} wrote it, not {PYARROW}",
            file=sys.stderr,
        )
    print(f"{options.out}: use it as --data {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
