"""Sample replies from a policy in this process."""

from __future__ import annotations

from collections.abc import Sequence

from align.distributed.world import in_shares, world
from align.generation.sampler import Progress, TokenIds, ValueHead, open_sampler
from align.models.policy import Policy
from align.settings import SamplingSettings
from align.tensors import SampledReply
from align.training.determinism import seed_of
from align.types import Prompt


def sample_replies(
    policy: Policy,
    prompts: Sequence[Prompt],
    settings: SamplingSettings,
    seed: int,
    progress: Progress | None = None,
) -> list[SampledReply]:
    """One reply to each prompt, in the order of the prompts: ``Sampler.draw`` of their tokens.

    The ranks share the prompts, and each gets all replies, which are those of one rank alone.

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
    sampler = open_sampler(policy)
    # transformers' generate draws by what shares a batch: two ranks must not draw the same
    own_seed = seed if sampler.refusal is None else seed_of(world().rank, seed)

    def draw(places: Sequence[int]) -> list[SampledReply]:
        return sampler.draw(prompt_ids, settings, own_seed, progress, value_head, places)

    return in_shares(len(prompt_ids), draw)
