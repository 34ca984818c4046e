"""The parser, and the flags that several commands share."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any, NoReturn, TypeAlias

from semigpt.cli.output import EXIT_BAD_INPUT
from semigpt.columns import columns, wrapped
from semigpt.errors import SettingsError
from semigpt.language import LANGUAGES, N_, _
from semigpt.settings import nearest

__all__ = [
    "Commands",
    "Parser",
    "Specs",
    "add_command",
    "add_data_flags",
    "add_group",
    "add_json_flag",
    "add_language_flag",
    "add_machine_flags",
    "asked_for",
    "language_asked_for",
]

# argparse's own messages (Python 3.11 to 3.13), which it looks up in the catalog that `speaking`
# binds.
ARGPARSE = (
    N_("usage: "),
    N_("positional arguments"),
    N_("options"),
    N_("show this help message and exit"),
    N_("argument %(argument_name)s: %(message)s"),
    N_("the following arguments are required: %s"),
    N_("one of the arguments %s is required"),
    N_("expected one argument"),
    N_("expected at most one argument"),
    N_("expected at least one argument"),
    N_("ignored explicit argument %r"),
    N_("not allowed with argument %s"),
    N_("invalid %(type)s value: %(value)r"),
    N_("invalid choice: %(value)r (choose from %(choices)s)"),
    N_("unknown parser %(parser_name)r (choices: %(choices)s)"),
)

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help broken by the columns of a terminal: argparse counts characters."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return wrapped(text, width).split("\n")

    def _format_usage(self, usage: Any, actions: Any, groups: Any, prefix: str | None) -> str:
        wider = columns(_("usage: ")) - len(_("usage: "))
        self._width -= wider
        text = super()._format_usage(usage, actions, groups, prefix)
        self._width += wider
        return text.replace("\n ", "\n " + " " * wider)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_HelpFormatter, **settings)

    def error(self, message: str) -> NoReturn:
        flag = re.search(r"--[a-z-]+", message)
        lacking, _names, _end = _("the following arguments are required: %s").partition("%s")
        if flag is not None and message.endswith(_("expected one argument")):
            message = _("{message}; one that begins with - is joined to it: {flag}=-…").format(
                message=message, flag=flag[0]
            )
        elif self.takes_text and message.startswith(lacking):
            message = _("; ").join((message, self.dash_hint))
        raise SettingsError(
            _("{message}; see `{prog} --help`").format(message=message, prog=self.prog)
        )

    @property
    def takes_text(self) -> bool:
        """Whether an argument is a text of the user's own, which may begin with a dash."""
        return any(action.dest in ("prompt", "text") for action in self._actions)

    @property
    def dash_hint(self) -> str:
        return _("a text that begins with - goes last, after --: `{prog} … -- -…`").format(
            prog=self.prog
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = self.parse_known_args(args, namespace)
        command = options.parser or self
        if getattr(options, "prompt", None) == "" and (text := _text_behind_flags(unknown)):
            options.prompt, unknown = text, []
        if unknown:
            name = unknown[0].split("=")[0]
            hint = _("one argument too many")
            if name.startswith("-"):
                flags = (flag for action in command._actions for flag in action.option_strings)
                long = (flag for flag in flags if flag.startswith("--"))
                hint = nearest(name, long, listed=not command.takes_text)
                if command.takes_text:
                    hint = _("; ").join(filter(None, (command.dash_hint, hint)))
            raise SettingsError(
                _("unknown argument {unknown!r}: {hint}; see `{prog} --help`").format(
                    unknown=unknown[0], hint=hint, prog=command.prog
                )
            )
        return options


def _text_behind_flags(unknown: list[str]) -> str | None:
    """The text in what argparse leaves over: it gives an optional one that stands behind a flag to
    nobody.
    """
    if len(unknown) == 2 and unknown[0] == "--":
        return unknown[1]
    return unknown[0] if len(unknown) == 1 and not unknown[0].startswith("-") else None


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[argparse.Namespace], int],
    help: str,
    epilogue: str = "",
) -> Parser:
    """A command that `run` does."""
    parser: Parser = commands.add_parser(
        name, help=help, description=f"{help}\n\n{epilogue}".strip()
    )
    parser.set_defaults(run=run, parser=parser)
    add_language_flag(parser)
    return parser


def add_language_flag(parser: Parser, default: Any = argparse.SUPPRESS) -> None:
    """--lang, which `language_asked_for` reads before the parser is built in that language."""
    parser.add_argument(
        "--lang",
        choices=LANGUAGES,
        default=default,
        help=_("the language of what is said (default: LANG's)"),
    )


def language_asked_for(arguments: Sequence[str]) -> str | None:
    """The language that a command line names, if it is one of ours."""
    lines = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    lines.add_argument("--lang", nargs="?")
    flags = [*takewhile(lambda argument: argument != "--", arguments)]
    asked = lines.parse_known_args(flags)[0].lang
    return asked if asked in LANGUAGES else None


def add_group(commands: Commands, name: str, help: str) -> Commands:
    """A command that only holds others: without one of them it prints its help."""
    parser = add_command(commands, name, _print_help, help)
    return parser.add_subparsers(metavar="COMMAND")


def _print_help(options: argparse.Namespace) -> int:
    options.parser.print_help(sys.stderr)
    return EXIT_BAD_INPUT


class Specs(argparse.Action):
    """SPECs that are one corpus, however often the flag is given: lines of one string."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        given = [values] if isinstance(values, str) else values
        if before := getattr(namespace, self.dest):
            given = [before, *given]
        setattr(namespace, self.dest, "\n".join(given))


def add_data_flags(parser: Parser) -> None:
    """--data, --column and --split; one --data takes several SPECs where no argument is behind it.

    So it is added after the arguments of a command.
    """
    alone = all(action.option_strings for action in parser._actions)
    parser.add_argument(
        "--data",
        metavar="SPEC",
        nargs="+" if alone else None,
        action=Specs,
        help=_("the text, - for standard input; several are one (default: news, practice news)"),
    )
    parser.add_argument(
        "--column",
        help=_("the column that holds it (default: document, text, or the only text column)"),
    )
    parser.add_argument(
        "--split",
        help=_("auto, offset:0.9 (the book's cut) ...; for evaluate: train, validation or test"),
    )


def add_machine_flags(parser: Parser) -> None:
    parser.add_argument("--device", help=_("auto (default), cpu, cuda or mps"))
    parser.add_argument("--precision", help=_("auto (default), float32 or bfloat16"))


def add_json_flag(parser: Parser, help: str | None = None) -> None:
    parser.add_argument("--json", action="store_true", help=help or _("print one JSON object"))


def asked_for(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The named flags that were given, by name."""
    found = ((name, getattr(options, name)) for name in names)
    return {name: value for name, value in found if value is not None}
