"""The bundled corpus, `news`: synthetic practice news in Korean, by a grammar of our own.

Every fact, name and number is invented. The entropy of the corpus is known: the grammar is
unambiguous (see `grammar`), so each article carries exactly -log2 of its probability in bits, and
no model can do better than that on average.

Article `i` of a split depends on the seed, the split and `i` alone, so a larger corpus only adds
articles to a smaller one. The stories and word lists are in `data/*.toml`, which are read at the
first use. Only the standard library is needed.
"""

import calendar
import math
import random
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from semigpt.errors import CorpusError
from semigpt.language import _

if TYPE_CHECKING:
    from semigpt.corpus.news.derivations import Derivation
    from semigpt.corpus.news.frames import Frame
    from semigpt.corpus.news.grammar import Grammar, Written
    from semigpt.corpus.news.load import News

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
    """How many articles a split has if the training split has `articles`.

    The splits have the proportions of the book's dataset. Raises `CorpusError` for a split that is
    not in `SPLITS` and for fewer than one article.
    """
    if split not in _BOOK_SPLITS:
        choices = ", ".join(SPLITS)
        raise CorpusError(
            _("the bundled news has no split {split!r}: choose one of {choices}").format(
                split=split, choices=choices
            )
        )
    if articles < 1:
        raise CorpusError(
            _("the bundled news cannot have {articles} articles: ask for 1 or more").format(
                articles=articles
            )
        )
    return max(1, round(articles * _BOOK_SPLITS[split] / BOOK_ARTICLES))


def rows(
    split: str, *, articles: int = DEFAULT_ARTICLES, seed: int = 0, first: int = 0
) -> Iterator[Article]:
    """The articles of a split, in order, from number `first` on.

    Raises `CorpusError` as `articles_in` does.
    """
    from semigpt.corpus.news.load import bundled

    count = articles_in(split, articles)
    news = bundled()
    return (_article(news, split, index, seed) for index in range(first, count))


def parse(document: str) -> "Derivation":
    """The one derivation of a document: each choice made in writing it, and the facts in it.

    Raises `CorpusError` if the grammar does not write the document.
    """
    from semigpt.corpus.news.derivations import derivations

    found = list(derivations(_grammar(), document))
    if not found:
        start = document[:30].replace("\n", " ")
        raise CorpusError(
            f"not an article of the bundled news: {start!r}…; "
            "only whole documents of `news` have a known entropy"
        )
    if len(found) > 1:
        raise CorpusError(
            f"the grammar of the bundled news writes {document[:30]!r}… in {len(found)} ways: "
            "please report it"
        )
    return found[0]


def information(document: str) -> float:
    """The information of a document in bits: -log2 of the probability that the grammar writes it.

    Raises `CorpusError` as `parse` does.
    """
    return parse(document).information


def text_of(derivation: "Derivation") -> str:
    """The document that a derivation writes."""
    choices = iter(derivation.choices)
    return _grammar().write(lambda what, options: next(choices).choice).document


def frame_count() -> int:
    """How many different sentence frames the documents are made of (headlines not counted)."""
    positions = _grammar().positions()
    return len({frame.template for position in positions for frame in position.frames})


@cache
def fingerprint() -> str:
    """A hash of the grammar, so that a cache of its texts notices a change."""
    return _grammar().fingerprint()


def _grammar() -> "Grammar":
    from semigpt.corpus.news.load import bundled

    return bundled().grammar


def _article(news: "News", split: str, index: int, seed: int) -> Article:
    # A string seed goes through SHA-512, so neighbouring articles and seeds are unrelated.
    draw = random.Random(f"semigpt news {seed} {split} {index}")
    outcomes = 1

    def choose(what: str, options: int) -> int:
        nonlocal outcomes
        outcomes *= options
        return draw.randrange(options)

    written = news.grammar.write(choose)
    bits = math.log2(outcomes)

    # What follows is outside the document, so its information does not count.
    return Article(
        date=_date(written, draw),
        category=written.section.name,
        press=draw.choice(news.press),
        title=_from_known_facts(news.grammar, written, written.story.headlines, draw),
        document=written.document,
        link=f"https://news.example.com/{split}/{seed}/{index:06}",
        summary=_summary(news.grammar, written, draw),
        information=bits,
    )


def _date(written: "Written", draw: random.Random) -> str:
    """A date on which the story can happen, equal to the day and month that the article names."""
    year = draw.randint(2020, 2024)
    facts = written.facts
    months = [fact.number for name, fact in facts.items() if name.rpartition(".")[2] == "month"]
    month = months[0] if months else draw.choice(written.story.months)
    latest = calendar.monthrange(year, month)[1]
    day = facts["day"].number if "day" in facts else draw.randint(11, min(20, latest))
    hour, minute = draw.randint(5, 22), draw.randint(0, 59)
    return f"{year}-{month:02}-{day:02} {hour:02}:{minute:02}:00"


def _from_known_facts(
    grammar: "Grammar", written: "Written", frames: "tuple[Frame, ...]", draw: random.Random
) -> str:
    """One of `frames`, written with the facts of the article.

    The candidates are the frames that mention no other facts.
    """
    candidates = [
        frame
        for frame in frames
        if all(grammar.follows(fact, written.facts) for fact in frame.mentions)
    ]
    facts = dict(written.facts)
    return grammar.fill(
        draw.choice(candidates), facts, lambda what, options: draw.randrange(options)
    )


def _summary(grammar: "Grammar", written: "Written", draw: random.Random) -> str:
    """The first two sentences again, in other frames where the facts allow it."""
    return " ".join(
        _from_known_facts(
            grammar, written, next(p.frames for p in written.story.plan if frame in p.frames), draw
        )
        for frame in written.frames[:2]
    )
