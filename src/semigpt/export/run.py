"""Export a trained model: write the file, try it in its runtime, and only then leave it."""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from semigpt.errors import CheckpointError, SettingsError
from semigpt.export.card import add_row
from semigpt.export.gguf_file import GGUF_TYPES, GGUFType, write_gguf
from semigpt.export.llama_cpp import LlamaCpp
from semigpt.export.page_checkpoints import exhibits_of_training
from semigpt.export.page_file import PAGE_FILE, exhibit, write_page
from semigpt.export.verify import EXACT, Bound, Runtime, Verdict, verify
from semigpt.export.vocabulary import gguf_vocabulary
from semigpt.huggingface.open import open_run
from semigpt.language import _
from semigpt.models.base import LanguageModel
from semigpt.settings import check_choice
from semigpt.storage import replace_file
from semigpt.tokenizers.base import Tokenizer

__all__ = ["FORMATS", "Exported", "Format", "export"]

Format = Literal["gguf", "ollama", "onnx", "html"]
FORMATS: tuple[Format, ...] = get_args(Format)
BOUNDS = {
    "f32": EXACT,
    "f16": Bound(difference=0.1, divergence=0.001),
    "q8_0": Bound(divergence=0.02),
}
NEEDS = {"gguf": ("gguf", "xllamacpp"), "onnx": ("onnx", "onnxruntime")}

# The template is empty of markup, and what repeats is left to the model, as in semigpt.
MODELFILE = """\
FROM ./{name}
TEMPLATE "{{{{ .Prompt }}}}"
PARAMETER num_ctx {context_length}
PARAMETER repeat_penalty 1.0
"""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that its runtime was tried on, and what to type to use it, by program.

    verdict: None for a page, whose runtime is the reader's browser
    """

    file: Path
    verdict: Verdict | None
    use: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = {} if self.verdict is None else asdict(self.verdict)
        return {"file": str(self.file), **found, "use": self.use}


def export(
    path: Path,
    to: Format,
    *,
    kind: GGUFType | None = None,
    out: Path | None = None,
    checkpoints: int | None = None,
) -> Exported:
    """Export the model of a run folder or model folder.

    The file is `out`, or lies in the model folder, whose card then says what was verified; a page
    lies in the run folder, and holds the weights of up to `checkpoints` that were kept as well.
    Raises SettingsError for a model, tokenizer or type that the format
    cannot hold and for packages that are missing, CheckpointError where the runtime does not give
    what semigpt gives.
    """
    run, model, tokenizer = open_run(path)
    folder = path if run is None else run.model_folder
    if to == "html":
        if kind is not None:
            raise SettingsError(_("--type {kind} is for GGUF; a page holds int8").format(kind=kind))
        target = out or path / PAGE_FILE
        name = path.resolve().name
        if checkpoints is None:
            exhibits = [exhibit(name, model, tokenizer, run)]
        else:
            exhibits = exhibits_of_training(name, model, tokenizer, run, checkpoints)
        write_page(target, name, exhibits)
        return Exported(file=target, verdict=None, use={"browser": f"open {target}"})
    if checkpoints is not None:
        raise SettingsError(_("--checkpoints is for --to html, a page with a slider over them"))
    _check(model, tokenizer, to, kind)
    if to == "onnx":
        target, verdict = _onnx(model, tokenizer, folder, out)
        use = _onnx_use(target, folder, tokenizer)
    else:
        target, verdict = _gguf(model, tokenizer, kind or "f32", folder, out)
        use = _gguf_use(target, model)
    if to == "ollama":
        text = MODELFILE.format(name=target.name, context_length=model.settings.context_length)
        replace_file(target.parent / "Modelfile", text.encode())
        name, file = path.resolve().name.lower(), target.parent / "Modelfile"
        use["Ollama"] = f'ollama create {name} -f {file} && ollama run {name} "기상청은"'
    if out is None:
        add_row(folder, target, verdict, use)
    return Exported(file=target, verdict=verdict, use=use)


def _gguf(
    model: LanguageModel, tokenizer: Tokenizer, kind: GGUFType, folder: Path, out: Path | None
) -> tuple[Path, Verdict]:
    target = out or folder / f"model-{kind}.gguf"
    return target, _written(
        target,
        lambda file: write_gguf(file, model, tokenizer, kind),
        lambda file: LlamaCpp(file, model, tokenizer),
        lambda runtime: verify(model, tokenizer, runtime, BOUNDS[kind]),
    )


def _gguf_use(target: Path, model: LanguageModel) -> dict[str, str]:
    return {
        "llama.cpp": f"llama-server -m {target} -c {model.settings.context_length}",
        "LM Studio": f"lms import {target}",
    }


def _onnx(
    model: LanguageModel, tokenizer: Tokenizer, folder: Path, out: Path | None
) -> tuple[Path, Verdict]:
    from semigpt.export.onnx_graph import write_onnx
    from semigpt.export.onnx_runtime import OnnxRuntime

    target = out or folder / "onnx" / "model.onnx"
    return target, _written(
        target,
        lambda file: write_onnx(file, model),
        lambda file: OnnxRuntime(file, folder, model, tokenizer),
        lambda runtime: verify(model, tokenizer, runtime, EXACT),
    )


def _onnx_use(target: Path, folder: Path, tokenizer: Tokenizer) -> dict[str, str]:
    use = {"onnxruntime": f'onnxruntime.InferenceSession("{target}")'}
    if tokenizer.kind == "jamo":
        return use | {"transformers.js": _("reads no jamo tokenizer; train with char_bpe")}
    load = f'await pipeline("text-generation", "{folder}", {{dtype: "fp32"}})'
    return use | {"transformers.js": load}


def _check(model: LanguageModel, tokenizer: Tokenizer, to: Format, kind: GGUFType | None) -> None:
    check_choice("--to", to, FORMATS)
    if kind is not None:
        check_choice("--type", kind, GGUF_TYPES)
    if tokenizer.kind == "foreign" or model.kind == "transformers":
        raise SettingsError(
            _(
                "export is for models that began in semigpt, with its "
                "tokenizers; give the folder of "
                "another maker's model to that program's own converter"
            )
        )
    settings: Any = model.settings
    qwen3 = getattr(settings, "in_c", True) and getattr(settings, "rope_scaling", None) is None
    if not qwen3 or getattr(settings, "activation", None) is not None:
        raise SettingsError(
            _(
                "export is for Qwen3's shape without biases and GPT-2's with "
                "ReLU; give the folder to "
                "that program's own converter"
            )
        )
    if model.huggingface_config()["model_type"] not in ("qwen3", "gpt2"):
        raise SettingsError(
            _(
                "a {kind} model needs semigpt: no other program has its shape; train --model "
                "gpt or blocks"
            ).format(kind=model.kind)
        )
    if tokenizer.end_of_text is None:
        raise SettingsError(
            _(
                "a plain character tokenizer has no bytes and no "
                "<|endoftext|>, which other programs "
                "need; train with --tokenizer char"
            )
        )
    if to == "onnx" and kind not in (None, "f32"):
        raise SettingsError(
            _("--type {kind} is for GGUF; an ONNX file is written in f32").format(kind=kind)
        )
    if to != "onnx":
        gguf_vocabulary(tokenizer)
    needed = NEEDS["onnx" if to == "onnx" else "gguf"]
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise SettingsError(
            _("--to {to} needs {missing}: pip install 'semigpt[export]'").format(
                to=to, missing=" and ".join(missing)
            )
        )


def _written(
    target: Path,
    write: Callable[[Path], None],
    load: Callable[[Path], AbstractContextManager[Runtime]],
    check: Callable[[Runtime], Verdict],
) -> Verdict:
    """Write beside `target`, check, and rename: a file that is refused is not left."""
    target.parent.mkdir(parents=True, exist_ok=True)
    file = target.with_name(f".{target.name}-{secrets.token_hex(4)}")
    try:
        write(file)
        with load(file) as runtime:
            verdict = check(runtime)
        file.replace(target)
    except OSError as error:
        raise CheckpointError(
            _("{target} cannot be written: {reason}; check the path and the disk").format(
                target=target, reason=error.strerror or error
            )
        ) from None
    finally:
        file.unlink(missing_ok=True)
    return verdict
