"""Text to ids and back: characters (the book's), bytes, jamo, byte-level BPE and Unigram."""

from semigpt.tokenizers.base import Kind, Normalization, StreamDecoder, Tokenizer
from semigpt.tokenizers.byte_level import BPETokenizer, ByteTokenizer, UnigramTokenizer
from semigpt.tokenizers.char import CharTokenizer
from semigpt.tokenizers.jamo import JamoTokenizer
from semigpt.tokenizers.kinds import count_characters, load_tokenizer, train_tokenizer

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "JamoTokenizer",
    "Kind",
    "Normalization",
    "StreamDecoder",
    "Tokenizer",
    "UnigramTokenizer",
    "count_characters",
    "load_tokenizer",
    "train_tokenizer",
]
