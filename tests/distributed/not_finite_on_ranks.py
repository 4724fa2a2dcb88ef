"""What each rank of a test does: a step whose gradient is NaN on the last one, under each kind of engine.

Not a test: ``test_not_finite.py`` starts it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import torch  # noqa: E402
from each_stage import write_each_stage  # noqa: E402
from torch import nn  # noqa: E402

from align.distributed.engine import open_engine  # noqa: E402
from align.distributed.rank import end  # noqa: E402
from align.distributed.world import world  # noqa: E402
from align.errors import NonFiniteError  # noqa: E402
from align.settings import DeepspeedSettings  # noqa: E402
from align.training.guards import require_finite_gradients  # noqa: E402


def _refused(stage: int) -> tuple[str, bool]:
    """What was said, and whether rank 0 finds the weights as before."""
    torch.manual_seed(0)
    model = nn.Linear(8, 4)
    own = dict(model.named_parameters())
    optimiser = torch.optim.AdamW(own.values(), lr=1.0, fused=True)
    engine = open_engine(model, own, optimiser, DeepspeedSettings(stage, whole_below=0), 1.0)
    before = {name: one.clone() for name, one in engine.weights().items()}
    scale = float("nan") if world().rank == world().size - 1 else 1.0
    engine.begin()
    engine.backward(engine.forward(lambda: model(torch.ones(2, 8)).sum() * scale))
    told = ""
    try:
        engine.step(1.0, lambda norm: require_finite_gradients(own, norm, step=1, ids=["pair 3"]))
    except NonFiniteError as error:
        told = str(error)
    after = engine.weights()
    engine.close()
    return told, all(torch.equal(before[name], after[name]) for name in before)


if __name__ == "__main__":
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    code = write_each_stage(Path(sys.argv[1]), "told", _refused)
    assert "mlflow" not in sys.modules, "seconds for what nothing here calls"
    end(code)
