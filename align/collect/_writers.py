"""Who answers prompts: a policy in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from align.collect._bench import Draft
from align.distributed.world import led
from align.evaluation.policies import prompt_tokens
from align.generation.kept import KeptAnswers, key_of
from align.generation.local import sample_tokens
from align.generation.pools import prompt_messages
from align.generation.server import derived_seed
from align.report.console import say
from align.types import Prompt, Reply

if TYPE_CHECKING:
    from pathlib import Path

    from align.generation.address import ServerSettings
    from align.generation.server import Server
    from align.models.policy import Policy
    from align.settings import SamplingSettings


@dataclass(frozen=True)
class LocalWriter:
    """A policy in this process. The oldest tokens of a prompt that leaves no room for a reply are cut."""

    policy: Policy
    name: str
    sampling: SamplingSettings
    version: str | None = None
    """By the hash of its weights, where they lie here."""

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        """One reply to each prompt; all are drawn with this seed, one after the other."""
        room = self.policy.max_length - self.sampling.max_new_tokens
        replies = sample_tokens(self.policy, prompt_tokens(self.policy, prompts, room), self.sampling, seed)
        how = _how(self.sampling)
        return [Draft(Reply(one.text, self.name, how, seed), one.ended) for one in replies]

    def sampling_by(self, settings: SamplingSettings) -> LocalWriter:
        """The same one, with other settings."""
        return replace(self, sampling=settings)

    def fits(self, prompt: Prompt) -> bool:
        """Whether a prompt leaves room for a reply."""
        return (
            len(self.policy.chat.prompt_ids(prompt)) <= self.policy.max_length - self.sampling.max_new_tokens
        )


@dataclass(frozen=True)
class ServedWriter:
    """A model behind an OpenAI-compatible server.

    Each reply is kept as it comes, so that nothing is asked for twice: a run that was killed within a chunk
    asks for the rest of it.
    """

    server: Server
    sampling: SamplingSettings
    kept: KeptAnswers
    """This server's, by prompt, sampling and seed: ``[text, "ended" or "cut"]``."""

    @property
    def name(self) -> str:
        """The model's, as the server calls it."""
        return self.server.settings.model

    @property
    def version(self) -> None:
        """Not known here: no server says which weights it has."""

    def write(self, prompts: Sequence[Prompt], seed: int) -> list[Draft]:
        """One reply to each prompt, several asked for at once, each with a seed of its own."""
        how = _how(self.sampling)

        def draft(place: int) -> Draft:
            own = derived_seed(seed, place)
            text, end = self._reply(prompts[place], own)
            return Draft(Reply(text, self.name, how, own), end == "ended")

        # one rank asks: each would be asked for the same
        return led(lambda: self.server.each(draft, len(prompts)))

    def sampling_by(self, settings: SamplingSettings) -> ServedWriter:
        """The same one, with other settings."""
        return replace(self, sampling=settings)

    def fits(self, prompt: Prompt) -> bool:
        """Not known here: a server refuses what it cannot read."""
        return True

    def _reply(self, prompt: Prompt, seed: int) -> tuple[str, ...]:
        # without chance the seed decides nothing, and one question has one answer
        drawn = seed if self.sampling.temperature else 0
        key = key_of({"prompt": prompt_messages(prompt), "how": _how(self.sampling), "seed": drawn})
        found = self.kept.get(key)
        if found is None:
            reply = self.server.ask(prompt, self.sampling, drawn)
            self.kept.put(key, (reply.text, "ended" if reply.ended else "cut"))
            found = self.kept.get(key)
            assert found is not None, "what was put is there"
        return found


def kept_replies(cache: Path, settings: ServerSettings) -> KeptAnswers:
    """Where a served model's replies are kept."""
    named = key_of({"url": settings.url, "model": settings.model})[:32]
    return KeptAnswers(cache / "served" / f"{named}.jsonl", say)


def _how(sampling: SamplingSettings) -> dict[str, float]:
    """What of the settings shapes a reply: how many are drawn at once does not."""
    return {name: value for name, value in asdict(sampling).items() if name != "batch_size"}
