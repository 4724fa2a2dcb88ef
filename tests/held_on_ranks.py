"""What each rank of a test does: some steps under each stage of ZeRO, and what it holds by then and in what
follows, in bytes.

Not a test: ``tests/plan/test_held_on_ranks.py`` starts it.
"""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from each_stage import write_each_stage  # noqa: E402
from torch import Tensor  # noqa: E402

from align.distributed.engine import open_engine  # noqa: E402
from align.models.policy import load_policy  # noqa: E402
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings  # noqa: E402
from align.packing.probe import open_forward  # noqa: E402
from align.plan.live import Live  # noqa: E402
from align.plan.made import groups_of  # noqa: E402
from align.settings import DeepspeedSettings  # noqa: E402

SHAPE = ScratchSettings(hidden_size=256, layers=4, heads=4, mlp_size=704, vocab_size=270)
"""No more tokens than the tokenizer finds in the texts."""
LENGTHS = (1, 32, 2, 32)
"""Prompts of a pass, tokens of each; replies, tokens of each."""
STEPS = 3
"""The optimiser's moments are there from the second on; DeepSpeed knows the order of layers by the third."""


def _held(stage: int) -> dict[str, int]:
    """Bytes of parameters, optimiser, all tensors, and peaks."""
    kept = _all()  # so that no address is given out again
    before = {one.untyped_storage()._cdata for one in kept}
    model = ModelSettings(scratch=SHAPE, max_length=128)
    policy = load_policy(model, AdapterSettings(), texts=lambda: iter(["some words"] * 400), seed=0)
    forward, groups = open_forward(policy.model, policy.pad_id), groups_of(*LENGTHS)
    own = dict(policy.model.named_parameters())
    optimiser = torch.optim.AdamW(own.values(), fused=True)
    engine: Any = open_engine(policy.model, own, optimiser, DeepspeedSettings(stage, whole_below=0), 1.0)

    def step() -> None:
        engine.begin()
        engine.backward(engine.forward(lambda: forward.logps(groups).logps_BT.sum()))
        engine.step(1.0, lambda _norm: None)

    for _ in range(STEPS):
        step()
    if stage == 0:
        engine.begin()  # gradients stay until then
    gc.collect()
    state = engine.optimiser.state if stage == 0 else engine._engine.optimizer.optimizer.state
    moments = [one for kept in state.values() for one in kept.values() if one.dim()]
    changed = [] if stage == 0 else engine._parts()
    weights = [getattr(one, "ds_tensor", one) for one in own.values()]
    held = [one for one in _all() if one.untyped_storage()._cdata not in before]
    found = {
        "weights": _bytes(weights),
        "optimiser": _bytes([*moments, *changed]),
        "all": _bytes(held),
    }
    with Live() as live:
        for one in held:
            one.detach()
        with live.peak_of() as stepping:
            step()
        with live.peak_of() as gathering:
            engine.weights()
        with live.peak_of() as looking, engine.whole():
            pass
        held.clear()
        moments.clear()
        weights.clear()
        changed.clear()
        with live.peak_of() as closing:
            engine.close()
    peaks = {"step": stepping, "save": gathering, "whole": looking, "close": closing}
    return found | {name: peak[0] for name, peak in peaks.items()}


def _all() -> list[Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DeepSpeed's own lazy names are looked at, too
        return [one for one in gc.get_objects() if isinstance(one, Tensor) and one.device.type == "cpu"]


def _bytes(tensors: Iterable[Tensor]) -> int:
    """Of what is behind them, once."""
    kept = {one.untyped_storage()._cdata: one.untyped_storage().nbytes() for one in tensors}
    return sum(kept.values())


if __name__ == "__main__":
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    sys.exit(write_each_stage(Path(sys.argv[1]), "held", _held))
