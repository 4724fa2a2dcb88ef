"""``stage=evaluate``: both policies answer the same unseen prompts; rewards, win rate, drift, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from align import registry
from align.distributed.device import device
from align.errors import DataError
from align.evaluation.compare import drift, policy_results, shape_results
from align.generation.local import sample_replies
from align.models.forward import reply_logps
from align.models.policy import Policy, load_policy
from align.pairs.prepare import prepare
from align.protocols import KnownTruth, Scorer
from align.report.console import progress, say
from align.report.results import write_samples
from align.run import Run, read_record
from align.settings import AdapterSettings, ModelSettings
from align.training.determinism import seed_everything
from align.types import Prompt, Result, SampledReply

if TYPE_CHECKING:
    from pathlib import Path

    from align.stages.evaluate import Evaluate


@dataclass(frozen=True)
class Answers:
    """One policy's replies to the evaluation prompts, and their scores by the name of the reward."""

    label: str
    replies: list[SampledReply]
    scores: dict[str, list[float]]

    def texts(self) -> list[str]:
        """The replies as text, in the prompts' order."""
        return [reply.text for reply in self.replies]
