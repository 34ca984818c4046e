"""The bundled corpus, `news`: Korean newspaper articles written by a grammar of our own.

Every fact, name and number is invented. What makes this corpus worth learning from is that its entropy is known: the
grammar is unambiguous (see `grammar`), so each article carries exactly -log2 of its probability in bits, and no model
can on average do better than that.

Article `i` of a split depends on the seed, the split and `i` alone, so that asking for more articles only adds to
those that were there. Nothing but the standard library is needed.
"""

import calendar
import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from semigpt.errors import CorpusError

if TYPE_CHECKING:
    from semigpt.corpus.newsroom.grammar import Derivation, Frame, Grammar, Written

__all__ = [
    "BOOK_ARTICLES",
    "COLUMNS",
    "DEFAULT_ARTICLES",
    "SPLITS",
    "Article",
    "articles_in",
    "fingerprint",
    "frame_count",
    "information",
    "parse",
    "rows",
    "text_of",
]

COLUMNS = ("date", "category", "press", "title", "document", "link", "summary")
SPLITS = ("train", "validation", "test")

BOOK_ARTICLES = 22_194
"""Training articles of naver-news-summarization-ko, the book's dataset."""
_BOOK_SPLITS = {"train": BOOK_ARTICLES, "validation": 2_466, "test": 2_740}

DEFAULT_ARTICLES = 2_050
"""Training articles that come to about 2 MB of UTF-8."""


class Article(NamedTuple):
    """One row of the corpus. `information` is that of `document`, in bits."""

    date: str
    category: str
    press: str
    title: str
    document: str
    link: str
    summary: str
    information: float

    def row(self) -> dict[str, str]:
        """The columns of the book's dataset."""
        return dict(zip(COLUMNS, self[:7], strict=True))


def articles_in(split: str, articles: int = DEFAULT_ARTICLES) -> int:
    """How many articles a split has when the training split has `articles`, in the proportions of the book's dataset.

    Raises `CorpusError` for a split that is not in `SPLITS` and for fewer than one article.
    """
    if split not in _BOOK_SPLITS:
        raise CorpusError(
            f"the bundled news has no split {split!r}: choose one of {', '.join(SPLITS)}"
        )
    if articles < 1:
        raise CorpusError(f"the bundled news cannot have {articles} articles: ask for 1 or more")
    return max(1, round(articles * _BOOK_SPLITS[split] / BOOK_ARTICLES))


def rows(
    split: str, *, articles: int = DEFAULT_ARTICLES, seed: int = 0, first: int = 0
) -> Iterator[Article]:
    """The articles of a split, in order, from number `first` on. Raises `CorpusError` as `articles_in` does."""
    from semigpt.corpus.newsroom.newsdesk import grammar

    count = articles_in(split, articles)
    news = grammar()
    return (_article(news, split, index, seed) for index in range(first, count))


def parse(document: str) -> "Derivation":
    """The one derivation of a document: each choice made in writing it, and the facts in it.

    Raises `CorpusError` when the document is not one that the grammar writes.
    """
    from semigpt.corpus.newsroom.newsdesk import grammar

    found = list(grammar().derivations(document))
    if not found:
        start = document[:30].replace("\n", " ")
        raise CorpusError(
            f"not an article of the bundled news: {start!r}…; only whole documents of `news` have a known entropy"
        )
    if len(found) > 1:
        raise CorpusError(
            f"the grammar of the bundled news writes {document[:30]!r}… in {len(found)} ways: please report it"
        )
    return found[0]


def information(document: str) -> float:
    """The information of a document in bits: -log2 of the probability with which the grammar writes it.

    Raises `CorpusError` as `parse` does.
    """
    return parse(document).information


def text_of(derivation: "Derivation") -> str:
    """The document that a derivation writes."""
    from semigpt.corpus.newsroom.newsdesk import grammar

    choices = iter(derivation.choices)
    return grammar().write(lambda what, options: next(choices).choice).document


def frame_count() -> int:
    """How many different sentence frames the documents are made of (headlines not counted)."""
    from semigpt.corpus.newsroom import newsdesk

    return newsdesk.frame_count()


def fingerprint() -> str:
    """A hash of the grammar, so that a cache of its texts notices a change."""
    from semigpt.corpus.newsroom import newsdesk

    return newsdesk.fingerprint()


def _article(news: "Grammar", split: str, index: int, seed: int) -> Article:
    # A string seed goes through SHA-512, so neighbouring articles and seeds have nothing in common.
    draw = random.Random(f"semigpt news {seed} {split} {index}")
    odds = 1

    def choose(what: str, options: int) -> int:
        nonlocal odds
        odds *= options
        return draw.randrange(options)

    written = news.write(choose)
    bits = math.log2(odds)

    # All that follows is outside the document, so it does not count in its information.
    from semigpt.corpus.newsroom.names import PRESS

    return Article(
        date=_date(written, draw),
        category=written.section.name,
        press=draw.choice(PRESS),
        title=_from_known_facts(news, written, written.story.headlines, draw),
        document=written.document,
        link=f"https://news.example.com/{split}/{seed}/{index:06}",
        summary=_summary(news, written, draw),
        information=bits,
    )


def _date(written: "Written", draw: random.Random) -> str:
    year = draw.randint(2020, 2024)
    months = written.story.months
    month = written.facts["month"].number if "month" in written.facts else draw.choice(months)
    latest = calendar.monthrange(year, month)[1]
    day = (
        written.facts["day"].number if "day" in written.facts else draw.randint(11, min(20, latest))
    )
    return f"{year}-{month:02}-{day:02} {draw.randint(5, 22):02}:{draw.randint(0, 59):02}:00"


def _from_known_facts(
    news: "Grammar", written: "Written", frames: "tuple[Frame, ...]", draw: random.Random
) -> str:
    """One of `frames`, written with the facts of the article; only frames that need no others are candidates."""
    known = [frame for frame in frames if frame.mentions <= written.facts.keys()]
    return news.fill(
        draw.choice(known), dict(written.facts), lambda what, options: draw.randrange(options)
    )


def _summary(news: "Grammar", written: "Written", draw: random.Random) -> str:
    """The lead told again, in another frame where the facts allow it, and the sentence after it."""
    return " ".join(
        _from_known_facts(
            news, written, next(p.frames for p in written.story.plan if frame in p.frames), draw
        )
        for frame in written.frames[:2]
    )
