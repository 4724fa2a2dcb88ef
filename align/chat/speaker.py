"""A checkpoint that talks: its replies as they are written."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from align.errors import ModelError
from align.generation.sampler import Sampler, open_sampler
from align.models.policy import Policy
from align.settings import SamplingSettings
from align.types import Prompt

_HALF = "\ufffd"
"""What half of a character decodes to: the next token may complete it."""


@dataclass(frozen=True)
class Heard:
    """A reply so far."""

    text: str
    tokens: int
    ended: bool
    """Whether it ended by itself."""
    unread: int
    """Tokens of the oldest part of the conversation that the model was not shown, for want of room."""


Reply = Generator[Heard, None, None]
"""A reply as it grows; closed early, it leaves the model as it was."""


@dataclass(frozen=True)
class Speaker:
    """One policy under the name that the terminal shows."""

    name: str
    policy: Policy
    sampler: Sampler

    def reply(self, prompt: Prompt, settings: SamplingSettings, seed: int) -> Reply:
        """The reply token by token; the last one is whole.

        Raises:
            ModelError: the chat template refuses the conversation, or nothing of it fits beside a reply.
            NonFiniteError: the policy's logits are NaN or infinite.
        """
        room = self.policy.max_length - settings.max_new_tokens
        if room < 1:
            raise ModelError(
                f"max_new_tokens={settings.max_new_tokens} leaves no room for a prompt in "
                f"model.max_length={self.policy.max_length}"
            )
        ids = self.policy.chat.prompt_ids(prompt)
        unread = max(0, len(ids) - room)
        for tokens in self.sampler.stream(ids[unread:], settings, seed):
            ended = tokens[-1] in self.policy.chat.stop_ids
            yield Heard(self.policy.chat.decode_reply(tokens), len(tokens), ended, unread)


def speaker(name: str, policy: Policy) -> Speaker:
    """A policy ready to talk."""
    return Speaker(name, policy, open_sampler(policy))


def whole_characters(text: str) -> str:
    """A text less the half of a character that it may end with."""
    return text.rstrip(_HALF)
