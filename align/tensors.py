"""What examples and replies are to a model: tokens, log-probabilities, losses, and the work that they took.

Legend for tensor names: B pairs or replies, T tokens, V vocabulary; ``2B`` is chosen then rejected.
Log-probabilities are sums over reply tokens in nats unless a name ends in ``_BT``. Standard library, numpy
and torch only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    TokenIds = NDArray[np.int32]


@dataclass(frozen=True)
class TokenPair:
    """A ``PreferencePair`` as tokens. The replies end with the template's end of turn."""

    id: str
    prompt_ids: TokenIds
    chosen_ids: TokenIds
    rejected_ids: TokenIds
    margin: float | None = None

    def replies(self) -> tuple[TokenIds, ...]:
        """Chosen, then rejected."""
        return (self.chosen_ids, self.rejected_ids)


@dataclass(frozen=True)
class TokenExample:
    """A ``Demonstration`` as tokens; only ``reply_ids`` count in the loss."""

    id: str
    prompt_ids: TokenIds
    reply_ids: TokenIds

    def replies(self) -> tuple[TokenIds, ...]:
        """The one reply."""
        return (self.reply_ids,)


@dataclass(frozen=True)
class TokenUnpaired:
    """An ``UnpairedExample`` as tokens."""

    id: str
    prompt_ids: TokenIds
    reply_ids: TokenIds
    desirable: bool

    def replies(self) -> tuple[TokenIds, ...]:
        """The one reply."""
        return (self.reply_ids,)


TokenItem = TokenPair | TokenExample | TokenUnpaired
"""An ``Example`` as tokens."""


@dataclass(frozen=True)
class TokenLogps:
    """Log-probabilities of reply tokens, one row a reply.

    ``logps_BT`` (nats, float32 or wider) is 0 where ``mask_BT`` (bool) is False.
    """

    logps_BT: Tensor
    mask_BT: Tensor

    def sums_B(self) -> Tensor:
        """Sequence log-probability, in nats."""
        return self.logps_BT.sum(-1)

    def counts_B(self) -> Tensor:
        """Reply tokens counted, as the dtype of the log-probabilities."""
        return self.mask_BT.sum(-1).to(self.logps_BT.dtype)


@dataclass(frozen=True)
class Outlook:
    """What a policy (and a value head on it) says of replies, from one pass: rows as in ``TokenLogps``.

    ``values_BT`` and ``entropies_BT`` (nats, of the whole next-token distribution at the temperature of the
    log-probabilities) are 0 behind a reply's end, and None where nobody asked.
    """

    logps: TokenLogps
    values_BT: Tensor | None = None
    entropies_BT: Tensor | None = None


@dataclass(frozen=True)
class PairLogps:
    """All that a pair loss sees: summed log-probabilities (B,) in nats, and reply lengths in tokens.

    The reference fields are None for losses that declare ``needs_reference = False``.
    ``policy_tokens`` and ``reference_tokens`` hold the per-token view, chosen rows then rejected rows
    (2B, T), for losses that declare ``needs_tokens = True``; None otherwise.
    """

    policy_chosen: Tensor
    policy_rejected: Tensor
    reference_chosen: Tensor | None
    reference_rejected: Tensor | None
    chosen_lengths: Tensor
    rejected_lengths: Tensor
    policy_tokens: TokenLogps | None = None
    reference_tokens: TokenLogps | None = None


@dataclass(frozen=True)
class PairLosses:
    """Per-pair losses (B,), and the implicit rewards (B,) that go to the metrics, detached."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


@dataclass(frozen=True)
class UnpairedLogps:
    """All that an unpaired loss sees of N labelled replies: summed log-probabilities (N,) in nats.

    ``desirable`` (N,) is bool. The mismatched fields (M,) are of replies to prompts that they were not
    written for, under policy and reference; None for losses that declare ``needs_mismatched = False``.
    """

    policy: Tensor
    reference: Tensor
    desirable: Tensor
    policy_mismatched: Tensor | None = None
    reference_mismatched: Tensor | None = None


@dataclass(frozen=True)
class UnpairedLosses:
    """Per-reply losses (N,); for the metrics, detached: implicit rewards (N,) and baselines (N,) in nats."""

    losses: Tensor
    rewards: Tensor
    baselines: Tensor


@dataclass(frozen=True)
class Work:
    """What one forward and backward pass, or several, were given to do. Works add up.

    A packed batch computes a shared prompt once (``computed == distinct``), a padded one once a reply
    (``computed == total``); ``computed / slots`` is the share of positions that are no padding.
    """

    distinct: int = 0
    """Tokens, a shared prompt counted once."""
    total: int = 0
    """Tokens that a plain forward would be given: the prompt once a reply, no padding."""
    computed: int = 0
    """Tokens that went through the model, padding left out."""
    slots: int = 0
    """Positions that went through the model, padding included."""
    flops: float = 0.0
    """Floating-point operations of forward and backward that the task needs: those of the distinct tokens;
    repeated prompts, padding and recomputed activations do not count. 0 where nobody counts."""

    def __add__(self, other: Work) -> Work:
        return Work(
            self.distinct + other.distinct,
            self.total + other.total,
            self.computed + other.computed,
            self.slots + other.slots,
            self.flops + other.flops,
        )


@dataclass(frozen=True)
class SampledReply:
    """A reply drawn from a policy: its text, its tokens, and whether it ended by itself.

    ``logps`` (nats, at the temperature of sampling, before any truncation to likely tokens) and ``values``
    (a value head's output where each token was chosen) have one number a token, and are None where the way
    of sampling does not give them.
    """

    text: str
    token_ids: tuple[int, ...]
    ended: bool
    logps: NDArray[np.float32] | None = field(default=None, compare=False)
    values: NDArray[np.float32] | None = field(default=None, compare=False)
