"""What ppo, rloo and grpo cannot do is said in one message, before anything is sampled wherever it can be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rollout_runs import words
from safetensors.torch import load_file, save_file
from tiny_runs import SHAPE, WORLD, align, lines, record

from align.__main__ import main
from align.errors import DataError, ModelError, NonFiniteError

SERVER = ("server.url=http://localhost:8000/v1", "server.model=policy")
RECOMPUTED = (*SERVER, "rollout.old_logps=recomputed")


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit code and message of a command that is stopped; an exception that gets out fails the test."""
    capsys.readouterr()
    code = main(words)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    (message,) = [line for line in said.splitlines() if line.startswith("align: ")]
    return code, " ".join(said[said.index(message) :].split())


@pytest.mark.parametrize(
    ("kind", "more", "said"),
    [
        ("ppo", ("sampling.temperature=0",), "give a temperature above 0"),
        ("ppo", ("sampling.top_p=0.9",), "sampling.top_p=0.9 samples from another distribution"),
        ("ppo", ("sampling.max_new_tokens=192",), "leaves no room for a prompt in model.max_length=192"),
        ("rloo", ("model.dropout=0.1",), "model.dropout=0.1: with dropout the first ratio is not 1"),
        ("lora", ("adapter.dropout=0.1",), "adapter.dropout=0.1: with dropout the first ratio is not 1"),
        ("ppo", ("objective.minibatches=3",), "does not divide training.batch_size=8: change the one"),
        (
            "ppo",
            ("training.micro_batch_size=4",),
            "training.micro_batch_size=4 does not divide the 2 prompts of a minibatch",
        ),
        ("rloo", ("rollout.replies=1",), "rollout.replies=1: a prompt's replies are compared"),
        ("grpo", ("rollout.replies=1",), "so there must be two at least"),
        ("ppo", ("rollout.replies=0",), "rollout.replies: takes an integer at least 1"),
        ("ppo", ("rollout.importance_cap=2",), "set old_logps=recomputed, or leave it out"),
        ("ppo", ("kl.place=loss",), "kl: estimator=k1 in the loss has no gradient on average"),
        ("ppo", ("kl.coef=0",), "starts at coef=0 stays there: give coef above 0"),
        ("ppo", ("kl.target=0",), "kl.target: takes a number above 0"),
        ("rloo", ("advantage.scale=group",), "scale=group is for baseline=group_mean: set that, or"),
        ("grpo", ("advantage.lam=0.9",), "advantage.lam: there is no such option"),
        ("ppo", ("critic.path=somewhere",), "critic: path is for kind=separate"),
        ("rloo", ("critic.kind=shared",), "critic: there is no such option"),
        ("ppo", ("objective.clip_low=2",), "objective.clip_low: takes a number at least 0 and at most 1"),
        (
            "ppo",
            ("objective.dual_clip=1.1",),
            "dual_clip=1.1 would cut the clip range, which ends at 1 + clip_high = 1.2: give more",
        ),
        ("ppo", ("objective.dual_clip=3", "objective.form=cispo"), "leave it out with form=cispo"),
        ("ppo", ("objective.epoch=2",), "Did you mean 'epochs'?"),
        ("ppo", ("training.early_stopping=2",), "set training.early_stopping=null"),
        ("grpo", ("training.eval_every=2",), "set training.eval_every=null"),
        ("ppo", ("serving.logprobs=tempered",), "give server.url=ADDRESS server.model=NAME, or leave out"),
        ("ppo", (*SERVER,), "type rollout.old_logps=recomputed"),
        ("rloo", (*RECOMPUTED,), "weigh its replies with rollout.importance_cap=2, or let it load"),
        (
            "grpo",
            (*RECOMPUTED, "serving.reload=vllm", "serving.refresh_every=4"),
            "serving.refresh_every=4 lets the server fall behind the policy: weigh its replies with",
        ),
        (
            "ppo",
            (*RECOMPUTED, "serving.logprobs=none", "rollout.importance_cap=2"),
            "set serving.logprobs=raw",
        ),
        (
            "ppo",
            (*RECOMPUTED, "serving.reload=vllm", "sampling.temperature=0.7"),
            "cannot be compared with the policy's at sampling.temperature=0.7: type sampling.temperature=1",
        ),
        ("ppo", (*RECOMPUTED, "serving.reload=vllm_lora"), "type adapter=lora, or reload=vllm"),
        ("ppo", ("server.url=http://localhost:8000/v1",), "server.model: is missing"),
        ("ppo", ("reward=bradley_terry",), "reward.path: is missing: type reward.path=..."),
        ("ppo", ("loss=dpo",), "stage=ppo does not use a loss; leave out loss=..."),
    ],
)
def test_settings_that_do_not_go_together(
    kind: str, more: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is loaded for it: there is no model where the command says."""
    code, message = refusal(capsys, *words(kind, tmp_path / "run", tmp_path / "nothing", *more))
    assert code == 2
    assert said in message
    assert not (tmp_path / "run").exists()


@pytest.mark.medium
@pytest.mark.parametrize("role", ["model", "reward", "critic"])
def test_a_model_that_is_not_there(
    role: str, tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = ("reward=bradley_terry",) if role == "reward" else ()
    missing = (*reward, f"{role}.path=./runs/nothing")
    code, said = refusal(capsys, *words("separate", tmp_path / "run", sft_run, *missing))
    assert (code, said) == (ModelError.exit_code, "align: there is no model at ./runs/nothing.")


@pytest.mark.medium
def test_a_policy_is_no_reward_and_a_reward_no_policy(
    tmp_path: Path, sft_run: Path, reward_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ("reward=bradley_terry", f"reward.path={sft_run}")
    code, said = refusal(capsys, *words("ppo", tmp_path / "a", sft_run, *wrong))
    assert code == ModelError.exit_code
    assert "has no head that gives scores" in said
    code, said = refusal(capsys, *words("ppo", tmp_path / "b", reward_run))
    assert code == ModelError.exit_code
    assert "is a reward model, not a policy" in said


@pytest.mark.medium
def test_a_critic_reads_the_policys_own_tokens(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reward model of another vocabulary scores text well enough, but is no critic."""
    other = [word for word in SHAPE if "vocab_size" not in word]
    place = ("stage=reward", f"run.dir={tmp_path / 'other'}", "training.max_steps=1", "training.batch_size=2")
    align(*place, *other, "model.scratch.vocab_size=330", *WORLD)
    critic = f"critic.path={tmp_path / 'other'}"
    code, said = refusal(capsys, *words("separate", tmp_path / "run", sft_run, critic))
    assert code == ModelError.exit_code
    assert f"{critic} has another tokenizer than the policy" in said
    assert "or set critic.path=null" in said
    assert not (tmp_path / "run" / "checkpoints").exists()
    reward = ("reward=bradley_terry", f"reward.path={tmp_path / 'other'}", "training.max_steps=1")
    align(*words("rloo", tmp_path / "scored", sft_run, *reward))


def prompts_of(tmp_path: Path, *lengths: int) -> tuple[str, ...]:
    """A dataset of prompts of that many words, one pair each."""
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"{place} " + "bell " * length, "chosen": "Yes, it rings.", "rejected": "No."}
        for place, length in enumerate(lengths)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("dataset=preference", f"dataset.path={file}", "dataset.test_fraction=0")


def on(data: tuple[str, ...], kind: str, directory: Path, start: Path, *more: str) -> list[str]:
    """The command of a run on other data than the embedded world's."""
    own = [word for word in words(kind, directory, start) if not word.startswith("dataset.")]
    return [*own, *data, "training.max_steps=1", *more]


LONG = (3, 4, 5, 6, 7, 120, 5, 4, 130, 3)
"""Words of ten prompts; two are too long for a model of 64 tokens."""


@pytest.mark.medium
def test_prompts_that_leave_no_room(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (*prompts_of(tmp_path, *LONG), "dataset.validation_fraction=0", "model.max_length=64")
    code, said = refusal(capsys, *on(data, "rloo", tmp_path / "error", sft_run, "dataset.too_long=error"))
    assert code == DataError.exit_code
    assert "beside sampling.max_new_tokens=12 there is room for 52" in said
    assert "raise model.max_length, or set dataset.too_long=truncate_left or drop" in said

    capsys.readouterr()
    for how, done, left in (("truncate_left", "lost their oldest tokens", 10), ("drop", "were left out", 8)):
        align(*on(data, "rloo", tmp_path / how, sft_run, f"dataset.too_long={how}"))
        assert f"2 of 10 prompts have more than 52 tokens and {done}" in capsys.readouterr().out
        assert lines(tmp_path / how)[0]["epoch"] == 8 / left

    all_long = (*prompts_of(tmp_path, 120, 130), *data[2:])
    code, said = refusal(capsys, *on(all_long, "rloo", tmp_path / "none", sft_run, "dataset.too_long=drop"))
    assert code == DataError.exit_code
    assert "no prompt has 52 tokens or fewer: raise model.max_length" in said


@pytest.mark.medium
def test_without_unseen_prompts_a_run_ends_without_a_comparison(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(*words("ppo", tmp_path / "run", sft_run, "dataset.test_fraction=0"))
    said = capsys.readouterr()
    assert "the test split is empty, nothing is measured on unseen prompts" in said.out + said.err
    assert record(tmp_path / "run")["state"] == "completed"
    found = json.loads((tmp_path / "run" / "results.json").read_text())
    assert {one["metric"].partition("/")[2].partition("/")[0] for one in found} == {"alarms"}
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


@pytest.mark.medium
def test_a_nan_in_the_policy_stops_it_before_an_update(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sft_run / "model", tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    code, said = refusal(capsys, *words("ppo", tmp_path / "run", tmp_path / "model"))
    assert code == NonFiniteError.exit_code
    assert "the logits of the policy are not finite" in said
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.medium
@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_names_its_prompt(
    score: float,
    tmp_path: Path,
    sft_run: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from reward_models.gold import Gold

    def broken(self: Gold, prompts: Any, replies: Any) -> list[float]:
        return [score if row == 5 else 0.0 for row in range(len(replies))]

    monkeypatch.setattr(Gold, "score", broken)
    code, said = refusal(capsys, *words("grpo", tmp_path / "run", sft_run))
    assert code == NonFiniteError.exit_code
    assert f"{score}" in said
    assert "prompt " in said
    assert lines(tmp_path / "run") == []
