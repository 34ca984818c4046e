"""GET /: the page, which asks the API for everything else. It is read when the server starts."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import Response

from semigpt.export.page_file import served_page

__all__ = ["add_page"]


def add_page(app: FastAPI, *, asks_key: bool) -> None:
    """Add this route.

    asks_key: whether the page asks its reader for the server's key
    """
    page, policy = served_page(asks_key=asks_key)
    body = page.encode()
    headers = {
        "content-security-policy": f"{policy}; frame-ancestors 'none'",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "no-store",
    }

    @app.get("/", include_in_schema=False)
    async def the_page() -> Response:
        """A page without weights and without a key, the same for everybody."""
        return Response(body, headers=headers, media_type="text/html")
