"""Landlock, with which a process on Linux takes from itself what it will not need: files, programs
and connections. What is taken does not come back.

The calls are the kernel's own (landlock(7)), since the C library has none of them.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from semigpt.language import _

__all__ = ["restrict"]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same number on every processor
VERSION = 1  # a flag: answer with the version alone
PATH_BENEATH = 1
NO_NEW_PRIVILEGES = 38  # of prctl(2); what the kernel asks of a process without privileges
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
# Rights on files that a version knows, from the lowest bit on: to execute, to write, to read, to
# make and remove each kind of file, then to link, to cut off, and to send a device commands.
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
MOST_RIGHTS = 16
TCP = 0b11  # to bind and to connect, from version 4 on
SIGNALS_AND_SOCKETS = 0b11  # of processes outside, from version 6 on


def restrict(readable: Iterable[Path]) -> bool:
    """Leave the calling thread, and those it starts, these folders to read, and nothing else.

    No other file can be opened, no program started, no port bound or connected to (Linux 6.7) and
    no process signalled (6.12); what is open stays open. False where the system has no Landlock.
    """
    if not sys.platform.startswith("linux"):
        return False
    system = ctypes.CDLL(None, use_errno=True)
    version = system.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), VERSION)
    if version < 1:
        return False
    rights = (1 << RIGHTS.get(version, MOST_RIGHTS)) - 1
    ruleset = struct.pack("=QQQ", rights, TCP, SIGNALS_AND_SOCKETS)
    ruleset = ruleset[: 8 if version < 4 else 16 if version < 6 else 24]
    rules = system.syscall(CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("=Qi", READ_FILE | READ_FOLDER, folder)
                if system.syscall(ADD_RULE, rules, PATH_BENEATH, rule, 0):
                    raise OSError(
                        ctypes.get_errno(), _("Landlock does not take {path}").format(path=path)
                    )
            finally:
                os.close(folder)
        ended = system.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        return not ended and not system.syscall(RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)
