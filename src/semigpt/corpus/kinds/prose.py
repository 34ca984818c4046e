"""What a document is in a file of prose: by default the whole file."""

from collections.abc import Callable, Iterable, Iterator

from semigpt.corpus.request import FileRequest, Reader, from_start
from semigpt.language import N_, _

__all__ = ["prose"]

NOTE = N_("read as one document a file (#by=paragraph or #by=line takes smaller ones)")


def prose(paragraphs: Callable[[FileRequest], Iterable[str]], kind: str) -> Reader:
    """A reader of files that hold paragraphs.

    by=document    the file; each paragraph begins a line
    by=paragraph   a paragraph
    by=line        a line of one

    paragraphs: a file's paragraphs in their order; those of white space are passed over
    kind:       what an error calls the file
    """

    def texts(request: FileRequest) -> Iterator[str]:
        reading, unit = request.reading, request.options.by or "document"
        reading.column = reading.columns[request.extension] = "text"
        found = (text for text in paragraphs(request) if text and not text.isspace())
        match unit:
            case "paragraph":
                yield from found
            case "line":
                for paragraph in found:
                    lines = paragraph.split("\n")
                    yield from (line for line in lines if line and not line.isspace())
            case _:
                text = "\n".join(found)
                if text:
                    if request.options.by is None:
                        reading.tally(_(NOTE), request.path.name)
                    yield text
                else:
                    reading.tally(_("no text was found in it"), request.path.name)

    return Reader(from_start(texts, kind), running=True)
