"""Who answered, as typed: a file of outputs, a server with its model, or a policy; and what files hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from align.collect._bench import Draft
from align.errors import BadRow, ConfigError, DataError
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.pairs.fields import instruction_prompt, maybe_text, prompt_and_reply, text_of
from align.pairs.files import ENDINGS, read_rows
from align.types import Prompt, Reply

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


@dataclass(frozen=True)
class OutputFile:
    """Replies of one model in a file (``model_outputs.json`` of AlpacaEval, or prompts and completions)."""

    path: str


Source = OutputFile | ServerSettings | ModelSettings


def source_of(text: str, key_variable: str | None = None) -> Source:
    """What a name stands for: ``http://host/v1#model``, a file by its ending, else a model's path.

    Raises:
        ConfigError: a server without its model.
    """
    if text.startswith(("http://", "https://")):
        url, _, model = text.partition("#")
        if not model:
            raise ConfigError(f"{text}: a server is given with its model, {url}#NAME")
        return ServerSettings(url, model, key_variable)
    ending = text.removesuffix(".gz")
    return OutputFile(text) if ending.endswith(ENDINGS) else ModelSettings(text)


def room_of(path: str, most: int = ModelSettings.max_length) -> int:
    """Tokens of prompt and reply together for a model: ``most``, or fewer where it was built so."""
    from align.models.build import longest_input
    from align.models.source import find_model, read_config

    built_for = longest_input(read_config(find_model(path)))
    return min(most, built_for or most)


@dataclass(frozen=True)
class Outputs:
    """The replies of a file by prompt, and what could not be used of it."""

    replies: Mapping[Prompt, Reply]
    repeated: int
    """Rows whose prompt stood there before: the first reply counts."""
    unread: Counter[str]
    """Rows that hold no reply, by reason."""

    def drafts(self, prompts: Sequence[Prompt]) -> list[Draft | None]:
        """The reply to each prompt; None where the file has none."""
        found = [self.replies.get(stripped(prompt)) for prompt in prompts]
        return [None if reply is None else Draft(reply) for reply in found]


def read_outputs(path: str) -> Outputs:
    """One model's replies out of a file. Whitespace around a turn does not tell two prompts apart.

    Raises:
        DataError: there is no such file, or no row that holds a prompt and a reply.
    """
    replies: dict[Prompt, Reply] = {}
    repeated, unread = 0, Counter[str]()
    for row in read_rows(path):
        try:
            if row.values is None:
                raise BadRow(*(row.problem or ("unreadable", "")))
            prompt, reply = _prompt_and_reply(row.values, Path(path))
        except BadRow as bad:
            unread[bad.reason] += 1
            continue
        repeated += stripped(prompt) in replies
        replies.setdefault(stripped(prompt), reply)
    if not replies:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(unread.items()))
        raise DataError(f"{path} holds no replies that can be read ({reasons or 'it is empty'})")
    return Outputs(replies, repeated, unread)


def stripped(prompt: Prompt) -> Prompt:
    """A prompt without the whitespace around its turns: files differ in that."""
    return tuple(replace(message, content=message.content.strip()) for message in prompt)


def _prompt_and_reply(values: Mapping[str, Any], path: Path) -> tuple[Prompt, Reply]:
    """Raises ``BadRow``."""
    if "instruction" in values:
        prompt, text = instruction_prompt(values), text_of(values, "output")
    else:
        prompt, text = prompt_and_reply(values)
    return prompt, Reply(text, maybe_text(values, "generator") or path.name)
