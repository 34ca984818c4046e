"""Text: where it comes from (`sources`), how it is cleaned (`text`), where it waits on disk (`staging`)."""

from semigpt.corpus.staging import Corpus, open_corpus, prepare_corpus

__all__ = ["Corpus", "open_corpus", "prepare_corpus"]
