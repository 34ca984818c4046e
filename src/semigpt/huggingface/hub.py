"""Model folders on the Hugging Face Hub: names, and what is fetched of them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from semigpt.errors import CheckpointError, SettingsError
from semigpt.language import _

__all__ = ["HUB", "fetched", "hub_errors", "local_folder"]

HUB = "hf:"
NAME = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")
# Data alone: no pickles and no programs. What lies in folders is for other programs.
FETCHED = ("*.json", "*.safetensors", "*.model", "*.txt")
NOT_FETCHED = ("*/*",)


def local_folder(path: Path | str) -> Path:
    """`path` itself, or for hf:USER/NAME[@REVISION] the folder in which that was fetched."""
    name = path if isinstance(path, str) else path.as_posix()
    return fetched(name) if name.startswith(HUB) else Path(path)


@cache
def fetched(name: str) -> Path:
    """The local folder of hf:USER/NAME[@REVISION], fetched once and kept by `huggingface_hub`.

    Raises SettingsError for another spelling, CheckpointError where there is no such model or the
    Hub does not answer.
    """
    parts = NAME.fullmatch(name)
    if parts is None:
        raise SettingsError(
            _("a model of the Hub is hf:USER/NAME[@REVISION], not {name!r}").format(name=name)
        )
    from huggingface_hub import snapshot_download

    with hub_errors(name):
        return Path(
            snapshot_download(
                parts[1],
                revision=parts[2],
                allow_patterns=list(FETCHED),
                ignore_patterns=list(NOT_FETCHED),
            )
        )


@contextlib.contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """What the Hub or the way to it says, as a CheckpointError of one line about `name`."""
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "nothing"
        advice = _("try again later")
        if status in (401, 403, 404):
            advice = _("check the name, or log in with `hf auth login`")
        raise CheckpointError(
            _("{name}: {endpoint} answered {status}: {advice}").format(
                name=name, endpoint=constants.ENDPOINT, status=status, advice=advice
            )
        ) from None
    except LocalEntryNotFoundError:
        raise CheckpointError(
            _(
                "{name}: no connection to {endpoint}, and it was not fetched before: check "
                "the network, or name a folder"
            ).format(name=name, endpoint=constants.ENDPOINT)
        ) from None
    except Exception as error:  # the HTTP client's own; which client it is differs by version
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise CheckpointError(
            _("{name}: no answer from {endpoint} ({reason}): check the network").format(
                name=name, endpoint=constants.ENDPOINT, reason=reason
            )
        ) from None
