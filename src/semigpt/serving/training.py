"""GET /v1/training: the curve of a run, and what it has written, while it trains."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import FastAPI, Query
from fastapi.responses import Response

from semigpt.serving.guard import RefusalError
from semigpt.serving.requests import Server
from semigpt.settings import nearest

__all__ = ["add_training"]


def add_training(app: FastAPI, server: Server) -> None:
    """Add this route."""

    @app.get("/v1/training")
    async def training(
        model: Annotated[str | None, Query(max_length=256)] = None,
        after: Annotated[int, Query(ge=-1, le=2**53)] = -1,
    ) -> Response:
        """A run's losses, baselines and samples after a step, of some 1,000 rows the first ones.

        Without a name the first run's. The server looks at the run's folder once a second.
        """
        runs = server.trainings
        name = next(iter(runs), "") if model is None else model
        if name not in runs:
            message = f"there is no run {name[:100]!r}: {nearest(name[:100], runs)}"
            if not runs:
                message = "none of what is served is a run folder"
            raise RefusalError(404, message, param="model", code="model_not_found")
        # In ASCII: a sample may hold half of a surrogate pair, which UTF-8 cannot.
        body = json.dumps({"model": name, **runs[name].after(after)})
        return Response(body, media_type="application/json")
