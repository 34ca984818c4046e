"""A model of others with as much of its vocabulary as a text needs: `--keep-vocabulary used`.

Of 152,000 tokens Korean text uses a tenth, and their rows may be a quarter of a model. Kept are the
tokens of the training split, those that are merged on the way to them, bytes, and added tokens. So
the split has the same tokens as before, and any other text is spelled by more of them.
"""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from semigpt.corpus.corpus import Corpus
from semigpt.dataset import Dataset, prepare_dataset
from semigpt.errors import CheckpointError, SettingsError
from semigpt.huggingface.folder import (
    load_model,
    model_card,
    read_weights,
    save_model,
    weights_digest,
)
from semigpt.huggingface.open import open_tokenizer
from semigpt.language import _
from semigpt.tokenizers import ForeignTokenizer, Tokenizer, load_tokenizer
from semigpt.tokenizers.base import byte_token

__all__ = ["Cut", "cut_vocabulary"]

TRIED = 200  # documents that are encoded by both tokenizers
TABLES = ("model.embed_tokens.weight", "lm_head.weight", "transformer.wte.weight")


@dataclass(frozen=True)
class Cut:
    """The folder of a cut model, and what the cut costs.

    more: tokens of the validation split by the cut tokenizer, per token by the whole one
    """

    folder: Path
    kept: int
    tokens: int
    parameters: int
    whole_parameters: int
    more: float

    @property
    def told(self) -> str:
        """In one line, for a person."""
        return _(
            "keeps {kept:,} of {tokens:,} tokens and {parameters:,} of "
            "{whole_parameters:,} parameters; the validation split takes "
            "{more:.2%} more tokens"
        ).format(
            kept=self.kept,
            tokens=self.tokens,
            parameters=self.parameters,
            whole_parameters=self.whole_parameters,
            more=self.more - 1,
        )


def cut_vocabulary(folder: Path, corpus: Corpus) -> Cut:
    """The model of `folder` with the tokens that the corpus needs, in a folder beside the corpus.

    Raises SettingsError for a tokenizer that is not another's BPE, CheckpointError where the cut
    tokenizer gives other ids, and what `load_model` raises.
    """
    tokenizer = open_tokenizer(folder)
    if not isinstance(tokenizer, ForeignTokenizer):
        raise SettingsError(
            _("--keep-vocabulary is for models of others: semigpt's own vocabularies are small")
        )
    document = tokenizer.tokenizer_json()
    if document["model"].get("type") != "BPE":
        raise SettingsError(
            _("--keep-vocabulary cuts BPE alone, not {type}; leave it out").format(
                type=document["model"].get("type")
            )
        )
    dataset = prepare_dataset(corpus, tokenizer)
    old_ids = _kept(tokenizer, dataset)
    target = corpus.folder / f"model-{weights_digest(folder)[:16]}-used"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=corpus.folder, prefix=".model-") as temporary:
            _write(Path(temporary) / "cut", folder, tokenizer, old_ids)
            cut = load_tokenizer(Path(temporary) / "cut")
            _check(tokenizer, cut, old_ids, corpus)
            with contextlib.suppress(OSError):  # another process was faster: its folder is the same
                (Path(temporary) / "cut").rename(target)
    whole, settings = load_model(folder).settings, load_model(target).settings
    after = len(prepare_dataset(corpus, load_tokenizer(target)).stream("validation"))
    return Cut(
        folder=target,
        kept=len(old_ids),
        tokens=tokenizer.vocab_size,
        parameters=settings.parameter_count,
        whole_parameters=whole.parameter_count,
        more=after / len(dataset.stream("validation")),
    )


def _kept(tokenizer: ForeignTokenizer, dataset: Dataset) -> list[int]:
    """The ids that stay, the smallest first: those of the training split, closed under merges."""
    document = tokenizer.tokenizer_json()
    vocab: dict[str, int] = document["model"]["vocab"]
    names = {i: token for token, i in vocab.items()}
    found = np.zeros(tokenizer.vocab_size, np.bool_)
    for shard in dataset.stream("train").shards:
        found[np.unique(shard)] = True
    parts: dict[str, list[str]] = {}
    for left, right in _merges(document["model"]["merges"]):
        parts.setdefault(left + right, []).extend((left, right))
    falls_back = bool(document["model"].get("byte_fallback"))
    alphabet = set(map(byte_token, range(256))) if falls_back else {t for t in vocab if len(t) == 1}
    alphabet.add(document["model"].get("unk_token"))
    waiting = [names[i] for i in np.flatnonzero(found).tolist() if i in names]
    waiting += [token for token in alphabet if token in vocab]
    kept = set()
    while waiting:
        token = waiting.pop()
        if token not in kept:
            kept.add(token)
            waiting += parts.get(token, [])
    added = {entry["id"] for entry in document["added_tokens"]}
    return sorted(added | {vocab[token] for token in kept})


def _merges(merges: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """The pairs of `merges`, which older files write with a space between."""
    for merge in merges:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        yield left, right


def _write(target: Path, folder: Path, tokenizer: ForeignTokenizer, old_ids: list[int]) -> None:
    """The cut model's folder."""
    whole = load_model(folder)
    made: Any = type(whole)
    settings: Any = replace(whole.settings, vocab_size=len(old_ids))
    model = made(settings)
    state = dict(read_weights(folder, whole))
    for name in TABLES:
        if name in state:
            state[name] = state[name][old_ids]
    model.load_huggingface_state({**model.huggingface_state(), **state})
    content = json.dumps(_cut_document(tokenizer.tokenizer_json(), old_ids), ensure_ascii=False)
    cut = ForeignTokenizer(content.encode("utf-8", "surrogatepass"), tokenizer.config)
    facts = {"cut from": f"`{folder}`, {len(old_ids):,} of {tokenizer.vocab_size:,} tokens"}
    save_model(target, model, cut, model_card(model, facts, "another's weights", foreign=True))


def _cut_document(document: Mapping[str, Any], old_ids: list[int]) -> dict[str, Any]:
    """A `tokenizer.json` with these tokens alone, whose ids are their places."""
    new_ids = {old: new for new, old in enumerate(old_ids)}
    cut: dict[str, Any] = copy.deepcopy(dict(document))
    model = cut["model"]
    vocab = {token: new_ids[i] for token, i in model["vocab"].items() if i in new_ids}
    model["vocab"] = vocab
    model["merges"] = [
        [left, right]
        for left, right in _merges(model["merges"])
        if left in vocab and right in vocab and left + right in vocab
    ]
    for entry in cut["added_tokens"]:
        entry["id"] = new_ids[entry["id"]]
    for step in _steps(cut.get("post_processor")):
        for entry in (step.get("special_tokens") or {}).values():
            entry["ids"] = [new_ids[i] for i in entry["ids"]]
    return cut


def _steps(processor: Any) -> Iterable[dict[str, Any]]:
    """The post-processors of a sequence, or the one there is."""
    if processor:
        yield from processor.get("processors", [processor])


def _check(whole: Tokenizer, cut: Tokenizer, old_ids: list[int], corpus: Corpus) -> None:
    """Raise CheckpointError unless the first documents have the tokens that they had."""
    back = np.array(old_ids)
    for text in islice(corpus.documents("train"), TRIED):
        if back[cut.encode(text)].tolist() != whole.encode(text).tolist():
            raise CheckpointError(
                _(
                    "the cut tokenizer splits {text!r} otherwise; leave --keep-vocabulary out"
                ).format(text=text[:20])
            )
