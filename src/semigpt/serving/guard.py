"""What stands before the routes: who may ask, what is too large, and what takes too long.

`Guard` is plain ASGI. It compares `scope["path"]` with a table, exactly: nothing is rebuilt from
the Host header, and there is no prefix. `GuardedProtocol` closes connections that uvicorn would
keep open.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http
import json
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Guard", "GuardedProtocol", "RefusalError", "error_body", "error_table"]

MOST_BODY = 1 << 20  # bytes
MOST_HEADERS = 100
MOST_HEAD = 1 << 15  # bytes of a request's line and headers
MOST_CONNECTIONS = 512
HEAD_SECONDS, BODY_SECONDS, SEND_SECONDS = 5.0, 10.0, 30.0
LOCAL_HOST = re.compile(r"(127(\.[0-9]{1,3}){3}|localhost|\[::1\])(:[0-9]{1,5})?")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

KINDS = {401: "authentication_error", 429: "rate_limit_error", 503: "server_error"}


class RefusalError(Exception):
    """An answer that is an error, in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def why(self) -> str:
        """A word for `/metrics`."""
        return self.code or str(self.status)


def error_body(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> bytes:
    """OpenAI's JSON for an error."""
    error = error_table(status, message, param, code)
    return json.dumps({"error": error}, ensure_ascii=False).encode("utf-8", "backslashreplace")


def error_table(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> dict[str, str | None]:
    """What OpenAI's JSON says of an error."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"message": message, "type": kind, "param": param, "code": code}


class Guard:
    """An ASGI application around another, which sees only requests that may be answered.

    paths: the methods of each path, exactly as it is asked for
    open_paths: those that need no key: the page knows nothing before it has one
    key: None where the server listens on this machine alone; then only its own names are hosts
    origins: of pages from elsewhere that may ask, spelt exactly as browsers do
    refused: called with a word for each refusal
    """

    def __init__(
        self,
        app: App,
        paths: Mapping[str, set[str]],
        *,
        open_paths: frozenset[str] = frozenset({"/", "/health"}),
        key: str | None = None,
        origins: Collection[str] = (),
        refused: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._app, self._paths, self._open_paths = app, paths, open_paths
        self._key = None if key is None else _digest(key.encode())
        self._origins = frozenset(origins)
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        send = self._with_headers(scope, send)
        try:
            headers = self._headers(scope)
            if self._is_preflight(scope, headers):
                await self._allow(send)
                return
            self._check_key_and_path(scope, headers)
            body = await self._body(scope, headers, receive) if scope["method"] == "POST" else b""
        except RefusalError as refusal:
            self.refused(refusal.why)
            await send_error(send, refusal)
            return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def bounded_send(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send(message)

        await self._app(scope, replay, bounded_send)

    def _with_headers(self, scope: Scope, send: Send) -> Send:
        """`send`, which tells browsers to take an answer as what it is called, and which page of
        another origin may read it.
        """
        added = [(b"x-content-type-options", b"nosniff")]
        found = [value for name, value in scope["headers"] if name == b"origin"]
        if len(found) == 1 and found[0].decode("latin-1") in self._origins:
            added += [(b"access-control-allow-origin", found[0]), (b"vary", b"origin")]

        async def send_added(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        return send_added

    def _is_preflight(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Whether a browser asks if a page of an allowed origin may ask; it sends no key."""
        return (
            scope["method"] == "OPTIONS"
            and headers.get("origin") in self._origins
            and "access-control-request-method" in headers
            and scope["path"] in self._paths
        )

    async def _allow(self, send: Send) -> None:
        headers = {
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": "authorization, content-type",
            "access-control-max-age": "600",
            "content-length": "0",
        }
        await send({"type": "http.response.start", "status": 204, "headers": _raw(headers)})
        await send({"type": "http.response.body", "body": b""})

    def _headers(self, scope: Scope) -> dict[str, str]:
        """The headers, which name no foreign host or origin. Raises RefusalError."""
        if len(scope["headers"]) > MOST_HEADERS:
            raise RefusalError(431, f"over {MOST_HEADERS} headers", code="head_too_large")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if self._key is None and not LOCAL_HOST.fullmatch(host):
            raise RefusalError(
                421, "this server answers to its own machine's names alone", code="foreign_host"
            )
        origin, own = headers.get("origin"), (f"http://{host}", f"https://{host}")
        if origin is not None and origin not in own and origin not in self._origins:
            raise RefusalError(
                403, "pages of other origins may not ask this server", code="foreign_origin"
            )
        return headers

    def _check_key_and_path(self, scope: Scope, headers: Mapping[str, str]) -> None:
        """Raises RefusalError."""
        path, method = scope["path"], scope["method"]
        if self._key is not None and path not in self._open_paths:
            given = headers.get("authorization", "")
            scheme, _, key = given.partition(" ")
            matches = hmac.compare_digest(_digest(key.strip().encode("latin-1")), self._key)
            if not matches or scheme.lower() != "bearer":
                raise RefusalError(
                    401,
                    "no key, or a wrong one; send it as `Authorization: Bearer KEY`",
                    code="invalid_api_key",
                    headers={"www-authenticate": "Bearer"},
                )
        if path not in self._paths:
            raise RefusalError(404, f"there is no {path[:100]}", code="not_found")
        if method not in self._paths[path]:
            allowed = ", ".join(sorted(self._paths[path]))
            raise RefusalError(
                405, f"{path} takes {allowed}", code="wrong_method", headers={"allow": allowed}
            )

    async def _body(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> bytes:
        """The body, which is JSON that has one meaning. Raises RefusalError."""
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise RefusalError(415, "send the body as application/json", code="wrong_media_type")
        too_large = RefusalError(
            413,
            f"the body is over {MOST_BODY:,} bytes",
            code="request_too_large",
            headers={"connection": "close"},
        )
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and (len(length) > 9 or int(length) > MOST_BODY):
            raise too_large
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise RefusalError(400, "the request ended before its body did")
                    body += message.get("body", b"")
                    if len(body) > MOST_BODY:
                        raise too_large
                    more = message.get("more_body", False)
        except TimeoutError:
            raise RefusalError(
                408, "the body came too slowly", code="timeout", headers={"connection": "close"}
            ) from None
        check_json(bytes(body))
        return bytes(body)


def check_json(body: bytes) -> None:
    """Raises RefusalError for what is no JSON, or means one thing here and another elsewhere."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            raise ValueError("a name stands twice in an object")
        return table

    def no_constant(name: str) -> Any:
        raise ValueError(f"{name} is no JSON")

    try:
        value = json.loads(body.decode(), object_pairs_hook=unique, parse_constant=no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise RefusalError(400, "the body is nested too deeply", code="no_json") from None
    except UnicodeEncodeError:
        raise RefusalError(400, "the body has half of a surrogate pair", code="no_json") from None
    except ValueError as error:
        message = f"the body is no JSON: {str(error)[:200]}"
        raise RefusalError(400, message, code="no_json") from None


def _digest(key: bytes) -> bytes:
    """Digests are compared, so that not even the length of a key shows."""
    return hashlib.sha256(key).digest()


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]


async def send_error(send: Send, refusal: RefusalError) -> None:
    """Answer with an error."""
    body = error_body(refusal.status, refusal.message, refusal.param, refusal.code)
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **refusal.headers,
    }
    start = {"type": "http.response.start", "status": refusal.status, "headers": _raw(headers)}
    await send(start)
    await send({"type": "http.response.body", "body": body})


class GuardedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 with a clock for heads, a bound on connections, and JSON errors."""

    _head_timer: asyncio.TimerHandle | None = None

    # uvicorn narrows asyncio's own type in the same way.
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            message = f"over {MOST_CONNECTIONS} connections; try again later"
            self._close_with(503, message, "too_many_connections")
        else:
            self._watch_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_watching()
        elif self._head_timer is None:
            self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._close_with(400, msg, "no_http")
        else:  # in the middle of an answer
            self.transport.close()

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _stop_watching(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self._close_with(408, "the request's head came too slowly", "timeout")

    def _close_with(self, status: int, message: str, code: str) -> None:
        """Answer without the application, and close."""
        if isinstance(self.app, Guard):
            self.app.refused(code)
        body = error_body(status, message, code=code)
        head = (
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()
