"""The Hugging Face folder: what a saved model is from its first save.

`gpt` is a Qwen3 to transformers, vLLM and MLX, `blocks` a GPT-2 with ReLU to transformers. Folders
of those and of the families of `semigpt.models.families`, whoever saved them, are read too.
llama.cpp's converter takes neither: it knows a tokenizer by a hash of its ids, and so none that was
learnt here. The other rungs' folders have the same files and say in `config.json` and in their card
that they need semigpt.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semigpt.errors import CheckpointError, SemigptError, SettingsError
from semigpt.huggingface.integrity import (
    check_digests,
    opened,
    read_header,
    read_tensors,
    serialized,
)
from semigpt.language import _
from semigpt.models import LADDER, model_class
from semigpt.models.base import LanguageModel
from semigpt.storage import read_json, read_settled, sha256_file, write_files
from semigpt.system import free_memory, is_out_of_memory
from semigpt.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "is_ours",
    "load_model",
    "model_card",
    "read_weights",
    "save_model",
    "weight_files",
    "weights_digest",
]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = re.compile(r"[A-Za-z0-9_.-]{1,200}\.safetensors")
LARGEST_INDEX = 16 << 20  # bytes; a line of 100 for each of 160,000 tensors
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

    The files get their names together, the weights last: a reader who comes meanwhile loads the
    model before or the model after. A file that is there as it should be stays. Raises
    CheckpointError where one cannot be written.
    """
    from safetensors.torch import save

    end = (
        {}
        if tokenizer.end_of_text is None
        else {"bos_token_id": tokenizer.begin_of_text, "eos_token_id": tokenizer.end_of_text}
    )
    generation = {**end, "do_sample": True, "max_new_tokens": 200}
    weights = {
        name: tensor.float().cpu().contiguous()
        for name, tensor in (state or model.huggingface_state()).items()
    }
    files = {
        **tokenizer.files(model.settings.context_length),
        "config.json": _json({**model.huggingface_config(), **end}),
        "generation_config.json": _json(generation),
        "README.md": card.encode(),
    }
    for name, tensors in model.auxiliary_tensors().items():
        if not (folder / name).is_file():  # once: they do not change
            files[name] = save(tensors)
    files = {name: content for name, content in files.items() if not _holds(folder / name, content)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        content = serialized(weights, folder, files)
        write_files(folder, {**files, WEIGHTS: content})
    except OSError as error:
        raise CheckpointError(
            _(
                "cannot save the model in {folder}: {strerror}; free some disk or choose "
                "another --out"
            ).format(folder=folder, strerror=error.strerror)
        ) from None


def _holds(path: Path, content: bytes) -> bool:
    """Whether a file is there with this content."""
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _json(table: dict[str, Any]) -> bytes:
    return (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()


def model_card(
    model: LanguageModel,
    facts: Mapping[str, str],
    origin: str = "random weights",
    *,
    foreign: bool = False,
) -> str:
    """The folder's README.md: front matter that the Hub reads, what the model is, what training
    began from, and how to load it.

    foreign: the tokenizer is another's, and does what that one does
    """
    loads_elsewhere = not model.huggingface_config()["model_type"].startswith("semigpt")
    lines = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    if loads_elsewhere:
        use = (
            "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            'model = AutoModelForCausalLM.from_pretrained("FOLDER")\n'
            'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```'
            "\n\nsemigpt's tests hold transformers' logits for such a folder to semigpt's within "
            "1e-5."
        )
        if not foreign:
            also = " vLLM and MLX load it too." if model.kind == "gpt" else ""
            use += (
                f"{also} For llama.cpp, LM Studio, Ollama, onnxruntime and transformers.js "
                "`semigpt export FOLDER --to gguf`, `ollama` or `onnx` writes a file, and runs it "
                "in the program before it is left; those that were are listed at the end.\n\n"
                "The tokenizer puts `<|endoftext|>` before a text, which is how texts began in "
                "training. Pass the `attention_mask` on to `generate`: the padding is the same "
                "token."
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


def load_model(folder: Path | str, context_length: int | None = None) -> LanguageModel:
    """The model of a folder that `save_model` wrote, or of any folder of a shape we build.

    context_length: at most so many tokens of context, where the model's is longer and may be cut

    The size that config.json asks for is compared with that of the weights, and with the memory
    that is free, before memory is taken for it. Raises CheckpointError, naming the file, for one
    that was changed or cut off since it was saved and, for weights that do not fit, naming the
    first leaves with the shape expected and the shape found. Where another process is saving a
    model there, it is the model before or the model after.
    """
    folder = Path(folder)
    return read_settled(folder, lambda: _load(folder, context_length))


def weight_files(folder: Path) -> list[Path]:
    """The files of a folder's weights: one, or the shards that an index names.

    Raises CheckpointError where there is none, or an index that is none.
    """
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [folder / WEIGHTS]
    try:
        names = {str(name) for name in read_json(index, LARGEST_INDEX)["weight_map"].values()}
        if not names or not all(map(SHARD.fullmatch, names)):
            raise ValueError("it names no files of its folder")
    except OSError as error:
        raise CheckpointError(
            _("{index} cannot be read: {strerror}").format(index=index, strerror=error.strerror)
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            _("{index} is no index of weights ({reason})").format(index=index, reason=reason)
        ) from None
    return [folder / name for name in sorted(names)]


def weights_digest(folder: Path) -> str:
    """The SHA-256 of a folder's weights; of shards, that of their digests."""
    digests = [sha256_file(file) for file in weight_files(folder)]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def _load(folder: Path, context_length: int | None) -> LanguageModel:
    shards = weight_files(folder)
    for file in (folder / CONFIG, *shards):
        if not file.is_file():
            others = sorted(path.name for path in folder.glob("*.bin"))
            if others and file.name == WEIGHTS:
                raise CheckpointError(
                    _(
                        "no {weights} in {folder}, but {other}: a pickle is a program, and is "
                        "never read; convert it to safetensors"
                    ).format(weights=WEIGHTS, folder=folder, other=others[0])
                )
            raise CheckpointError(
                _(
                    "no {name} in {folder}: no model has been saved there yet; train one, or "
                    "name another folder"
                ).format(name=file.name, folder=folder)
            )
    with contextlib.ExitStack() as stack:
        # The weights first, as they are written last: what they were saved with is there.
        files = {file.name: stack.enter_context(opened(file)) for file in shards}
        headers = [read_header(files[file.name], file) for file in shards]
        metadata, *_rest = [header.pop("__metadata__", {}) for header in headers]
        header = {name: entry for header in headers for name, entry in header.items()}
        model = _fitting(folder, shards[0], header, context_length)
        for name in model.auxiliary_files:
            if (folder / name).is_file():
                files[name] = stack.enter_context(opened(folder / name))
        if len(shards) == 1:
            check_digests(folder, metadata, files)
        _fill(model, folder, files)
    return model.eval()


def _fitting(
    folder: Path, weights: Path, header: Mapping[str, Any], context_length: int | None
) -> LanguageModel:
    """A fresh model that the weights of this header fit."""
    elements = sum(math.prod(entry["shape"]) for entry in header.values())
    model, expected = _build(folder / CONFIG, elements, context_length)
    found = {
        known: tuple(entry["shape"])
        for name, entry in header.items()
        if (known := model.stored_name(name)) is not None
    }
    if differences := list(_differences(expected, found)):
        raise CheckpointError(
            _("{weights} does not fit {folder}: {difference}").format(
                weights=weights, folder=folder / CONFIG, difference="; ".join(differences[:3])
            )
        )
    if other := {str(entry["dtype"]) for entry in header.values()} - {"F64", "F32", "F16", "BF16"}:
        raise CheckpointError(
            _("{weights} holds numbers of type {other}; semigpt reads floating ones").format(
                weights=weights, other=", ".join(sorted(other))
            )
        )
    return model


def read_weights(folder: Path, model: LanguageModel) -> dict[str, Tensor]:
    """The weights of a folder by the names of `model.huggingface_state`, nothing of them checked.

    Raises CheckpointError for a file that cannot be read.
    """
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        with opened(file) as content:
            read_header(content, file)
            state |= _named(model, read_tensors(content, file))
    return state


def _named(model: LanguageModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a file by the model's names; without those that are no weights of it."""
    names = {stored: model.stored_name(stored) for stored in tensors}
    return {name: tensors[stored] for stored, name in names.items() if name is not None}


def _fill(model: LanguageModel, folder: Path, files: Mapping[str, BufferedReader]) -> None:
    """Read the weights and what lies beside them."""
    from safetensors import SafetensorError

    state: dict[str, Tensor] = {}
    for name, file in files.items():
        path = folder / name
        try:
            if name in model.auxiliary_files:
                read_header(file, path)  # its sizes
                model.load_auxiliary_tensors({name: read_tensors(file, path)})
                continue
            state |= _named(model, read_tensors(file, path))
            if len(state) == len(model.huggingface_state()):
                model.load_huggingface_state(state)
        except (
            *(OSError, SafetensorError, SettingsError),
            *(ValueError, LookupError, TypeError, RuntimeError),
        ) as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())
            raise CheckpointError(
                _(
                    "{path} cannot be read, or does not hold what the model needs ({reason}); save "
                    "the model again"
                ).format(path=path, reason=reason)
            ) from None


def _build(
    config_file: Path, elements: int, context_length: int | None
) -> tuple[LanguageModel, dict[str, tuple[int, ...]]]:
    """A fresh model of the shape in config.json, and its leaves' shapes; `elements` is how many
    numbers its weights hold.
    """
    try:
        config = read_json(config_file)
    except OSError as error:
        raise CheckpointError(
            _("{config_file} cannot be read: {strerror}").format(
                config_file=config_file, strerror=error.strerror
            )
        ) from None
    except ValueError as error:
        raise CheckpointError(
            _("{config_file} does not describe a model of semigpt's: {error}").format(
                config_file=config_file, error=error
            )
        ) from None
    try:
        cls = _class_of(config["model_type"])
        settings = cls.settings_from_huggingface(config)
        whole = settings
        if context_length is not None and cls.cuts_context:
            settings = replace(settings, context_length=min(context_length, whole.context_length))
        if settings.parameter_count > max(LARGEST_SURPLUS * elements, SMALL_BUILD):
            raise ValueError(
                f"it has {settings.parameter_count:,} parameters, and the weights hold {elements:,}"
            )
        if settings.table_bytes > LARGEST_TABLES:
            raise ValueError("its context is too long")
        needed, free = 4 * settings.parameter_count + settings.table_bytes, free_memory()
        if free is not None and needed > free:
            raise ValueError(f"it needs {needed:,} bytes of memory, and {free:,} are free")
        model = cls(settings)
        shapes = {name: tuple(tensor.shape) for name, tensor in model.huggingface_state().items()}
        shapes |= model.uncut_shapes(whole.context_length)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SemigptError,
    ) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
        raise CheckpointError(
            _("{config_file} does not describe a model of semigpt's: {reason}").format(
                config_file=config_file, reason=reason
            )
        ) from None
    return model, shapes


def is_ours(folder: Path) -> bool:
    """Whether the config.json of a folder says a shape that semigpt builds; or says nothing that
    can be read, which `load_model` tells.
    """
    try:
        config = read_json(folder / CONFIG)
        types = {name for kind in LADDER for name in model_class(kind).model_types()}
        if config["model_type"] not in types:
            return False
        _class_of(config["model_type"]).settings_from_huggingface(config)
    except SettingsError:
        return False
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return True
    return True


def _class_of(model_type: str) -> type[LanguageModel]:
    """The rung whose config.json says `model_type`."""
    for cls in map(model_class, LADDER):
        if model_type in cls.model_types():
            return cls
    known = ", ".join(sorted(name for kind in LADDER for name in model_class(kind).model_types()))
    raise ValueError(f"model_type {model_type!r}; known are {known}")


def _differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> Iterator[str]:
    """Each leaf whose name or shape differs, as `name: expected ..., found ...`."""
    for name in sorted(expected.keys() | found.keys()):
        want, have = expected.get(name, "nothing"), found.get(name, "nothing")
        if want != have:
            yield f"{name}: expected {want}, found {have}"
