"""What every stage begins an iteration with: prompts, the policy's own replies to them, and their scores.

Legend: B prompts, R replies to each, N = R * B replies; reply i of prompt b is row i * B + b.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from align.distributed.world import led
from align.evaluation.policies import scores_of
from align.generation.local import sample_tokens
from align.models.policy import Policy
from align.packing.forward import ValueHead
from align.ppo.served import ServedRollouts
from align.protocols import Scorer
from align.settings import SamplingSettings
from align.tensors import SampledReply
from align.training.guards import require_finite_scores
from align.types import Prompt

TokenIds = NDArray[np.int32]


@dataclass(frozen=True)
class Questions:
    """The prompts of the training split, as messages and as tokens cut to leave room for a reply."""

    prompts: Sequence[Prompt]
    ids: Sequence[TokenIds]

    def __len__(self) -> int:
        return len(self.prompts)


@dataclass(frozen=True)
class Sampled:
    """Replies (N), and what a line of metrics says of how a server gave them."""

    replies: list[SampledReply]
    looks: dict[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Asking:
    """Who is asked what, and who scores the answers."""

    policy: Policy
    scorer: Scorer
    questions: Questions
    sampling: SamplingSettings
    replies: int
    """To each prompt."""
    seed: int
    served: ServedRollouts | None = None
    """Who answers in the policy's place; None for the policy itself, in this process."""

    def sample(self, drawn: Sequence[int], step: int, value_head: ValueHead | None = None) -> Sampled:
        """Replies of the policy as it is now, or of the server; they follow from the run's seed and the step.

        Raises:
            ServerError: the server does not answer, or not as it should.
        """
        ids = [self.questions.ids[index] for index in drawn] * self.replies
        seed = int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0])
        served = self.served
        if served is not None:
            return Sampled(*led(lambda: served.draw(ids, self.sampling, seed, step)))
        return Sampled(sample_tokens(self.policy, ids, self.sampling, seed, value_head=value_head))

    def score(self, drawn: Sequence[int], replies: Sequence[SampledReply]) -> Tensor:
        """Their scores (N,), float64.

        Raises:
            NonFiniteError: one is NaN or infinite.
        """
        prompts = [self.questions.prompts[index] for index in drawn] * self.replies
        scores = scores_of(self.scorer, prompts, [reply.text for reply in replies])
        require_finite_scores(scores, [f"prompt {index}" for index in drawn] * self.replies)
        return torch.tensor(scores, dtype=torch.float64)
