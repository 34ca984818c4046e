"""Text: what a SPEC names (`spec`), its documents (`reading`), and the text on disk (`staging`)."""

from semigpt.corpus.corpus import Corpus, open_corpus
from semigpt.corpus.staging import StagingProgress, prepare_corpus, stage

__all__ = ["Corpus", "StagingProgress", "open_corpus", "prepare_corpus", "stage"]
