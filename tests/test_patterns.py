"""The regular expressions of a stranger's tokenizer: public ones are taken, hostile ones refused
before any text meets them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foreign_models import like_qwen, put
from semigpt.errors import TokenizerError
from semigpt.tokenizers import load_tokenizer
from semigpt.tokenizers.patterns import check_patterns

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
# The shapes that public tokenizers have, written out here.
PUBLIC = {
    "letters, digits, the rest": r"'s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "digits by three": rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|\s*[\r\n]+",
    "possessive": r"[^\r\n\p{L}\p{N}]?+\p{L}+| ?[^\s\p{L}\p{N}]++[\r\n]*|\s++$|\s*[\r\n]",
    "upper, then lower": rf"[^\r\n\p{{L}}]?{UPPER}*{LOWER}+{CONTRACTIONS}?|{UPPER}+{LOWER}*",
    "intersections": r"[\p{Han}]+|[\p{Lu}&&[^\p{Han}]]*[\p{Ll}&&[^\p{Han}]]+",
    "brackets in brackets": r" ?[^(\s|[.,!?…。，、])]+|[!-/:-~\]\[]+",
    "code points": "[一-龥\u3040-ゟ]+|\\x{AC00}|\\u1100",
    "runs of spaces": r" {2,}|\t{1,4}|\s+$",
    "flags": r"(?i)abc|^#+ ",
}
HOSTILE = {
    "nested": (r"(a+)+$", "repeats what varies itself"),
    "ambiguous": (r"(a|a)*b", "repeats what varies itself"),
    "a count behind a count": (r"\p{N}{1,3}+", "repeats what varies itself"),
    "everywhere ahead": (r"(?=[\s\S]*)x?", "looks ahead or back without bound"),
    "everything, then a letter": (r"[\s\S]*[xy]", "repeats letters and spaces without bound"),
    "lazily": (r".+?z", "repeats letters and spaces without bound"),
    "two runs": (r"\s*\s*[xy]", "repeats without bound twice"),
    "optional thirty times": ("a?" * 30 + "a" * 30, "more than 1,000 ways"),
    "ways in ways": ("(?:a|b)" * 30 + "c", "more than 1,000 ways"),
    "a large count": ("a{9999}", "counts to more than 1,000"),
    "counts of counts": (r"(?:(?:a{100}){100}){100}", "counts to more than 1,000"),
    "back": (r"(a)\1+", r"has '\\\\1' in it"),
    "by name": (r"(?<n>a)\k<n>", "a group of a kind that semigpt does not know"),
    "itself": (r"(a\g<1>?)", r"has '\\\\g' in it"),
    "absent": (r"(?~ab)", "a group of a kind that semigpt does not know"),
    "deep": ("(" * 40 + "a" + ")" * 40, "groups more than 16 deep"),
    "long": ("a" * 5000, "5,000 characters, more than 4,000"),
    "no end": ("[a", "lacks a bracket"),
    "not closed": ("(a", "lacks a parenthesis"),
    "closed twice": ("a)", "one parenthesis too many"),
    "nothing repeated": ("*a", "repeats nothing"),
}


def split_by(pattern: str) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [step]}}


@pytest.mark.parametrize("name", PUBLIC)
def test_what_public_tokenizers_have_is_taken(name: str) -> None:
    check_patterns(split_by(PUBLIC[name]))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pattern_gets_one_line(name: str) -> None:
    pattern, says = HOSTILE[name]
    with pytest.raises(TokenizerError, match=says) as error:
        check_patterns(split_by(pattern))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 260


def test_it_is_refused_before_it_is_compiled(tmp_path: Path) -> None:
    """Wherever in the file it stands, and what grows or never ends as well."""
    put(like_qwen(), tmp_path)
    file = tmp_path / "tokenizer.json"
    whole = json.loads(file.read_text())
    doubling = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    steps = {
        "pattern": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "a"},
        "times as long": {"type": "Sequence", "normalizers": [doubling] * 40},
        "64 steps": {"type": "Sequence", "normalizers": [{"type": "NFC"}] * 65},
    }
    for says, normalizer in steps.items():
        file.write_text(json.dumps({**whole, "normalizer": normalizer}))
        with pytest.raises(TokenizerError, match=f"tokenizer.json is not a tokenizer: .*{says}"):
            load_tokenizer(tmp_path)
