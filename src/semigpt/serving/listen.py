"""Where the server listens, and whom that lets in."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from semigpt.errors import SettingsError
from semigpt.language import _
from semigpt.system import made_private

__all__ = ["address", "check_host", "check_origins", "listening", "listening_at", "read_key"]

SHORTEST_KEY = 16  # characters
WAITING = 128  # connections that the system keeps until they are taken up
ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")


def read_key(path: Path | None) -> str | None:
    """The key of a file, else of the variable SEMIGPT_KEY: a command line is seen by everybody.

    Raises SettingsError for one that is too short, or that no header can hold.
    """
    where = str(path) if path is not None else "SEMIGPT_KEY"
    try:
        key = os.environ.get("SEMIGPT_KEY") if path is None else path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        key = "\n"
    if key is None:
        return None
    if len(key) < SHORTEST_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise SettingsError(
            _(
                "{where} needs a key of at least {shortest_key} ASCII letters, digits and signs; "
                "make one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
            ).format(where=where, shortest_key=SHORTEST_KEY)
        )
    return key


def check_host(host: str, key: str | None) -> None:
    """Raises SettingsError for a host that others can reach, without a key."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    if not local and key is None:
        raise SettingsError(
            _(
                "--host {host} lets others in: give a key with --key-file FILE, or leave --host out"
            ).format(host=host)
        )


def check_origins(origins: Sequence[str]) -> None:
    """Raises SettingsError for what is no origin as browsers spell it, such as `*` or a path."""
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise SettingsError(
                _(
                    "--allow-origin {origin} is no origin; write it as "
                    "http://localhost:3000, without "
                    "a path"
                ).format(origin=origin)
            )


def address(host: str, port: int) -> str:
    """As a URL has it."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets that listen at each address of a host. Raises SettingsError where none can."""
    with contextlib.ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            sockets = [
                stack.enter_context(_listening(family, place))
                for family, place in sorted({(each[0], each[4]) for each in found})
            ]
        except OSError as error:
            raise SettingsError(
                _("{host}:{port} cannot be listened on ({error}); give another --port").format(
                    host=host, port=port, error=_reason(error)
                )
            ) from None
        yield sockets


def _listening(family: socket.AddressFamily, place: Any) -> socket.socket:
    # With its protocol named: else asyncio leaves Nagle's algorithm on, and each answer on a
    # connection that is kept waits for the client's delayed acknowledgement, 40 ms.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
        made.listen(WAITING)
    except OSError:
        made.close()
        raise
    return made


@contextlib.contextmanager
def listening_at(path: Path) -> Iterator[list[socket.socket]]:
    """A Unix socket that this user alone can connect to. One that nobody listens at gives way.

    Raises SettingsError where there can be none.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise SettingsError(_("--socket needs a system with Unix sockets; use --port"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
        try:
            if path.is_socket() and made.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()
            with made_private():
                made.bind(str(path))
        except OSError as error:
            raise SettingsError(
                _("{path} cannot be made ({error}); remove it or choose another --socket").format(
                    path=path, error=_reason(error)
                )
            ) from None
        made.listen(WAITING)
        yield [made]


def _reason(error: OSError) -> str:
    """The system's words alone: Python adds the address to some."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)
