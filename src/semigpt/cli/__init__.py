"""`semigpt`: parse, call, print. What a script reads goes to standard output, everything else to
standard error.

A file holds a command: its flags and what it does. Exit codes: 0 done; 1 the answer is no (a check
that found a difference); 2 something the user can put right, said in one line; 130, 143 and 129
stopped by SIGINT, SIGTERM or SIGHUP, and 141 because whoever read standard error has gone, what
there was to save saved.

Nothing heavy is imported here: `semigpt --help` answers in a tenth of a second, and each command
imports what it needs.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from semigpt.cli import (
    evaluate,
    export,
    generate,
    ladder,
    plan,
    serve,
    text,
    tokenizer,
    torture,
    tour,
    train,
)
from semigpt.cli.flags import Parser, add_language_flag, language_asked_for
from semigpt.cli.output import EXIT_BAD_INPUT, broken_pipe, note, one_line, standard_streams
from semigpt.cli.processes import LOST, told_launcher
from semigpt.errors import LostProcessError, SemigptError
from semigpt.language import _, speaking
from semigpt.system import is_out_of_memory

__all__ = ["build_parser", "main"]

COMMANDS = (tour, train, generate, serve, evaluate, export, ladder, text, tokenizer, plan, torture)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    with speaking(language_asked_for(given)), standard_streams():
        return told_launcher(_main(given))


def _main(given: list[str]) -> int:
    parser = build_parser()
    try:
        options = parser.parse_args(given)
        options.arguments = given
        if options.run is None:
            parser.print_help(sys.stderr)
            return EXIT_BAD_INPUT
        code: int = options.run(options)
        sys.stdout.flush()
        return code
    except LostProcessError as error:
        one_line(str(error))
        return LOST
    except SemigptError as error:
        return one_line(str(error))
    except BrokenPipeError:
        return broken_pipe()
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or error
        return one_line(
            _("{place}{reason}; check the path, its permissions and the free disk").format(
                place=place, reason=reason
            )
        )
    except KeyboardInterrupt as stop:
        for line in getattr(stop, "__notes__", ()):
            note(line)
        return 128 + signal.SIGINT
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return one_line(
            _("not enough memory for this; choose a smaller --size, batch_size or context_length")
        )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    from semigpt import __version__

    parser = Parser(prog="semigpt", description=_("A language model of your own from Korean text."))
    add_language_flag(parser, default=None)
    parser.set_defaults(run=None, parser=None)
    parser.add_argument(
        "--version",
        action="version",
        version=f"semigpt {__version__}",
        help=_("show program's version number and exit"),
    )
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser
