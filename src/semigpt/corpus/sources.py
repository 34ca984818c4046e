"""Open a source of any kind: the bundled corpus, files, a folder or a dataset on the Hub."""

from collections.abc import Iterator
from pathlib import Path

from semigpt.corpus.folders import folder_passed_over, open_files, open_folder
from semigpt.corpus.formats import is_running
from semigpt.corpus.hub import open_hub
from semigpt.corpus.joined import JoinedReading
from semigpt.corpus.reading import SPLITS, Document, Reading, and_more, choose_column, printable
from semigpt.corpus.spec import (
    FileSource,
    FolderSource,
    HubSource,
    JoinedSource,
    NewsSource,
    Source,
    TextSource,
)
from semigpt.language import _

__all__ = ["open_source", "passed_over"]


def open_source(source: Source, column: str | None, scratch: Path) -> Reading:
    """Open `source`, taking documents from `column`.

    Call it, and read its streams, inside `library.quiet_datasets()`. `scratch` is a folder for
    files that have to be unpacked or decoded before they are read; it must outlive the streams.

    Raises CorpusError, and so do the streams: a column that is not there, a file that is broken,
    named with the line or byte where that is known, a dataset that cannot be reached. An OSError of
    a full disk is left as it is.
    """
    match source:
        case NewsSource():
            return _open_news(source, column)
        case FileSource():
            return open_files({"": source.paths}, source.options, column, scratch)
        case TextSource():
            return open_files({"": [source.path]}, source.options, column, scratch)
        case JoinedSource():
            parts = []
            for number, part in enumerate(source.sources):
                (own := scratch / str(number)).mkdir(exist_ok=True)
                parts.append(open_source(part, None if _is_running(part) else column, own))
            return JoinedReading(parts)
        case FolderSource():
            return open_folder(source, column, scratch)
        case HubSource():
            return open_hub(source, column)


def passed_over(source: Source) -> list[str]:
    """Notes on what a SPEC names and nothing reads, whatever is staged: runs among it."""
    match source:
        case FileSource() if count := len(source.passed_over):
            name = printable(source.passed_over[0].name)
            more = and_more(count - 1)
            return [
                _("not read, of another kind or in a run folder: {name}{more}").format(
                    name=name, more=more
                )
            ]
        case JoinedSource():
            return [note for part in source.sources for note in passed_over(part)]
        case FolderSource():
            return [printable(note)] if (note := folder_passed_over(source)) else []
    return []


def _is_running(source: Source) -> bool:
    """Whether a source is running text alone, which has no columns."""
    if isinstance(source, FileSource):
        return all(map(is_running, source.paths))
    return isinstance(source, TextSource)


def _open_news(source: NewsSource, column: str | None) -> Reading:
    from semigpt.corpus import news

    articles = news.DEFAULT_ARTICLES if source.articles is None else source.articles
    chosen = choose_column("news", dict.fromkeys(news.COLUMNS, True), column)
    reading = Reading(column=chosen)

    def documents(split: str) -> Iterator[Document]:
        rows = news.rows(split, articles=articles, seed=source.seed, first=reading.row)
        for article in rows:
            reading.row += 1
            # The grammar knows a document's probability, and not that of its title.
            yield getattr(article, chosen), article.information if chosen == "document" else None

    for split in SPLITS:
        if split in news.SPLITS:
            reading.add_split(split, documents)
    return reading
