"""Two ranks take the path of one: plain data parallel, and each stage of ZeRO. Starts ranks over gloo."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from ranks import PARTED, SAMPLING, STAGES, Command, assert_same_path, on_ranks, stages_of, words
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


@dataclass(frozen=True)
class Trees:
    """Where the runs of one rank lie, and those of two."""

    one: Path
    two: Path


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
    for command in stages_of(one, one).values():
        align(*command)
    for stage, command in _samplers(one, one).items():
        align(*command, f"run.dir={one / stage}")
    many = [Command(words("dpo", two / kind, *UNEVEN, *more)) for kind, more in KINDS.items()]
    many += [Command((*command, *PARTED)) for command in stages_of(two, one).values()]
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
    assert steps == (4 if stage in SAMPLING else 8)
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


def _again(trees: Trees, root: Path, kinds: Sequence[str], *more: Command) -> Path:
    """What two ranks left at step 15 of these kinds, resumed on two ranks, and on one (``KIND_alone``)."""
    for kind in kinds:
        for name in (kind, f"{kind}_alone"):
            _back_to_the_middle(trees.two / kind, root / name)
    on_ranks([*(Command(_resume(root / kind, *KINDS[kind])) for kind in kinds), *more], root / "start")
    for kind in kinds:
        align(*_resume(root / f"{kind}_alone"))
    return root


def _resume(directory: Path, *more: str) -> tuple[str, ...]:
    return (*words("dpo", directory, *UNEVEN, *more), "resume=true")


def _back_to_the_middle(source: Path, target: Path) -> None:
    shutil.copytree(source, target)
    shutil.rmtree(target / "checkpoints" / f"step-{LONG:06d}")


@pytest.fixture(scope="module")
def resumed(trees: Trees) -> Path:
    """ZeRO 3, what SIGTERM stopped under ZeRO 2, and what one rank began."""
    root = trees.two.parent / "resumed"
    shutil.copytree(trees.two / "struck", root / "struck")
    _back_to_the_middle(trees.one / "dpo", root / "from_one")
    struck = Command(_resume(root / "struck", "deepspeed=zero2"))
    return _again(trees, root, ("zero3",), struck, Command(_resume(root / "from_one", *PARTED)))


@pytest.fixture(scope="module")
def others_resumed(trees: Trees) -> Path:
    """The other kinds."""
    return _again(trees, trees.two.parent / "others", [kind for kind in KINDS if kind != "zero3"])


def _assert_same_bits(unbroken: Path, resumed: Path) -> None:
    """Every line, and every tensor of the last checkpoint."""
    assert lines(resumed) == lines(unbroken)
    place = Path("checkpoints") / f"step-{LONG:06d}"
    for file in sorted((unbroken / place).glob("*.safetensors")):
        assert (resumed / place / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize(("name", "kind"), [("zero3", "zero3"), ("struck", "zero2")])
def test_resume_on_as_many_ranks_is_exact(trees: Trees, resumed: Path, name: str, kind: str) -> None:
    """To the last bit, after a checkpoint in the middle and after SIGTERM."""
    _assert_same_bits(trees.two / kind, resumed / name)


@pytest.mark.parametrize("name", ["zero3_alone", "from_one"])
def test_resume_on_another_number_of_ranks(trees: Trees, resumed: Path, name: str) -> None:
    """From two ranks to one, and from one to two under ZeRO 3: up to rounding."""
    assert_same_path(trees.one / "dpo", resumed / name, LONG)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "zero3"])
def test_every_kind_resumes(trees: Trees, others_resumed: Path, kind: str) -> None:
    _assert_same_bits(trees.two / kind, others_resumed / kind)
    assert_same_path(trees.one / "dpo", others_resumed / f"{kind}_alone", LONG)
