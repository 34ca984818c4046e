"""`semigpt generate --interactive`: one text that a person and a model write in turn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from semigpt.cli.output import is_live, note, standard_input
from semigpt.errors import SettingsError
from semigpt.language import N_, _

if TYPE_CHECKING:
    from semigpt.generation.engine import Engine
    from semigpt.generation.stream import Chunk

__all__ = ["converse"]

GREETING = N_("Write a line, and the model goes on behind it. /? for help, Ctrl-D to leave.")
HELP = N_(
    """\
  a line        the text goes on with it, and then with what the model writes
  Enter alone   the model goes on
  /again        write the last answer once more, otherwise
  /temp 0.5     the temperature: lower is safer, higher is wilder; 0 takes the
                likeliest
  /show         paint by surprise, with what else was likely; once more to stop
  //...         a line that begins with /
  /quit         leave, as Ctrl-D does"""
)


class Talk:
    """The text so far, and how it is continued.

    settings: of `Engine.stream`
    """

    def __init__(self, engine: Engine, settings: dict[str, Any], *, show: bool) -> None:
        from semigpt.generation.engine import Conversation

        self.engine, self.settings, self.show = engine, settings, show
        self.conversation = Conversation()
        self.text = ""  # before the last answer
        self.answer = ""
        self.again = 0

    def go_on(self, line: str) -> None:
        """Put the line behind the text, and write."""
        self.text += self.answer + line
        self.again = 0
        self._write(line)

    def once_more(self) -> None:
        """Write the last answer anew: the text before it is read again."""
        from semigpt.generation.engine import Conversation

        self.conversation = Conversation()
        self.again += 1
        self._write(self.text)

    def _write(self, prompt: str) -> None:
        from semigpt.cli.generate import write_chunks

        seed = self.settings["seed"]
        settings = {
            **self.settings,
            "seed": None if seed is None else seed + self.again,
            "logprobs": 5 if self.show else None,
        }
        self.answer = ""
        chunks = self.engine.stream(prompt, conversation=self.conversation, **settings)
        write_chunks(self._kept(chunks, echoed=settings["echo"]), show=self.show)

    def _kept(self, chunks: Iterator[Chunk], *, echoed: bool) -> Iterator[Chunk]:
        """The chunks, their text kept but for an echo of the prompt."""
        written = ""
        for chunk in chunks:
            written += chunk.text
            yield chunk
        before = self.engine.normalized(self.text) if echoed else ""
        self.answer = written.removeprefix(before)

    def command(self, line: str) -> bool:
        """Do what a line with a / asks; whether the talk goes on."""
        name, _space, argument = line.partition(" ")
        if name == "/quit":
            return False
        if name == "/again" and self.text + self.answer:
            self.once_more()
        elif name == "/show":
            self.show = not self.show
            note(_("painted by surprise") if self.show else _("plain"))
        elif name == "/temp":
            self.set_temperature(argument)
        else:
            note(_(HELP))
        return True

    def set_temperature(self, argument: str) -> None:
        sampling = self.settings["sampling"]
        try:
            if argument:
                sampling = replace(sampling, temperature=float(argument))
                self.settings["sampling"] = sampling
        except (ValueError, SettingsError):
            note(_("/temp takes a number from 0 on, such as /temp 0.5"))
            return
        note(_("temperature {temperature:g}").format(temperature=sampling.temperature))


def converse(engine: Engine, prompt: str, settings: dict[str, Any], *, show: bool) -> None:
    """Write, take a line from standard input, continue behind it: one text, read once.

    Commands are a person's: piped lines are text, whatever they begin with.
    """
    lines, asked = standard_input(), is_live(sys.stdin)
    talk = Talk(engine, settings, show=show)
    if asked:
        note(_(GREETING))
    try:
        if prompt:
            talk.go_on(prompt)
        settings["echo"] = False  # a line that is typed stands on the screen already
        while True:
            if asked:
                print("> ", end="", file=sys.stderr, flush=True)
            line = lines.readline()
            if not line:
                break
            text = line.decode("utf-8", "replace").rstrip("\r\n")
            if asked and text.startswith("/") and not text.startswith("//"):
                if not talk.command(text):
                    return
            else:
                talk.go_on(text.removeprefix("/") if asked else text)
    except KeyboardInterrupt:
        if asked:
            print(file=sys.stderr)  # the shell's prompt begins a line of its own
        raise
    if asked:
        print(file=sys.stderr)
