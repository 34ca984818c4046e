"""The run folder, and the only module that knows it.

    runs/NAME/
      config.toml      everything that reproduces the run
      legs/1.toml      the config.toml of each earlier leg of a run that went on further
      metrics.jsonl    a line a report: the same bits for the same run, killed or not
      timings.jsonl    a line a report: the clock's side of it
      samples.jsonl    what the model wrote at each evaluation
      metadata.json    for the report: baselines, sizes, what `evaluation.portrait` shows
      model/           the Hugging Face folder
      base/, adapter/  of LoRA: the model begun from, and what was trained beside it, for peft
      report.html
      model.html       the model itself, to be opened in a browser
      checkpoints/step-00000500/
                       weights, optimizer, progress, and a manifest of their SHA-256

A checkpoint is complete or invisible. It is written to a temporary folder, every file and the
folder flushed to disk, then renamed. The one before it stays until the new one has been read back
and verified.

One process trains in a run folder at a time: it holds a lock on the folder's `.lock`, which the
operating system releases with the process, however it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from semigpt import html
from semigpt.errors import CheckpointError
from semigpt.language import _
from semigpt.run_checkpoint import TENSOR_FILES, Checkpoint, verified
from semigpt.run_lock import RunLock
from semigpt.run_logs import (
    UnreadError,
    append_row,
    check_logs,
    cut_logs,
    log_digest,
    log_sizes,
    read_rows,
    reason,
    unread,
)
from semigpt.settings import read_toml, write_toml
from semigpt.storage import (
    discard_folder,
    fsync,
    is_shortage,
    read_json,
    remove_partial,
    replace_file,
    sha256_file,
)
from semigpt.tensor_file import WriteFile, write_tensors

__all__ = ["Checkpoint", "RunFolder"]

CHECKPOINT = re.compile(r"step-\d{8,}")
UNFINISHED = re.compile(r"\.step-\d{8,}\.\d+(\.old)?\.partial")
MODEL_FILES = (
    *("config.json", "generation_config.json", "README.md", "model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "counts.safetensors"),
    *("adapter_config.json", "adapter_model.safetensors"),
)
LARGEST_METADATA = 16 << 20  # bytes; a portrait of sixteen heads takes 45,000


class RunFolder:
    """A run on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.toml"
        self.legs_folder = path / "legs"
        self.model_folder = path / "model"
        self.base_folder, self.adapter_folder = path / "base", path / "adapter"
        self.checkpoints = path / "checkpoints"
        self.logs = {name: path / f"{name}.jsonl" for name in ("metrics", "timings", "samples")}
        self.metadata_file = path / "metadata.json"
        self.report_file = path / "report.html"
        self.page_file = path / "model.html"
        self._lock = RunLock(path)

    def __repr__(self) -> str:
        return f"<RunFolder {self.path}: {', '.join(value for _name, value in self._shown())}>"

    def _repr_html_(self) -> str:
        return html.table(_("Run {path}").format(path=self.path), self._shown())

    def _shown(self) -> list[tuple[str, str]]:
        """(name, value) of what a person wants to know first."""
        metadata, evaluations = self.metadata(), self.rows("metrics")
        rows = [(_("state"), _("finished") if metadata.get("complete") else _("not finished"))]
        measured = [row for row in evaluations if "bits_per_character" in row]
        if measured:
            best = min(measured, key=lambda row: row["bits_per_character"])
            steps = _("{steps:,} steps").format(steps=measured[-1]["step"])
            bits = _("{bits:.3f} bits per character").format(bits=best["bits_per_character"])
            rows += [(_("steps"), steps), (_("best"), bits)]
        if isinstance(metadata.get("parameters"), int):
            size = _("{parameters:,} parameters").format(parameters=metadata["parameters"])
            rows.append((_("size"), size))
        return rows

    @classmethod
    def create(cls, path: Path, config: Mapping[str, Any]) -> RunFolder:
        """Make a run folder, locked and with its config.

        Raises CheckpointError if the place is taken or cannot be written.
        """
        cls.check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            fsync(path.parent)
        except OSError as error:
            raise CheckpointError(
                _("cannot make the run folder {path}: {strerror}; choose another --out").format(
                    path=path, strerror=error.strerror
                )
            ) from None
        run = cls(path)
        run.lock()
        cls.check_free(path)  # another process may have begun here before the lock was held
        replace_file(run.config_file, write_toml(config).encode())
        return run

    @staticmethod
    def check_free(path: Path) -> None:
        """Raise CheckpointError where a new run would overwrite something, or could not be opened.

        A lock and half-written files, which are all that a run killed at its start leaves, do not
        count.
        """
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise CheckpointError(
                _(
                    "the name {path} is not UTF-8, and safetensors opens no other; choose another "
                    "--out"
                ).format(path=path)
            ) from None
        if path.is_dir():
            taken = any(
                not (p.name == ".lock" or p.name.endswith(".partial")) for p in path.iterdir()
            )
        else:
            taken = path.exists()
        if taken:
            raise CheckpointError(
                _("{path} exists already and is not this run; choose another --out").format(
                    path=path
                )
            )

    def lock(self) -> None:
        """Lock the folder for training, until `unlock` or the end of the process.

        Raises CheckpointError, naming the process, where another one holds it.
        """
        self._lock.acquire()

    def unlock(self) -> None:
        """Let another process train here."""
        self._lock.release()

    def check_held(self) -> None:
        """Raise CheckpointError where the folder was locked, and has been moved or removed since:
        asked before whatever is written.
        """
        self._lock.check()

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run folder. Raises CheckpointError if `path` is none."""
        run = cls(path)
        if not path.is_dir():
            raise CheckpointError(
                _("no run folder at {path}; train one with `semigpt train --out {path}`").format(
                    path=path
                )
            )
        if not run.config_file.is_file():
            raise CheckpointError(
                _(
                    "{path} is not a run folder (no config.toml in it); name "
                    "one that `semigpt train` "
                    "made"
                ).format(path=path)
            )
        return run

    @staticmethod
    @contextlib.contextmanager
    def claimed(base: Path) -> Iterator[Path]:
        """A new, empty folder: `base`, or the first of base-2, base-3 … that is not there.

        Making it is what keeps another process from the same name. It is removed in the end if
        nothing came into it.
        """
        path, number = base, 1
        base.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                path.mkdir()
                break
            except FileExistsError:
                number += 1
                path = base.with_name(f"{base.name}-{number}")
        try:
            yield path
        finally:
            with contextlib.suppress(OSError):
                path.rmdir()
                base.parent.rmdir()

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace config.toml, for a run resumed with another value of what it may change."""
        self.check_held()
        replace_file(self.config_file, write_toml(config).encode())

    def begin_leg(self, number: int, config: Mapping[str, Any]) -> None:
        """Replace config.toml by that of leg `number`, and keep the one before in legs/.

        Killed half way, the same call does it again.
        """
        self.check_held()
        self.legs_folder.mkdir(exist_ok=True)
        replace_file(self.legs_folder / f"{number - 1}.toml", self.config_file.read_bytes())
        # First of all the run is unfinished again: its config may be either.
        self.write_metadata({**self.metadata(), "complete": False})
        self.write_config(config)

    def config(self) -> dict[str, Any]:
        """The tables of config.toml."""
        return read_toml(self.config_file)

    def append(self, log: str, row: Mapping[str, Any]) -> None:
        """Add a line to one of the logs. Raises CheckpointError where it cannot be written."""
        self.check_held()
        append_row(self.logs[log], row)

    def rows(self, log: str) -> list[dict[str, Any]]:
        """Every line of one of the logs. Raises CheckpointError for a line that is damaged."""
        return read_rows(self.logs[log])

    def write_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Write what the report shows beside the curves."""
        self.check_held()
        replace_file(
            self.metadata_file,
            json.dumps(metadata, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"),
        )

    def metadata(self) -> dict[str, Any]:
        """What `write_metadata` wrote; empty where there is nothing to read."""
        try:
            return read_json(self.metadata_file, LARGEST_METADATA)
        except (OSError, ValueError):
            return {}

    @property
    def home(self) -> Path | None:
        """The folder in which the SPEC of the run's text was typed; None for an older run."""
        home = self._corpus().get("home")
        return Path(home) if isinstance(home, str) else None

    def text_fingerprint(self) -> str | None:
        """The fingerprint of the text that the run is trained on; None before it is known."""
        known = self._corpus().get("fingerprint")
        for folder in reversed(self.checkpoint_folders()):
            if known is None:
                with contextlib.suppress(ValueError):
                    known = read_json(folder / "progress.json").get("corpus")
        return known if isinstance(known, str) else None

    def check_text(self, fingerprint: str) -> None:
        """Raise CheckpointError where the run was trained on another text than that."""
        known = self.text_fingerprint()
        if known not in (None, fingerprint):
            raise CheckpointError(
                _(
                    "{path} was trained with another corpus: its fingerprint was "
                    "{known}, is {fingerprint}; bring back the old text, say with "
                    "--data where it is now, or train from scratch with another --out"
                ).format(path=self.path, known=str(known)[:12], fingerprint=fingerprint[:12])
            )

    def _corpus(self) -> dict[str, Any]:
        corpus = self.metadata().get("corpus")
        return corpus if isinstance(corpus, dict) else {}

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return bool(self.metadata().get("complete"))

    def check_unfinished(self) -> None:
        """Raise CheckpointError where the run came to its end."""
        if self.complete:
            raise CheckpointError(
                _(
                    "{path} is finished; write with it: semigpt generate {path}, or train "
                    "it further: semigpt train --resume {path} --minutes +10"
                ).format(path=self.path)
            )

    def size(self) -> int:
        """Bytes of the checkpoints and of the models."""
        folders = (self.checkpoints, self.model_folder, self.base_folder, self.adapter_folder)
        files = (path for folder in folders for path in folder.rglob("*"))
        return sum(path.stat().st_size for path in files if path.is_file())

    # Checkpoints

    def save(
        self,
        tensors: Mapping[str, Any],
        metadata: Mapping[str, Any],
        *,
        step: int,
        keep: int,
        write: WriteFile = write_tensors,
    ) -> Path:
        """Write the checkpoint of `step`; the `keep` newest stay, this one included.

        write: writes one of its files, of tensors by name

        It records the logs' lengths, so that resuming cuts them back to this moment. Raises
        CheckpointError where a file cannot be written; older checkpoints stay as they were.
        """
        from safetensors import SafetensorError

        self.check_held()
        final = self.checkpoints / f"step-{step:08d}"
        temporary = self.checkpoints / f".{final.name}.{os.getpid()}.partial"
        try:
            self._remove_partial()
            if not self.checkpoints.exists():
                self.checkpoints.mkdir()
                fsync(self.path)
            temporary.mkdir()
            for group in TENSOR_FILES:
                write(tensors[group], temporary / f"{group}.safetensors")
            sizes = log_sizes(self.logs)
            digests = {name: log_digest(self.logs[name], sizes[name]) for name in sizes}
            progress = {"step": step, "logs": sizes, "log_sha256": digests, **metadata}
            (temporary / "progress.json").write_text(
                json.dumps(progress, indent=1), encoding="utf-8"
            )
            manifest = {path.name: sha256_file(path) for path in sorted(temporary.iterdir())}
            (temporary / "manifest.json").write_text(
                json.dumps(manifest, indent=1), encoding="utf-8"
            )
            logs = [log for log in self.logs.values() if log.exists()]
            for path in (*temporary.iterdir(), *logs):
                fsync(path)
            fsync(temporary)
            self.check_held()
            if final.exists():  # found damaged, when the run was resumed from an older one
                discard_folder(final)
            temporary.rename(final)
            fsync(self.checkpoints)
            verified(final, self.logs)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise CheckpointError(
                _(
                    "cannot write the checkpoint {final}: {error}; {last_good}: free "
                    "some disk or mend its permissions, then `semigpt train --resume {path}`"
                ).format(
                    final=final, error=reason(error), last_good=self.last_good(), path=self.path
                )
            ) from None
        self.check_held()
        for old in self.checkpoint_folders()[:-keep]:
            discard_folder(old)
        return final

    def last_good(self) -> str:
        """A clause that names the newest whole checkpoint, for an error message."""
        for folder in reversed(self.checkpoint_folders()):
            with contextlib.suppress(CheckpointError):
                verified(folder, self.logs)
                return _("the last good checkpoint, {name}, is intact").format(name=folder.name)
        return _("no checkpoint had been saved before it")

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is intact; None before the first one.

        Raises CheckpointError, naming what is wrong with the newest, where none is intact, or
        where the system has no memory or files left to read it.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        problem: str | None = None
        for folder in reversed(self.checkpoint_folders()):
            try:
                metadata = verified(folder, self.logs)
                tensors = {
                    group: load_file(folder / f"{group}.safetensors") for group in TENSOR_FILES
                }
            except UnreadError:
                raise
            except (CheckpointError, OSError, SafetensorError) as error:
                if is_shortage(error):
                    raise unread(folder, error) from None
                problem = problem or " ".join(str(error).split())
                continue
            return Checkpoint(folder, tensors, metadata)
        if problem is None:
            return None
        raise CheckpointError(
            _(
                "{problem}; no whole checkpoint is left in {checkpoints}: bring the files back, "
                "or train from scratch with another --out"
            ).format(problem=problem, checkpoints=self.checkpoints)
        )

    @property
    def has_checkpoints(self) -> bool:
        """Whether any checkpoint is there, intact or not."""
        return bool(self.checkpoint_folders())

    def damaged(self) -> Iterator[str]:
        """A line for each checkpoint that `newest` would pass over."""
        for folder in self.checkpoint_folders():
            try:
                verified(folder, self.logs)
            except CheckpointError as error:
                yield str(error)

    def rewind(self, checkpoint: Checkpoint | None) -> None:
        """Cut the logs back to a checkpoint (None: to the run's start), and remove newer ones.

        Newer checkpoints are damaged. Raises CheckpointError, having changed nothing, where a log
        is shorter than it was when the checkpoint was saved, or another.
        """
        self.check_held()
        lengths = dict.fromkeys(self.logs, 0) if checkpoint is None else checkpoint.metadata["logs"]
        digests = {} if checkpoint is None else checkpoint.metadata.get("log_sha256", {})
        check_logs(self.logs, lengths, digests)
        try:
            cut_logs(self.logs, lengths)
        except OSError as error:
            raise CheckpointError(
                _("cannot write in {path}: {strerror}; mend its permissions").format(
                    path=self.path, strerror=error.strerror
                )
            ) from None
        for folder in self.checkpoint_folders():
            if checkpoint is None or folder.name > checkpoint.folder.name:
                discard_folder(folder)
        self._remove_partial()

    def checkpoint_folders(self) -> list[Path]:
        """The checkpoints, the oldest first; a folder of any other name is not ours."""
        return [path for path in self._entries() if CHECKPOINT.fullmatch(path.name)]

    def _entries(self) -> list[Path]:
        return sorted(self.checkpoints.iterdir()) if self.checkpoints.is_dir() else []

    def _remove_partial(self) -> None:
        """Remove what earlier saves left half done; only the process that holds the lock calls."""
        for left in self._entries():
            if UNFINISHED.fullmatch(left.name):
                shutil.rmtree(left, ignore_errors=True)
        remove_partial(self.path, ("config.toml", "metadata.json", "report.html", "model.html"))
        for folder in (self.model_folder, self.base_folder, self.adapter_folder):
            remove_partial(folder, MODEL_FILES)
