"""``stage=online_dpo``: how fresh pairs are made, and the command itself, cut, stopped and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import STEPS, WORLD, align, lines, stopped

from align.__main__ import main
from align.packing.layout import ReplyGroup
from align.ppo.online import fresh_pairs
from align.ppo.settings import OnlineSettings
from align.tracking.metrics import MetricsFile

REWARD = ("reward=gold", "sampling.max_new_tokens=12", "evaluation.prompts=6", "evaluation.shown=1")


def ids(*values: int) -> Any:
    return np.array(values, dtype=np.int32)


def groups(replies: int, prompts: int) -> list[ReplyGroup]:
    """Reply i of prompt b is the token 10 b + i."""
    return [ReplyGroup(ids(100 + b), tuple(ids(10 * b + i) for i in range(replies))) for b in range(prompts)]


def sides(scores: list[float], replies: int, online: OnlineSettings | None = None) -> list[tuple[int, int]]:
    """Chosen and rejected token of each pair; ``scores`` are first replies first."""
    prompts = len(scores) // replies
    found = fresh_pairs(
        groups(replies, prompts),
        torch.tensor(scores, dtype=torch.float64),
        [f"p{b}" for b in range(prompts)],
        online or OnlineSettings(replies=replies),
    )
    return [(int(one.chosen_ids[0]), int(one.rejected_ids[0])) for one in found]


def test_the_best_stands_against_the_worst() -> None:
    """Two prompts with three replies: scores 1, 5, 3 and 2, 2, 0; of equals the first."""
    assert sides([1.0, 2.0, 5.0, 2.0, 3.0, 0.0], replies=3) == [(1, 0), (10, 12)]


def test_replies_that_are_worth_the_same_make_no_pair() -> None:
    assert sides([1.0, 2.0, 1.0, 3.0], replies=2) == [(11, 10)]


def test_replies_of_the_same_tokens_make_no_pair() -> None:
    """A reward that is not a function of the text can score the same reply twice differently."""
    same = [ReplyGroup(ids(1), (ids(7, 8), ids(7, 8)))]
    assert fresh_pairs(same, torch.tensor([0.0, 1.0]), ["p"], OnlineSettings()) == []


def test_labels_are_drawn_by_bradley_terry() -> None:
    """A difference of log 3 at temperature 1, of 2 log 3 at 2: the better reply wins three times in four."""
    torch.manual_seed(0)
    count = 4000
    for scale in (1.0, 2.0):
        online = OnlineSettings(labels="bradley_terry", label_temperature=scale)
        scores = [0.0] * count + [scale * float(np.log(3))] * count
        won = sum(chosen > rejected for chosen, rejected in sides(scores, 2, online))
        assert won / count == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / count) ** 0.5)


def words(directory: Path, sft_run: Path, *more: str) -> list[str]:
    start = (f"run.dir={directory}", f"model.path={sft_run}", *WORLD, *STEPS, *REWARD)
    return ["stage=online_dpo", *start, *more]


@pytest.fixture(scope="session")
def online_run(runs: Path, sft_run: Path) -> Path:
    align(*words(runs / "online_dpo", sft_run))
    return runs / "online_dpo"


@pytest.mark.medium
def test_the_first_step_is_taken_from_the_reference(online_run: Path) -> None:
    """Policy and reference are the same model: loss ln 2, rewards 0, and no drift yet."""
    first, *_, last = lines(online_run)
    assert first["loss"] == pytest.approx(float(np.log(2)), abs=1e-6)
    assert (first["rewards/margin"], first["rollout/kl"]) == pytest.approx((0.0, 0.0), abs=1e-5)
    assert last["rollout/kl"] != 0
    names = {"rollout/score", "rollout/score_std", "rollout/length", "rollout/ended", "rollout/distinct_2"}
    assert names | {"rollout/pairs", "logps/chosen", "rewards/accuracy", "grad_norm"} <= first.keys()
    found = [one["metric"] for one in json.loads((online_run / "results.json").read_text())]
    assert found[:3] == ["online_dpo/score_before", "online_dpo/score_after", "online_dpo/score_gained"]


@pytest.mark.medium
def test_the_same_command_gives_the_same_bits_and_a_resumed_one_too(
    tmp_path: Path, online_run: Path, sft_run: Path
) -> None:
    """Stopped when step 3 is written down, of labels that are drawn: the global generator goes on, too."""
    drawn = ("online.labels=bradley_terry", "online.replies=3", "training.micro_batch_size=4")
    align(*words(tmp_path / "whole", sft_run, *drawn))
    broken = words(tmp_path / "broken", sft_run, *drawn)
    stopped(*broken, owner=MetricsFile, name="write", call=3, after=True)
    align(*words(tmp_path / "broken", sft_run, *drawn, "resume=true"))
    assert lines(tmp_path / "broken") == lines(tmp_path / "whole")
    for file in ("model/model.safetensors", "results.json", "samples.jsonl"):
        assert (tmp_path / "broken" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    assert lines(tmp_path / "whole") != lines(online_run)


@pytest.mark.medium
def test_micro_batches_change_rounding_only(tmp_path: Path, online_run: Path, sft_run: Path) -> None:
    align(*words(tmp_path / "cut", sft_run, "training.micro_batch_size=2"))
    first, cut = lines(online_run)[0], lines(tmp_path / "cut")[0]
    for name in ("loss", "grad_norm", "logps/chosen", "rollout/score", "rollout/pairs"):
        assert cut[name] == pytest.approx(first[name], rel=1e-5), name


@pytest.mark.medium
def test_a_reward_that_likes_all_alike_teaches_nothing(
    tmp_path: Path, sft_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pair, no update: the weights stay, which the metrics say."""
    from reward_models.gold import Gold

    class Indifferent:
        def score(self, prompts: Any, replies: Any) -> list[float]:
            return [0.5] * len(replies)

    monkeypatch.setattr(Gold, "prepare", lambda self, cache=None: Indifferent())
    align(*words(tmp_path / "run", sft_run))
    assert [line["rollout/pairs"] for line in lines(tmp_path / "run")] == [0.0] * 6
    assert [line["rollout/equal_groups"] for line in lines(tmp_path / "run")] == [1.0] * 6
    before, after = (load_file(run / "model" / "model.safetensors") for run in (sft_run, tmp_path / "run"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.medium
def test_a_loss_without_a_reference_asks_none(tmp_path: Path, sft_run: Path) -> None:
    align(*words(tmp_path / "run", sft_run, "loss=simpo", "sampling.temperature=0.8"))
    assert "rollout/kl" not in lines(tmp_path / "run")[0]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("online.replies=1",), "online.replies"),
        (("online.label_temperature=0",), "online.label_temperature"),
        (("sampling.temperature=0",), "sampling.temperature=0 always says the same"),
        (("sampling.top_p=0.9",), "sampling.top_p=0.9 samples from another distribution"),
        (("sampling.max_new_tokens=192",), "sampling.max_new_tokens=192 leaves no room for a prompt"),
        (("unpaired_loss=kto",), "stage=online_dpo does not use a unpaired_loss"),
    ],
)
def test_what_it_refuses(
    more: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words(tmp_path / "run", tmp_path / "sft"), *more]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
