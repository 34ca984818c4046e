"""The Hugging Face folder: what a saved model is from its first save.

`gpt` is a Qwen3 to transformers, vLLM and MLX, `blocks` a GPT-2 with ReLU to transformers.
llama.cpp's converter takes neither: it knows a tokenizer by a hash of its ids, and so none that was
learnt here. The other rungs' folders have the same files and say in `config.json` and in their card
that they need semigpt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.errors import CheckpointError, SemigptError, SettingsError
from semigpt.huggingface.integrity import check_digests, read_header, with_digests
from semigpt.models import LADDER, model_class
from semigpt.models.base import LanguageModel
from semigpt.storage import read_json, replace_file
from semigpt.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["load_model", "model_card", "save_model"]

# A config.json that asks for more than this many times the weights there are is refused before it
# is built.
LARGEST_SURPLUS = 2
SMALL_BUILD = 1_000_000  # parameters that are built whatever the weights hold, to name what differs
LARGEST_TABLES = 1 << 30  # bytes of tables that a context_length alone decides


def save_model(
    folder: Path,
    model: LanguageModel,
    tokenizer: Tokenizer,
    card: str,
    *,
    state: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the whole folder; `state` are earlier weights of the model, by `huggingface_state`, to
    be written instead.

    Each file is replaced atomically and the weights come last: a reader who comes meanwhile loads
    the model before or the model after. Raises CheckpointError where a file cannot be written.
    """
    from safetensors.torch import save

    if not (folder / "tokenizer.json").exists():
        tokenizer.save(folder, context_length=model.settings.context_length)
    end = (
        {}
        if tokenizer.end_of_text is None
        else {"bos_token_id": tokenizer.end_of_text, "eos_token_id": tokenizer.end_of_text}
    )
    config = {**model.huggingface_config(), **end}
    generation = {**end, "do_sample": True, "max_new_tokens": 200}
    weights = {
        name: tensor.float().cpu().contiguous()
        for name, tensor in (state or model.huggingface_state()).items()
    }
    replace_file(folder / "config.json", _json(config))
    replace_file(folder / "generation_config.json", _json(generation))
    replace_file(folder / "README.md", card.encode())
    for name, tensors in model.auxiliary_tensors().items():
        if not (folder / name).is_file():  # once: they do not change
            replace_file(folder / name, save(tensors))
    replace_file(
        folder / "model.safetensors", with_digests(save(weights, metadata={"format": "pt"}), folder)
    )


def _json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def model_card(
    model: LanguageModel, facts: Mapping[str, str], origin: str = "random weights"
) -> str:
    """The folder's README.md: front matter that the Hub reads, what the model is, what training
    began from, and how to load it.
    """
    loads_elsewhere = not model.huggingface_config()["model_type"].startswith("semigpt")
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    if loads_elsewhere:
        use = (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```\n\n'
            "A text begins behind the `<|endoftext|>` token: put its id before the prompt's."
        )
    else:
        use = (
            f"The `{model.kind}` rung is semigpt's own shape and **needs semigpt**; transformers "
            "cannot build it.\n\n"
            "```python\nfrom semigpt import load_model, load_tokenizer\n\n"
            'model, tokenizer = load_model("FOLDER"), load_tokenizer("FOLDER")\n```'
        )
    library = "transformers" if loads_elsewhere else "semigpt"
    return (
        f"---\nlanguage: ko\nlibrary_name: {library}\npipeline_tag: text-generation\ntags:\n- "
        "semigpt\n- korean\n---\n\n"
        f"# A `{model.kind}` model of Korean text\n\nTrained with semigpt from {origin}.\n\n"
        f"| | |\n|---|---|\n{lines}\n\n"
        f"## Use\n\n{use}\n\n## Limits\n\nA small model of one corpus: it writes what its corpus "
        "sounds like, knows no "
        "facts, and may repeat passages of the text it learnt from.\n"
    )


def load_model(folder: Path | str) -> LanguageModel:
    """The model of a folder that `save_model` wrote, or of any Qwen3 or GPT-2 folder of a shape we
    build.

    The size that config.json asks for is compared with that of the weights before memory is taken
    for it. Raises CheckpointError, naming the file, for one that was changed or cut off since it
    was saved and, for weights that do not fit, naming the first leaves with the shape expected and
    the shape found.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = Path(folder)
    config_file, weights_file = folder / "config.json", folder / "model.safetensors"
    for path in (config_file, weights_file):
        if not path.is_file():
            raise CheckpointError(
                f"no {path.name} in {folder}: no model has been saved there yet; train one, or "
                "name another folder"
            )
    header = read_header(weights_file)
    metadata = header.pop("__metadata__", {})
    found = {name: tuple(entry["shape"]) for name, entry in header.items()}
    model, expected = _build(config_file, sum(map(math.prod, found.values())))
    if differences := list(_differences(expected, found)):
        raise CheckpointError(
            f"{weights_file} does not fit {config_file}: {'; '.join(differences[:3])}"
        )
    if other := {str(entry["dtype"]) for entry in header.values()} - {"F64", "F32", "F16", "BF16"}:
        raise CheckpointError(
            f"{weights_file} holds numbers of type {', '.join(sorted(other))}; semigpt reads "
            "floating ones"
        )
    check_digests(folder, metadata)
    try:
        state = load_file(weights_file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{weights_file} cannot be read ({error}); it is cut off or changed: save the model "
            "again"
        ) from None
    model.load_huggingface_state(state)
    for path in (folder / name for name in model.auxiliary_files if (folder / name).is_file()):
        try:
            model.load_auxiliary_tensors({path.name: load_file(path)})
        except (OSError, SafetensorError, ValueError, LookupError, SettingsError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path} does not hold what the model needs ({reason}); save the model again"
            ) from None
    return model.eval()


def _build(config_file: Path, elements: int) -> tuple[LanguageModel, dict[str, tuple[int, ...]]]:
    """A fresh model of the shape in config.json, and its leaves' shapes; `elements` is how many
    numbers its weights hold.
    """
    try:
        config = read_json(config_file)
        cls = _class_of(config["model_type"])
        settings = cls.settings_from_huggingface(config)
        if settings.parameter_count > max(LARGEST_SURPLUS * elements, SMALL_BUILD):
            raise ValueError(
                f"it has {settings.parameter_count:,} parameters, and the weights hold {elements:,}"
            )
        if settings.table_bytes > LARGEST_TABLES:
            raise ValueError("its context is too long")
        model = cls(settings)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.huggingface_state().items()}
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SemigptError,
    ) as error:
        reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
        raise CheckpointError(
            f"{config_file} does not describe a model of semigpt's: {reason}"
        ) from None
    return model, shapes


def _class_of(model_type: str) -> type[LanguageModel]:
    """The rung whose config.json says `model_type`."""
    for cls in map(model_class, LADDER):
        if cls.model_type() == model_type:
            return cls
    known = ", ".join(sorted(model_class(kind).model_type() for kind in LADDER))
    raise ValueError(f"model_type {model_type!r}; known are {known}")


def _differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    """Each leaf whose name or shape differs, as `name: expected ..., found ...`."""
    for name in sorted(expected.keys() | found.keys()):
        want, have = expected.get(name, "nothing"), found.get(name, "nothing")
        if want != have:
            yield f"{name}: expected {want}, found {have}"
