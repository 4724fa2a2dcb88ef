"""Sample replies from a policy in this process."""

from __future__ import annotations

from collections.abc import Sequence

from align.generation.sampler import Progress, TokenIds, ValueHead, open_sampler
from align.models.policy import Policy
from align.settings import SamplingSettings
from align.types import Prompt, SampledReply


def sample_replies(
    policy: Policy,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[SampledReply]:
    """One reply to each prompt, in the order of the prompts: ``Sampler.draw`` of their tokens.

    Raises:
        ModelError: a prompt and its reply together have more tokens than the model has positions for.
        NonFiniteError: the policy's logits are NaN or infinite.
    """
    return sample_tokens(
        policy, [policy.chat.prompt_ids(prompt) for prompt in prompts], settings, seed, progress
    )


def sample_tokens(
    policy: Policy,
    prompt_ids: Sequence[TokenIds],
    settings: SamplingSettings,
    seed: int,
    progress: Progress | None = None,
    value_head: ValueHead | None = None,
) -> list[SampledReply]:
    """The same from prompts that are tokens already (cut to a length, say); see ``Sampler.draw``.

    Raises:
        ModelError: as ``sample_replies``, and an empty prompt.
        NonFiniteError: as ``sample_replies``.
    """
    return open_sampler(policy).draw(prompt_ids, settings, seed, progress, value_head)
