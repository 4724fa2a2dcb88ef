"""A trained scalar model as the reward: ``stage=reward``'s product, or anyone's of the same shape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from align.config import Range
from align.errors import ModelError, NonFiniteError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from align.models.batch import TokenIds
    from align.models.policy import Policy
    from align.models.round_trip import RoundTrip
    from align.models.scalar import ScalarModel
    from align.models.unseen import UnseenScores
    from align.packing.forward import Forward
    from align.types import Prompt

__all__ = ["BradleyTerry"]


@dataclass(frozen=True)
class BradleyTerry:
    """Scores whose differences are log-odds of preference (Bradley and Terry 1952).

    Any sequence classifier with one output: text goes through, so its tokenizer and chat template may be
    others than the policy's, and what its tokenizer cannot hold of the texts is said.
    """

    path: str
    """A run directory of ``stage=reward``, a Hugging Face folder with a scalar head, or a Hub name."""
    batch_size: Annotated[int, Range(low=1)] = 32
    """Replies scored at once."""
    too_long: Literal["truncate_left", "error"] = "truncate_left"
    """What a text with more tokens than the model has positions for does: cut its oldest, or stop."""
    device: str | None = None
    """Where the model runs (``cpu``, ``cuda:1``); none takes an accelerator where there is one."""

    def prepare(self, cache: Path | None = None) -> Ready:
        """Loads the model, in eval mode; nothing is cached.

        Raises:
            ModelError: nothing at ``path``, or no trained scalar head in it.
        """
        import torch

        from align.models.scalar import load_scalar
        from align.models.settings import AdapterSettings, ModelSettings

        accelerator = torch.accelerator.current_accelerator(check_available=True)
        device = self.device or accelerator or "cpu"
        model = ModelSettings(path=self.path, max_length=1)  # each text is measured when it is scored
        scalar = load_scalar(model, AdapterSettings(), texts=None, seed=0, device=device, trained=True)
        scalar.model.eval().requires_grad_(False)
        return self._ready(scalar)

    def prepare_on(self, policy: Policy, cache: Path | None = None) -> Ready:
        """The same scores, from the adapter alone where it was trained on the policy's frozen weights.

        Raises:
            ModelError: as ``prepare``.
        """
        import torch

        from align.models.one_base import Apart, saved_scalar
        from align.report.console import say

        try:
            if self.device is not None and torch.device(self.device) != policy.device:
                raise Apart(f"reward.device={self.device} is not the policy's")
            scalar = saved_scalar(policy, self.path)
        except Apart as why:
            say(f"note: the reward model {self.path} is loaded beside the policy's weights, because {why}")
            return self.prepare(cache)
        say(f"the reward model {self.path} is an adapter on the policy's frozen weights")
        return self._ready(scalar)

    def _ready(self, scalar: ScalarModel) -> Ready:
        from align.models.round_trip import RoundTrip
        from align.models.unseen import read_unseen
        from align.packing.probe import open_forward
        from align.report.console import say

        forward = open_forward(scalar.model, scalar.pad_id, say=say)
        round_trip = RoundTrip(scalar.chat, f"the reward model {self.path}", say)
        return Ready(scalar, forward, self.batch_size, self.too_long, round_trip, read_unseen(self.path))


@dataclass(frozen=True)
class Ready:
    """A loaded scalar model and how many replies it scores at once."""

    scalar: ScalarModel
    forward: Forward
    batch_size: int
    too_long: Literal["truncate_left", "error"]
    round_trip: RoundTrip
    seen: UnseenScores | None
    """How it scored the unseen pairs of its training, where that was written down."""

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Quantiles 0.001 and 0.999 of its scores of unseen pairs; None where nobody wrote them down."""
        return (self.seen.low, self.seen.high) if self.seen is not None else None

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """One score a reply; texts of like length share a batch, and the batch changes no score.

        What is asked twice is scored once. A prompt that leaves no room for its reply loses its oldest
        tokens, as in training, and how many did is said; so is, once, what the tokenizer loses.

        Raises:
            ModelError: a text has more tokens than the model has positions for, and may not be cut, or
                its reply alone has.
            NonFiniteError: a score is NaN or infinite.
        """
        chat = self.scalar.chat
        asked = list(zip(prompts, replies, strict=True))
        self.round_trip.look(
            text for prompt, reply in asked for text in (*(one.content for one in prompt), reply)
        )
        texts = self._fitted(
            [(chat.prompt_ids(prompt), chat.reply_ids(prompt, reply)) for prompt, reply in asked]
        )
        keys = [(prompt.tobytes(), reply.tobytes()) for prompt, reply in texts]
        distinct = dict(zip(keys, texts, strict=True))
        found = dict(zip(distinct, self._scores(list(distinct.values())), strict=True))
        scores = [found[key] for key in keys]
        bad = [row for row, score in enumerate(scores) if not math.isfinite(score)]
        if bad:
            raise NonFiniteError(
                f"reward=bradley_terry gave {scores[bad[0]]} to reply {bad[0]} of {len(scores)}"
            )
        return scores

    def _scores(self, texts: Sequence[tuple[TokenIds, TokenIds]]) -> list[float]:
        """One score a text, read at its last token."""
        import torch

        from align.packing.layout import ReplyGroup

        lengths = [len(prompt) + len(reply) for prompt, reply in texts]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        scores = [0.0] * len(texts)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            with torch.inference_mode():
                groups = [ReplyGroup(prompt, (reply,)) for prompt, reply in (texts[row] for row in rows)]
                batch = self.forward.scores(groups)
            for row, score in zip(rows, batch.tolist(), strict=True):
                scores[row] = score
        return scores

    def _fitted(self, texts: list[tuple[TokenIds, TokenIds]]) -> list[tuple[TokenIds, TokenIds]]:
        """The texts within the model's positions."""
        room = self.scalar.positions
        if room is None:
            return texts
        excess = [len(prompt) + len(reply) - room for prompt, reply in texts]
        for row, (prompt, reply) in enumerate(texts):
            if excess[row] > 0 and (self.too_long == "error" or len(reply) >= room):
                raise ModelError(
                    f"reward=bradley_terry: text {row} has {len(prompt) + len(reply)} tokens "
                    f"({len(reply)} of them the reply), the reward model has positions for {room}"
                )
        cut = sum(one > 0 for one in excess)
        if cut:
            print(f"reward model: cut {cut} of {len(texts)} prompts from the left to fit {room} tokens")
        return [(prompt[max(one, 0) :], reply) for one, (prompt, reply) in zip(excess, texts, strict=True)]
