"""The terminal's side: reads lines, streams replies, obeys commands, writes the transcript."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from align.chat.commands import HELP, Command, changed, command_of, shown
from align.chat.conversation import Conversation, Turn, seed_of
from align.chat.speaker import Heard, Reply, whole_characters
from align.errors import AlignError
from align.report.terminal import printable
from align.settings import SamplingSettings
from align.types import Prompt

PROMPT = "> "


class Speaks(Protocol):
    """Whoever replies, under the name that the terminal shows."""

    @property
    def name(self) -> str: ...

    def reply(self, prompt: Prompt, settings: SamplingSettings, seed: int) -> Reply:
        """The reply as it grows; the last look is whole."""


class Talk:
    """One sitting. ``say`` answers a line; what it prints goes to ``console``."""

    def __init__(
        self,
        speakers: Sequence[Speaks],
        sampling: SamplingSettings,
        seed: int,
        system: str | None,
        transcript: Path,
        console: Console | None = None,
    ) -> None:
        self._speakers = speakers
        self._sampling, self._seed = sampling, seed
        self._conversation = Conversation(system)
        self._transcript = transcript
        self._console = console or Console(highlight=False, soft_wrap=True)

    def hold(self, lines: Iterable[str]) -> None:
        """Answers line by line until there is none, or ``/quit``."""
        names = " and ".join(one.name for one in self._speakers)
        self._tell(f"talking to {names}; {shown(self._sampling, self._seed)}; /help lists commands")
        for line in lines:
            text = line.strip()
            if not text:
                continue
            try:
                command = command_of(text)
                if command is not None and command.name == "quit":
                    return
                if command is not None:
                    self._obey(command)
                else:
                    # two slashes begin words that start with one
                    self._answer(text.removeprefix("/") if text.startswith("//") else text)
            except AlignError as error:
                # nothing was added to the conversation: it goes on as it was
                self._tell(f"align: {error}")

    def _obey(self, command: Command) -> None:
        if command.name == "reset":
            self._conversation.reset()
            self._tell("forgotten")
        elif command.name == "system":
            self._conversation.tell(command.rest or None)
            self._tell("begun anew" + (", told so" if command.rest else ", told nothing"))
        elif command.name == "set":
            if command.rest:
                self._sampling, self._seed = changed(self._sampling, self._seed, command.rest)
            self._tell(shown(self._sampling, self._seed))
        elif command.name == "regenerate":
            last = self._conversation.take_back()
            try:
                self._answer(last.said, last.attempt + 1)
            except AlignError:
                self._conversation.turns.append(last)
                raise
        else:
            for name, words in HELP.items():
                self._tell(f"{name:<18}{words}")

    def _answer(self, said: str, attempt: int = 0) -> None:
        seed = seed_of(self._seed, len(self._conversation.turns), attempt)
        streams = [
            one.reply(self._conversation.prompt(one.name, said), self._sampling, seed)
            for one in self._speakers
        ]
        in_columns = len(streams) > 1 and self._console.is_terminal
        heard = self._in_columns(streams) if in_columns else [
            self._streamed(one, stream) for one, stream in zip(self._speakers, streams, strict=True)
        ]  # fmt: skip
        replies = {one.name: reply.text for one, reply in zip(self._speakers, heard, strict=True)}
        self._conversation.turns.append(Turn(said, replies, attempt))
        self._write(said, heard, seed, attempt)

    def _streamed(self, speaker: Speaks, stream: Reply) -> Heard:
        """Prints a reply as it grows; Ctrl-C ends the reply, not the sitting."""
        if len(self._speakers) > 1:
            self._tell(f"[{speaker.name}]")
        last, printed = Heard("", 0, False, 0), ""
        try:
            for last in stream:
                whole = whole_characters(last.text)
                # a decoder may take back what it wrote: then only the whole reply is right
                if whole.startswith(printed):
                    self._print(printable(whole[len(printed) :]))
                    printed = whole
        except KeyboardInterrupt:
            stream.close()
        rest = last.text.removeprefix(printed) if last.text.startswith(printed) else f"\n{last.text}"
        self._print(printable(rest) + "\n")
        self._note(speaker, last)
        return last

    def _in_columns(self, streams: Sequence[Reply]) -> list[Heard]:
        """Two replies beside each other, a token of each in turn."""
        heard = [Heard("", 0, False, 0) for _ in streams]

        def table() -> Table:
            beside = Table(expand=True, show_edge=False, pad_edge=False)
            for one in self._speakers:
                beside.add_column(Text(one.name), ratio=1, overflow="fold")
            beside.add_row(*(Text(printable(whole_characters(one.text))) for one in heard))
            return beside

        with Live(table(), console=self._console, refresh_per_second=12, vertical_overflow="visible") as live:
            try:
                for looks in zip_longest(*streams):
                    heard = [new or old for new, old in zip(looks, heard, strict=True)]
                    live.update(table())
            except KeyboardInterrupt:
                for stream in streams:
                    stream.close()
        for speaker, one in zip(self._speakers, heard, strict=True):
            self._note(speaker, one)
        return heard

    def _note(self, speaker: Speaks, heard: Heard) -> None:
        who = f"{speaker.name}: " if len(self._speakers) > 1 else ""
        if heard.unread:
            self._tell(f"({who}the oldest {heard.unread} tokens of the conversation no longer fit)")
        if not heard.ended:
            self._tell(f"({who}cut after {heard.tokens} tokens)")

    def _write(self, said: str, heard: Sequence[Heard], seed: int, attempt: int) -> None:
        row: dict[str, Any] = {
            "system": self._conversation.system,
            "turn": len(self._conversation.turns),
            "attempt": attempt,
            "said": said,
            "sampling": shown(self._sampling, seed),
            "replies": {
                one.name: {"text": reply.text, "tokens": reply.tokens, "ended": reply.ended}
                for one, reply in zip(self._speakers, heard, strict=True)
            },
        }
        with self._transcript.open("a", encoding="utf-8", errors="replace") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def _tell(self, text: str) -> None:
        self._console.print(Text(printable(text), style="dim"))

    def _print(self, text: str) -> None:
        # not through rich: it would wait for whole lines
        file = self._console.file
        encoding = getattr(file, "encoding", None) or "utf-8"
        file.write(text.encode(encoding, "backslashreplace").decode(encoding))
        file.flush()


def typed_lines(stream: IO[str] | None = None) -> Iterator[str]:
    """Lines of the standard input: asked for with a prompt at a terminal, as they come where it is a pipe."""
    source = stream or sys.stdin
    if not source.isatty():
        yield from source
        return
    import readline  # noqa: F401  arrow keys and history at the prompt

    while True:
        try:
            yield input(PROMPT)
        except (EOFError, KeyboardInterrupt):
            print()
            return
