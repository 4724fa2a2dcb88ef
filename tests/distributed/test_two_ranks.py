"""Two ranks take the path of one: plain data parallel, and each stage of ZeRO. Starts ranks over gloo."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ranks import PARTED, Command, assert_same_path, on_ranks, words
from safetensors.torch import load_file
from tiny_runs import WORLD, align, lines, record

from align.report.files import read_samples

pytestmark = pytest.mark.medium

LONG = 30
UNEVEN = (f"training.max_steps={LONG}", "training.batch_size=9", "training.micro_batch_size=3")
UNEVEN += ("training.save_every=15",)
"""Three micro-batches: a rank has one of them, the other two."""
KINDS = {
    "none": ("deepspeed=none",),
    "zero1": ("deepspeed=zero1",),
    "zero2": ("deepspeed=zero2",),
    "zero3": PARTED,
}
SHORT = ("training.max_steps=8", "training.batch_size=9")
"""At once on one rank; on two, five and four."""
ROLLOUTS = ("training.max_steps=4", "training.batch_size=6", "sampling.max_new_tokens=10")
ROLLOUTS += ("evaluation.prompts=5", "evaluation.shown=1")
STAGES = ("sft", "reward", "kto", "ppo", "rloo", "grpo", "online_dpo")


@dataclass(frozen=True)
class Trees:
    """Where the runs of one rank lie, and those of two."""

    one: Path
    two: Path


def _stages(root: Path, start: Path) -> dict[str, tuple[str, ...]]:
    """A command for each stage but DPO; those that sample start from ``start``'s policy and reward."""
    judge = f"reward.path={start / 'reward'}"

    def sampling(stage: str, *more: str) -> tuple[str, ...]:
        return words(stage, root / stage, *ROLLOUTS, judge, *more, start=start / "sft")

    return {
        "sft": words("sft", root / "sft", *SHORT),
        "reward": words("reward", root / "reward", *SHORT, "training.eval_every=4"),
        # the drift is estimated a micro-batch at a time: four replies, on each number of ranks
        "kto": words(
            "kto",
            root / "kto",
            "training.max_steps=8",
            "training.batch_size=8",
            "training.micro_batch_size=4",
        ),
        "early": words("dpo", root / "early", *SHORT, "training.eval_every=1", "training.early_stopping=2"),
        "ppo": sampling("ppo", "objective.minibatches=2", "objective.epochs=2"),
        "rloo": sampling("rloo", "objective.minibatches=3", "rollout.replies=2"),
        "grpo": sampling("grpo", "objective.minibatches=1", "rollout.replies=3"),
        "online_dpo": sampling("online_dpo"),
    }


def _samplers(root: Path, start: Path) -> dict[str, tuple[str, ...]]:
    """Stages that sample and score without training."""
    policy, judge = f"model.path={start / 'sft'}", f"reward.path={start / 'reward'}"
    asked = (*WORLD, policy, "sampling.max_new_tokens=10", "reward=bradley_terry", judge)
    chosen = ("best_of_n.n=3", "best_of_n.prompts=5", "best_of_n.chunk=2")
    collected = ("collect=best_of_n", "collection.limit=5", "collection.chunk=2")
    return {
        "evaluate": ("stage=evaluate", *asked, f"reference.path={start / 'early'}", "evaluation.prompts=5"),
        "best_of_n": ("stage=best_of_n", *asked, *chosen),
        "collect": ("stage=collect", *asked, *collected),
    }


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    """All runs: those of one rank in this process, those of two in one start."""
    root = tmp_path_factory.mktemp("ranks")
    one, two = root / "one", root / "two"
    align(*words("dpo", one / "dpo", *UNEVEN))
    for command in _stages(one, one).values():
        align(*command)
    for stage, command in _samplers(one, one).items():
        align(*command, f"run.dir={one / stage}")
    many = [Command(words("dpo", two / kind, *UNEVEN, *more)) for kind, more in KINDS.items()]
    many += [Command((*command, *PARTED)) for command in _stages(two, one).values()]
    many += [Command((*command, f"run.dir={two / stage}")) for stage, command in _samplers(two, one).items()]
    many.append(Command(words("dpo", two / "struck", *UNEVEN, "deepspeed=zero2"), code=143, sigterm=(1, 5)))
    on_ranks(many, root / "start")
    return Trees(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_dpo_takes_the_path_of_one_rank(trees: Trees, kind: str) -> None:
    """30 steps whose batch does not divide: no pair is lost, none counts twice, all numbers agree to 1e-5."""
    assert_same_path(trees.one / "dpo", trees.two / kind, LONG)


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_is_whole_whatever_each_rank_holds(trees: Trees, kind: str) -> None:
    """Weights and moments lie in it as one rank alone writes them, and the generators of both ranks."""
    place = Path("checkpoints") / f"step-{LONG:06d}"
    mine, theirs = trees.one / "dpo" / place, trees.two / kind / place
    for name in ("weights", "optimiser"):
        expected, found = (load_file(where / f"{name}.safetensors") for where in (mine, theirs))
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5, msg=f"{name}: {key}")
    assert {one.name for one in theirs.iterdir()} == {
        *(one.name for one in mine.iterdir()),
        "generators-1.safetensors",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_written_whole(trees: Trees, kind: str) -> None:
    mine, theirs = (
        load_file(root / "model" / "model.safetensors") for root in (trees.one / "dpo", trees.two / kind)
    )
    assert theirs.keys() == mine.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5)
    assert record(trees.two / kind)["state"] == "completed"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_takes_the_path_of_one_rank(trees: Trees, stage: str) -> None:
    """ZeRO 3, every weight in parts; stages that sample say the same replies, score and judge them alike."""
    steps = len(lines(trees.one / stage))
    assert steps == (4 if stage in ("ppo", "rloo", "grpo", "online_dpo") else 8)
    assert_same_path(trees.one / stage, trees.two / stage, steps)


@pytest.mark.parametrize("stage", ["evaluate", "best_of_n", "collect"])
def test_shared_samples_and_scores_are_those_of_one_rank(trees: Trees, stage: str) -> None:
    """The same replies to the same prompts, chunk by chunk; scores and results up to rounding."""
    one, two = (json.loads((root / stage / "results.json").read_text()) for root in (trees.one, trees.two))
    assert one, "nothing was measured"
    assert [result["metric"] for result in two] == [result["metric"] for result in one]
    for mine, theirs in zip(one, two, strict=True):
        assert theirs["value"] == pytest.approx(mine["value"], rel=1e-5, abs=1e-5), mine["metric"]
    rows = [read_samples(root / stage / "samples.jsonl") for root in (trees.one, trees.two)]
    texts = [
        [(row["prompt"], {who: reply["text"] for who, reply in row["replies"].items()}) for row in found]
        for found in rows
    ]
    assert texts[0], "no sample"
    assert texts[1] == texts[0]


def test_early_stopping_is_the_same_decision(trees: Trees) -> None:
    """It stopped before the end, on both; the model is the best one's."""
    steps = len(lines(trees.one / "early"))
    assert steps < 8, "it did not stop early: nothing is tested"
    assert_same_path(trees.one / "early", trees.two / "early", steps)


def test_sigterm_on_one_rank_ends_both_at_one_step(trees: Trees) -> None:
    """Rank 1 was told during step 5; both finished it, and rank 0 saved it."""
    struck = trees.two / "struck"
    assert [one.name for one in (struck / "checkpoints").iterdir()] == ["step-000005"]
    assert [line["step"] for line in lines(struck)] == [1, 2, 3, 4, 5]
    assert record(struck)["state"] == "terminated"


@pytest.fixture(scope="module")
def resumed(trees: Trees) -> Path:
    """What two ranks left at step 15 (and at SIGTERM), resumed on two ranks, and on one."""
    root = trees.two.parent / "resumed"
    for kind in KINDS:
        for name in (kind, f"{kind}_alone"):
            _back_to_the_middle(trees.two / kind, root / name)
    _back_to_the_middle(trees.one / "dpo", root / "from_one")
    shutil.copytree(trees.two / "struck", root / "struck")

    def again(name: str, *more: str) -> tuple[str, ...]:
        return (*words("dpo", root / name, *UNEVEN, *more), "resume=true")

    many = [Command(again(kind, *more)) for kind, more in KINDS.items()]
    on_ranks(
        [*many, Command(again("from_one", *PARTED)), Command(again("struck", "deepspeed=zero2"))],
        root / "start",
    )
    for kind in KINDS:
        align(*again(f"{kind}_alone"))
    return root


def _back_to_the_middle(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    shutil.rmtree(target / "checkpoints" / f"step-{LONG:06d}")


@pytest.mark.parametrize("kind", [*KINDS, "struck"])
def test_resume_on_as_many_ranks_is_exact(trees: Trees, resumed: Path, kind: str) -> None:
    """To the last bit: every line, and every file of the last checkpoint but the clock's counters."""
    unbroken = trees.two / ("zero2" if kind == "struck" else kind)
    assert lines(resumed / kind) == lines(unbroken)
    place = Path("checkpoints") / f"step-{LONG:06d}"
    for file in sorted((unbroken / place).glob("*.safetensors")):
        assert (resumed / kind / place / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("name", [*(f"{kind}_alone" for kind in KINDS), "from_one"])
def test_resume_on_another_number_of_ranks(trees: Trees, resumed: Path, name: str) -> None:
    """From two ranks to one, whatever each held, and from one to two under ZeRO 3: up to rounding."""
    assert_same_path(trees.one / "dpo", resumed / name, LONG)
