"""Short runs of the stages that learn from their own replies: what the tests of ppo, rloo and grpo share."""

from __future__ import annotations

from pathlib import Path

from tiny_runs import STEPS, WORLD

from align.training import checkpoints

ROLLOUTS = (
    "reward=gold",
    "sampling.max_new_tokens=12",
    "evaluation.prompts=6",
    "evaluation.shown=1",
    "training.max_steps=4",
    "training.schedule=constant",
    "objective.epochs=2",
)
"""Four iterations of two passes over replies of twelve tokens, scored by a plain function of the text."""
KINDS: dict[str, tuple[str, ...]] = {
    "ppo": (
        "stage=ppo",
        "kl.controller=adaptive",
        "kl.target=0.5",
        "kl.horizon=40",
        "score.normalise=standard",
        "objective.ptx_coef=0.3",
    ),
    "separate": ("stage=ppo", "critic.kind=separate", "rollout.old_logps=recomputed"),
    "lora": ("stage=ppo", "adapter=lora", "adapter.rank=4", "training.micro_batch_size=1"),
    "rloo": ("stage=rloo", "score.missing_end=replace"),
    "grpo": ("stage=grpo", "rollout.replies=3", "score.normalise=scale", "objective.target_kl=0.008"),
}
"""All that moves from iteration to iteration, in one of them at least: the KL coefficient, the moments of the
scores, the place among the demonstrations, either critic, an adapter, iterations that end early."""
SERVED = (
    "stage=rloo",
    "rollout.old_logps=recomputed",
    "rollout.importance_cap=2",
    "serving.reload=sglang",
    "serving.refresh_every=3",
)
"""The kind that needs a server, ``served``: weights go there, and are older than the policy in between."""
PRODUCTS = ("model/model.safetensors", "results.json", "samples.jsonl")


def words(kind: str, directory: Path, start: Path, *more: str) -> list[str]:
    """The command of a run."""
    place = (f"run.dir={directory}", f"model.path={start}")
    return [*({**KINDS, "served": SERVED}[kind]), *place, *WORLD, *STEPS, *ROLLOUTS, *more]


def last_state(directory: Path) -> dict[str, object]:
    """All that the newest checkpoint holds but what a clock decides: tensors as bytes, the rest as it is."""
    kept = checkpoints.newest(directory / "checkpoints")
    assert kept is not None
    tensors = {
        f"{group}/{name}": (str(tensor.dtype), tensor.numpy().tobytes())
        for group, some in kept.tensors.items()
        for name, tensor in some.items()
    }
    return {**tensors, "course": kept.state["course"], "generators": kept.state["generators"]}
