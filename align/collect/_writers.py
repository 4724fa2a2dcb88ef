"""Who answers prompts: a policy in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from align.collect._bench import Draft
from align.evaluation.policies import prompt_tokens
from align.generation.local import sample_tokens
from align.generation.server import derived_seed
from align.types import Prompt, Reply

if TYPE_CHECKING:
    from align.generation.server import Server
    from align.models.policy import Policy
    from align.settings import SamplingSettings


@dataclass(frozen=True)
class LocalWriter:
    """A policy in this process. The oldest tokens of a prompt that leaves no room for a reply are cut."""

    policy: Policy
    name: str
    sampling: SamplingSettings

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        """One reply to each prompt; all are drawn with this seed, one after the other."""
        room = self.policy.max_length - self.sampling.max_new_tokens
        replies = sample_tokens(self.policy, prompt_tokens(self.policy, prompts, room), self.sampling, seed)
        how = _how(self.sampling)
        return [Draft(Reply(one.text, self.name, how, seed), one.ended) for one in replies]

    def sampling_by(self, settings: SamplingSettings) -> LocalWriter:
        """The same one, with other settings."""
        return replace(self, sampling=settings)


@dataclass(frozen=True)
class ServedWriter:
    """A model behind an OpenAI-compatible server."""

    server: Server
    sampling: SamplingSettings

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        """One reply to each prompt, several asked for at once, each with a seed of its own."""
        replies = self.server.sample_replies(prompts, self.sampling, seed)
        how, name = _how(self.sampling), self.server.settings.model
        return [
            Draft(Reply(one.text, name, how, derived_seed(seed, place)), one.ended)
            for place, one in enumerate(replies)
        ]

    def sampling_by(self, settings: SamplingSettings) -> ServedWriter:
        """The same one, with other settings."""
        return replace(self, sampling=settings)


def _how(sampling: SamplingSettings) -> dict[str, float]:
    """What of the settings shapes a reply: how many are drawn at once does not."""
    return {name: value for name, value in asdict(sampling).items() if name != "batch_size"}
