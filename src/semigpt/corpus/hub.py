"""Datasets on the Hugging Face Hub, read by the `datasets` library at a fixed commit."""

from semigpt.corpus.library import library_errors, one_line, open_datasets, open_splits
from semigpt.corpus.reading import Reading
from semigpt.corpus.spec import HubSource
from semigpt.errors import CorpusError
from semigpt.language import _

__all__ = ["open_hub"]

HUB_SECONDS = 10.0  # the Hub counts as unreachable where it takes longer to answer


def open_hub(source: HubSource, column: str | None) -> Reading:
    """A dataset on the Hub, streamed or downloaded whole.

    Raises CorpusError where the Hub cannot be reached, the dataset, configuration, split or column
    is not there, or it is a program.
    """
    import datasets

    where = f"hf:{source.name}"
    revision = _commit(source)
    with library_errors(where, "a dataset"):
        builder = datasets.load_dataset_builder(source.name, name=source.config, revision=revision)
        loaded = open_datasets(where, builder, source.split, streaming=source.streaming)
    streams = {"": loaded} if source.split is not None else dict(loaded)
    reading = open_splits(where, streams, None, column, revision)
    reading.is_hub = True
    return reading


def _commit(source: HubSource) -> str | None:
    """The commit that the dataset's revision names.

    One request without retries, which soon finds out whether there is a Hub at all.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    where = f"hf:{source.name}"
    try:
        info = HfApi().dataset_info(source.name, revision=source.revision, timeout=HUB_SECONDS)
    except OfflineModeIsEnabled:
        if not source.streaming:
            return source.revision  # what was downloaded before can still be loaded
        raise CorpusError(
            _(
                "{where}: HF_HUB_OFFLINE is set, so the Hub is not asked: unset it, "
                "or name files with --data"
            ).format(where=where)
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403, 404):
            at = (
                _(" at revision {revision}").format(revision=source.revision)
                if source.revision
                else ""
            )
            raise CorpusError(
                _(
                    "{where}: not on {endpoint}{at}, or it is closed to you: "
                    "check the name, or log in with `hf auth login`"
                ).format(where=where, endpoint=constants.ENDPOINT, at=at)
            ) from None
        raise CorpusError(
            _("{where}: {endpoint} answered {status}: try again later").format(
                where=where, endpoint=constants.ENDPOINT, status=status
            )
        ) from None
    except Exception as error:
        # The HTTP client's own errors; which client it is differs by version.
        raise CorpusError(
            _(
                "{where}: no connection to {endpoint} ({error}): "
                "check the network, or name `news` or files of your own with --data"
            ).format(where=where, endpoint=constants.ENDPOINT, error=one_line(error))
        ) from None
    script = f"{source.name.split('/')[-1]}.py"
    if any(file.rfilename == script for file in info.siblings or ()):
        raise CorpusError(
            _(
                "{where}: it is a program ({script}), not data: programs from the Hub are never run"
            ).format(where=where, script=script)
        )
    return info.sha
