"""A forward pass whose activations wait for the backward pass in the host's memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from align.errors import ConfigError
from align.packing.forward import Forward, ValueHead
from align.packing.layout import ReplyGroup
from align.tensors import Outlook, TokenLogps, Work


@dataclass(frozen=True)
class Offloaded:
    """A ``Forward`` whose activations leave the device where there is a backward pass to come."""

    inner: Forward

    def logps(self, groups: Sequence[ReplyGroup], temperature: float = 1.0) -> TokenLogps:
        """See ``Forward``."""
        with _elsewhere():
            return self.inner.logps(groups, temperature)

    def outlook(
        self,
        groups: Sequence[ReplyGroup],
        temperature: float = 1.0,
        *,
        value_head: ValueHead | None = None,
        entropies: bool = False,
    ) -> Outlook:
        """See ``Forward``."""
        with _elsewhere():
            return self.inner.outlook(groups, temperature, value_head=value_head, entropies=entropies)

    def scores(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """See ``Forward``."""
        with _elsewhere():
            return self.inner.scores(groups)

    def values(self, groups: Sequence[ReplyGroup]) -> Tensor:
        """See ``Forward``."""
        with _elsewhere():
            return self.inner.values(groups)

    def work(self, groups: Sequence[ReplyGroup]) -> Work:
        """See ``Forward``."""
        return self.inner.work(groups)


def offloaded(forward: Forward, device: torch.device) -> Offloaded:
    """The same forward, by ``training.offload_activations``.

    Raises:
        ConfigError: the device's memory is the host's.
    """
    if device.type == "cpu":
        raise ConfigError(
            "training.offload_activations=true moves activations to the host's memory, and without an "
            "accelerator they are there: set it to false; training.gradient_checkpointing=true saves memory"
        )
    return Offloaded(forward)


def _elsewhere() -> AbstractContextManager[Any]:
    if not torch.is_grad_enabled():
        return nullcontext()
    from trl.models.activation_offloading import OffloadActivations

    # one a pass: the library's own bookkeeping takes one forward pass for each backward pass, and there are
    # two where an objective looks twice
    manager: AbstractContextManager[Any] = OffloadActivations(use_streams=False)
    return manager
