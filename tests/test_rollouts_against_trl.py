"""``stage=rloo`` and ``stage=grpo`` walk with trl's trainers, optimiser step by optimiser step.

The stage is run by its command. What it sampled is then handed to trl in the place of trl's own generation:
the same prompts, which trl renders and tokenises by itself, and the same reply tokens. trl scores, estimates
and trains. Replies are cut to many lengths, as a random policy hardly ever ends one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from datasets import disable_progress_bars as disable_data_bars
from safetensors.torch import load_file
from tiny_runs import SHAPE, WORLD, align, lines
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.trainer import grpo_trainer, rloo_trainer

from align.ppo import asking, course
from align.training.update import Taken
from reward_models.gold import Gold

pytestmark = pytest.mark.medium

ITERATIONS, PROMPTS, REPLIES, EPOCHS, MINIBATCHES = 3, 4, 4, 2, 2
UPDATES = ITERATIONS * EPOCHS * MINIBATCHES
LENGTH, TEMPERATURE, RATE, SEED = 16, 0.8, 0.0005, 5
SAME = {"rel": 0, "abs": 1e-4}
"""Packed sums are taken in another order, and Adam makes 1e-5 of their rounding in 3 steps at this rate."""
COMMON = (
    "reward=gold",
    f"rollout.replies={REPLIES}",
    f"objective.epochs={EPOCHS}",
    f"objective.minibatches={MINIBATCHES}",
    f"sampling.max_new_tokens={LENGTH}",
    f"sampling.temperature={TEMPERATURE}",
    f"training.max_steps={ITERATIONS}",
    f"training.batch_size={PROMPTS}",
    f"training.learning_rate={RATE}",
    "training.schedule=constant",
    "training.warmup_steps=0",
    "training.precision=float32",
    "training.log_every=1",
    "evaluation.prompts=2",
    f"seed={SEED}",
)


@dataclass
class Walk:
    """What a run of ours did: of each iteration the prompts and the replies, of each update its numbers."""

    directory: Path
    prompts: list[Any] = field(default_factory=list)
    """In the order of the iterations, each once."""
    prompt_ids: list[list[int]] = field(default_factory=list)
    replies: list[list[tuple[list[int], str]]] = field(default_factory=list)
    """To each prompt: tokens and text."""
    updates: list[dict[str, float]] = field(default_factory=list)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random policy with its tokenizer, as a Hugging Face folder."""
    disable_data_bars()
    folder = tmp_path_factory.mktemp("start") / "sft"
    align("stage=sft", f"run.dir={folder}", *SHAPE, *WORLD, "training.max_steps=1", "training.batch_size=2")
    return folder / "model"


@pytest.fixture
def walk(tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Walk]:
    """Runs a stage and writes down what it did; minibatches are of prompts in their order."""
    found = Walk(tmp_path / "ours")
    sample, update, score = asking.sample_tokens, course.update, asking.Asking.score

    def cut(policy: Any, ids: Any, *rest: Any, **more: Any) -> Any:
        drawn = []
        for row, reply in enumerate(sample(policy, ids, *rest, **more)):
            length = min(len(reply.token_ids), 2 + (5 * row) % 13)
            kept = reply.token_ids[:length]
            ended = reply.ended and length == len(reply.token_ids)
            text = policy.chat.decode_reply(list(kept))
            drawn.append(replace(reply, text=text, token_ids=kept, ended=ended, logps=reply.logps[:length]))
        for prompt in range(PROMPTS):
            found.prompt_ids.append(ids[prompt].tolist())
            own = drawn[prompt::PROMPTS]
            found.replies.append([(list(one.token_ids), one.text) for one in own])
        return drawn

    def scored(self: Any, drawn: Any, replies: Any) -> Any:
        found.prompts += [self.questions.prompts[index] for index in drawn]
        return score(self, drawn, replies)

    def updated(*rest: Any, **more: Any) -> Taken:
        taken = update(*rest, **more)
        found.updates.append({name: value / count for name, (value, count) in taken.metrics.items()})
        return taken

    def run(stage: str, *words: str) -> Walk:
        with monkeypatch.context() as patch:
            patch.setattr(asking, "sample_tokens", cut)
            patch.setattr(course, "update", updated)
            patch.setattr(course, "shuffled", lambda count: list(range(count)))
            patch.setattr(asking.Asking, "score", scored)
            place = (f"run.dir={found.directory}", f"model.path={start}")
            align(f"stage={stage}", *place, *WORLD, *COMMON, *words)
        assert len(found.updates) == UPDATES
        assert len(found.prompts) == len(found.replies) == ITERATIONS * PROMPTS
        return found

    return run


def settings(directory: Path) -> dict[str, Any]:
    """trl's settings for what ``COMMON`` asks of us."""
    return {
        "output_dir": str(directory),
        "max_steps": UPDATES,
        "num_generations": REPLIES,
        "num_iterations": EPOCHS,
        "steps_per_generation": MINIBATCHES,
        "per_device_train_batch_size": PROMPTS * REPLIES // MINIBATCHES,
        "shuffle_dataset": False,
        "max_completion_length": LENGTH,
        "temperature": TEMPERATURE,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": SEED,
    }


def theirs(
    make: Any, start: Path, ours: Walk, arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[dict[str, float]], Any]:
    """Trains by trl's trainer on the replies of our walk; its logged steps and its model."""
    for module in (rloo_trainer, grpo_trainer):
        monkeypatch.setattr(module, "shuffle_sequence_dict", lambda batch: batch)
    model = AutoModelForCausalLM.from_pretrained(start)
    rows = [{"prompt": [{"role": t.role, "content": t.content} for t in one]} for one in ours.prompts]
    said = {reply[1] for group in ours.replies for reply in group}

    def reward(prompts: Any, completions: Any, **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        assert said.issuperset(texts)
        asked = [next(one for one in ours.prompts if one[-1].content == p[-1]["content"]) for p in prompts]
        return Gold().score(asked, texts)

    trainer = make(
        model=model,
        args=arguments,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(start),
    )
    generations = iter(range(ITERATIONS))

    def replay(prompt_ids: Any, *rest: Any) -> Any:
        first = next(generations) * PROMPTS
        groups = range(first, first + PROMPTS)
        assert prompt_ids == [ours.prompt_ids[one] for one in groups for _ in range(REPLIES)]
        tokens = [reply[0] for one in groups for reply in ours.replies[one]]
        return tokens if make is RLOOTrainer else (tokens, None)

    trainer._generate_single_turn = replay
    trainer.train()
    return [line for line in trainer.state.log_history if "loss" in line], model


def assert_same_walk(ours: Walk, logged: list[dict[str, float]], model: Any, start: Path) -> None:
    """Every update's loss and gradient norm, every iteration's rewards, and the weights in the end."""
    assert len(logged) == UPDATES
    assert [one["loss"] for one in ours.updates] == pytest.approx([one["loss"] for one in logged], **SAME)
    norms = [one["grad_norm"] for one in ours.updates]
    assert norms == pytest.approx([one["grad_norm"] for one in logged], rel=1e-3)
    # where every reply of a minibatch is clipped, nothing moves
    still = [one["policy/clip_fraction"] for one in ours.updates if one["grad_norm"] <= 1e-2]
    assert all(share == 1.0 for share in still)
    assert len(still) < UPDATES / 4
    generated = logged[:: EPOCHS * MINIBATCHES]
    for name, their_name in {"rollout/score": "reward", "rollout/length": "completions/mean_length"}.items():
        mine = [line[name] for line in lines(ours.directory)]
        assert mine == pytest.approx([line[their_name] for line in generated], rel=1e-5), name
    kept, before = (load_file(one / "model.safetensors") for one in (ours.directory / "model", start))
    after = {name: tensor for name, tensor in model.state_dict().items() if name in kept}
    assert after.keys() == kept.keys()
    moved = max(float((kept[name] - before[name]).abs().max()) for name in kept)
    apart = max(float((kept[name] - after[name]).abs().max()) for name in kept)
    assert moved > 5 * RATE
    assert apart < 2e-4 < moved / 10


@pytest.mark.parametrize("old", ["sampled", "recomputed"])
def test_rloo_walks_with_trl(
    old: str, walk: Callable[..., Walk], start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The KL (k1) is in the reward, the ratio is the whole reply's, and the second epoch is clipped."""
    ours = walk("rloo", "kl.coef=0.3", f"rollout.old_logps={old}", "objective.clip_high=0.3")
    arguments = RLOOConfig(**settings(tmp_path / "trl"), beta=0.3, epsilon=0.2, epsilon_high=0.3)
    logged, model = theirs(RLOOTrainer, start, ours, arguments, monkeypatch)
    assert_same_walk(ours, logged, model, start)
    drifts = [line["rollout/kl"] / line["rollout/length"] for line in lines(ours.directory)]
    generated = logged[:: EPOCHS * MINIBATCHES]
    assert drifts == pytest.approx([line["kl"] for line in generated], abs=1e-4)
    assert max(map(abs, drifts)) > 0.01
    assert max(one["policy/clip_fraction"] for one in ours.updates) > 0


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ((), {"loss_type": "grpo", "scale_rewards": "group"}),
        (
            ("objective.mean=fixed_length", "advantage.scale=none"),
            {"loss_type": "dr_grpo", "scale_rewards": "none"},
        ),
        (
            ("objective.ratio=reply_mean", "advantage.scale=batch", "objective.mean=token"),
            {"loss_type": "bnpo", "scale_rewards": "batch", "importance_sampling_level": "sequence"},
        ),
    ],
    ids=["grpo", "dr_grpo", "gspo"],
)
def test_grpo_walks_with_trl(
    words: tuple[str, ...],
    options: dict[str, Any],
    walk: Callable[..., Walk],
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The KL (k3) is in the loss; what is divided by, and how replies are averaged, in three ways."""
    clip = ("objective.clip_low=0.02", "objective.clip_high=0.04")
    ours = walk("grpo", "kl.coef=0.3", "rollout.old_logps=recomputed", *clip, *words)
    arguments = GRPOConfig(
        **settings(tmp_path / "trl"),
        **options,
        beta=0.3,
        epsilon=0.02,
        epsilon_high=0.04,
        use_bias_correction_kl=False,  # that one is DeepSeek-V3.2's, which weights the KL by the ratio
    )
    logged, model = theirs(GRPOTrainer, start, ours, arguments, monkeypatch)
    assert_same_walk(ours, logged, model, start)
    spreads = [line["rollout/score_std"] * (16 / 15) ** 0.5 for line in lines(ours.directory)]
    generated = logged[:: EPOCHS * MINIBATCHES]
    assert spreads == pytest.approx([line["reward_std"] for line in generated], rel=1e-4)
    clipped = [one["policy/clip_fraction"] for one in ours.updates]
    if "importance_sampling_level" not in options:  # trl counts replies there, and we tokens
        assert clipped == pytest.approx([line["clip_ratio/region_mean"] for line in logged], abs=0.02)
    assert max(clipped) > 0
