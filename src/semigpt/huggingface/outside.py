"""Any causal model that transformers loads, behind the interface of our own.

It is measured and continued, not trained: `semigpt.huggingface.folder` builds what can be trained.
No program of its folder is run, and no pickle is read.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from semigpt.auto import Size
from semigpt.errors import CheckpointError, SettingsError, TokenizerError
from semigpt.huggingface.folder import LARGEST_SURPLUS, weight_files
from semigpt.huggingface.integrity import opened, read_header
from semigpt.language import N_, _
from semigpt.models.base import Cache, LanguageModel, ModelSettings
from semigpt.models.loss import token_loss
from semigpt.storage import read_json
from semigpt.system import free_memory, is_out_of_memory
from semigpt.tokenizers import ForeignTokenizer
from semigpt.tokenizers.base import Tokenizer

__all__ = ["OutsideModel", "converted_tokenizer", "load_outside"]

# Logits at a time: a window of 512 tokens over 150,000.
LOGITS = 80_000_000
TRIED = 8  # tokens on which a net is tried
UNTRUSTED = {"trust_remote_code": False}
SAFE = {**UNTRUSTED, "local_files_only": True}


@dataclass(frozen=True, kw_only=True)
class OutsideSettings(ModelSettings):
    """What is known of a net that another program built."""

    parameters: int

    @property
    def parameter_count(self) -> int:
        return self.parameters


class OutsideCache(Cache):
    """transformers' cache of some sequences, and their newest tokens."""

    def __init__(self, past: Any, tokens_BT: Tensor) -> None:
        self.past, self.tokens_BT = past, tokens_BT

    @property
    def length(self) -> int:  # type: ignore[override]  # the base class has an attribute
        return self.tokens_BT.shape[1]

    def select(self, rows: Sequence[int]) -> OutsideCache:
        index_B = torch.tensor(rows, device=self.tokens_BT.device)
        past = copy.deepcopy(self.past)
        past.batch_select_indices(index_B)
        return OutsideCache(past, self.tokens_BT[index_B])


class OutsideModel(LanguageModel):
    """A net of transformers'. Raises CheckpointError for one that reads what comes later."""

    kind: ClassVar[str] = "transformers"
    description: ClassVar[str] = N_("any causal model that transformers loads")
    Settings: ClassVar[type[ModelSettings]] = OutsideSettings
    settings: OutsideSettings

    def __init__(self, net: Any, context_length: int) -> None:
        super().__init__()
        self.net = net
        arguments = inspect.signature(net.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in arguments else {}
        self._cache_name = "cache" if "cache" in arguments else "past_key_values"
        self.settings = OutsideSettings(
            vocab_size=self._tried(),
            context_length=context_length,
            parameters=sum(p.numel() for p in net.parameters()),
        )

    @torch.no_grad()
    def _tried(self) -> int:
        """The size of its vocabulary, after one look at whether it is causal."""
        ids_BT = torch.arange(2 * TRIED).view(2, TRIED) % 2
        ids_BT[1, :-1] = ids_BT[0, :-1]
        ids_BT[1, -1] = 1 - ids_BT[0, -1]
        logits_BTV = self.net(input_ids=ids_BT, use_cache=False).logits.float()
        if not logits_BTV.isfinite().all():
            raise CheckpointError(_("its logits are not finite"))
        first, second = logits_BTV[:, :-1]
        if not torch.allclose(first, second, rtol=1e-3, atol=1e-3):
            raise CheckpointError(
                _(
                    "a {kind} reads tokens that come later, so it predicts none: "
                    "name a causal model"
                ).format(kind=type(self.net).__name__)
            )
        return int(logits_BTV.shape[-1])

    def forward(
        self, inputs_BT: Tensor, targets_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        self.check_context(inputs_BT)
        logits_BTV: Tensor = self.net(input_ids=inputs_BT, use_cache=False).logits
        return logits_BTV, None if targets_BT is None else token_loss(logits_BTV, targets_BT)

    def token_losses(self, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """As `LanguageModel.token_losses`, as many sequences at a time as there is room for."""
        rows = max(LOGITS // (inputs_BT.shape[1] * self.settings.vocab_size), 1)
        batches = zip(torch.split(inputs_BT, rows), torch.split(targets_BT, rows), strict=True)
        token_losses = super().token_losses
        return torch.cat([token_losses(inputs, targets) for inputs, targets in batches])

    def new_cache(self, batch_size: int) -> OutsideCache | None:
        """None for a net whose cache is not transformers' usual one: it rereads its context."""
        supports = getattr(self.net, "_supports_default_dynamic_cache", None)
        if supports is None or not supports():
            return None
        from transformers import DynamicCache

        empty_BT = torch.empty(batch_size, 0, dtype=torch.int64, device=self.device)
        return OutsideCache(DynamicCache(), empty_BT)

    def next_logits(self, tokens_BT: Tensor, cache: Cache | None) -> Tensor:
        """As `LanguageModel.next_logits`. Where the context is full, the last half of it is read
        anew.
        """
        if not isinstance(cache, OutsideCache):
            return super().next_logits(tokens_BT, cache)
        seen_BT = torch.cat((cache.tokens_BT, tokens_BT), dim=1)
        if seen_BT.shape[1] > self.settings.context_length:
            from transformers import DynamicCache

            tokens_BT = seen_BT = seen_BT[:, -max(self.settings.context_length // 2, 1) :]
            cache.past = DynamicCache()
        cache.tokens_BT = seen_BT
        past = {self._cache_name: cache.past}
        found = self.net(input_ids=tokens_BT, use_cache=True, **past, **self._last_only)
        logits_BV: Tensor = found.logits[:, -1].float()
        return logits_BV

    @classmethod
    def defaults(cls, size: Size) -> dict[str, dict[str, Any]]:
        return {}

    def huggingface_config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.net.config.to_dict()
        return config


def load_outside(folder: Path, context_length: int) -> OutsideModel:
    """The model of a folder through transformers, in float32, with at most so long a context.

    Raises SettingsError where transformers is not installed; CheckpointError, with what it says,
    for a model that it does not build, weights that are no safetensors or not all there, and one
    that memory does not hold.
    """
    try:
        config: Mapping[str, Any] = read_json(folder / "config.json")
    except (OSError, ValueError) as error:
        raise CheckpointError(
            _("{folder} cannot be read: {error}").format(folder=folder / "config.json", error=error)
        ) from None
    tensors, elements = _sizes(folder)
    transformers = _transformers(
        _("{folder} is of model_type {model_type!r}, which").format(
            folder=folder, model_type=config.get("model_type")
        )
    )
    free = free_memory()
    if free is not None and 4 * elements > free:
        raise CheckpointError(
            _("{folder} needs {elements:,} bytes of memory, and {free:,} are free").format(
                folder=folder, elements=4 * elements, free=free
            )
        )
    try:
        _check_sizes(transformers, folder, config, tensors, elements)
        net, info = transformers.AutoModelForCausalLM.from_pretrained(
            str(folder), use_safetensors=True, output_loading_info=True, **SAFE
        )
        if missing := [*info["missing_keys"], *info["mismatched_keys"]]:
            raise CheckpointError(_("its weights lack {missing}").format(missing=missing[0]))
        text = net.config.get_text_config()
        longest = getattr(text, "max_position_embeddings", None) or context_length
        return OutsideModel(net.float().eval(), min(int(longest), context_length)).eval()
    except Exception as error:  # transformers raises whatever its parts do
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            _("{folder} is not read by transformers: {error}").format(
                folder=folder, error=_reason(error)
            )
        ) from None


def converted_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder that has files older than tokenizer.json.

    Raises SettingsError where transformers is not installed, TokenizerError, with what it says,
    where it makes none of them.
    """
    transformers = _transformers(
        _("{folder} has no tokenizer.json; its older files").format(folder=folder)
    )
    try:
        found = transformers.AutoTokenizer.from_pretrained(str(folder), **SAFE)
        content = found.backend_tokenizer.to_str().encode()
        config = {"bos_token": found.bos_token, "eos_token": found.eos_token}
    except Exception as error:  # as above
        reason = _reason(error)
        raise TokenizerError(
            _("the tokenizer in {folder} is not read by transformers: {reason}").format(
                folder=folder, reason=reason
            )
        ) from None
    return ForeignTokenizer(content, config)


def _transformers(what: str) -> Any:
    """The module. Raises SettingsError, naming `what` needs it, where it is not installed."""
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise SettingsError(
            _("{what} is read through transformers: pip install 'semigpt[hub]'").format(what=what)
        ) from None
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[0].split())[:300]


def _check_sizes(
    transformers: Any, folder: Path, config: Mapping[str, Any], tensors: int, elements: int
) -> None:
    """Raise CheckpointError where config.json asks for a much larger net than its weights are."""
    layers = [config.get(key) for key in ("num_hidden_layers", "n_layer", "num_layers")]
    if any(isinstance(count, int) and count > tensors for count in layers):
        raise CheckpointError(
            _("it has more layers than its weights have tensors, {tensors:,}").format(
                tensors=tensors
            )
        )
    described = transformers.AutoConfig.from_pretrained(str(folder), **SAFE)
    with torch.device("meta"):
        net = transformers.AutoModelForCausalLM.from_config(described, **UNTRUSTED)
    parameters = sum(p.numel() for p in net.parameters())
    if parameters > LARGEST_SURPLUS * elements:
        raise CheckpointError(
            _("it has {parameters:,} parameters, and the weights hold {elements:,}").format(
                parameters=parameters, elements=elements
            )
        )


def _sizes(folder: Path) -> tuple[int, int]:
    """How many tensors and numbers its weights hold."""
    tensors, elements = 0, 0
    for file in weight_files(folder):
        if not file.is_file():
            raise CheckpointError(
                _("no {name} in {folder}; other weights than safetensors are never read").format(
                    name=file.name, folder=folder
                )
            )
        with opened(file) as weights:
            header = read_header(weights, file)
        header.pop("__metadata__", None)
        tensors += len(header)
        elements += sum(math.prod(entry["shape"]) for entry in header.values())
    return tensors, elements
