"""What a run leaves behind: every file, true to what ran, and a model that loads by itself."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import lines, losses, record
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from align.files import sha256_of
from align.pairs.store import TokenStore
from align.report.files import read_metrics
from align.tracking.metrics import CLOCK_KEYS, PHASES, ROLLOUT_PHASES
from align.training import checkpoints
from align.training.sampler import Sampler
from align.types import Message
from reward_models.bradley_terry import BradleyTerry

pytestmark = pytest.mark.medium

SHA256 = re.compile(r"[0-9a-f]{64}")
TRAINING = ("sft", "reward", "dpo")


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Path:
    """The run of the stage that the test is parametrised with."""
    directory: Path = request.getfixturevalue(f"{request.param}_run")
    return directory


def sampler_of(store: TokenStore[Any, Any]) -> Sampler:
    """What draws the batches of a tiny run: packed rows need no like lengths."""
    return Sampler(0, 8, len(store))


def results(directory: Path) -> dict[str, dict[str, Any]]:
    """results.json by metric."""
    return {entry["metric"]: entry for entry in json.loads((directory / "results.json").read_text())}


@pytest.mark.parametrize("run", [*TRAINING, "evaluate"], indirect=True)
def test_run_json_says_what_ran(run: Path) -> None:
    found = record(run)
    assert (found["stage"], found["state"], found["seed"]) == (run.name, "completed", 0)
    assert found["command"][:3] == ["python", "-m", "align"]
    assert f"run.dir={run}" in found["command"]
    assert {"align", "python", "torch", "transformers", "trl", "peft", "numpy"} <= found["versions"].keys()
    if found["git"] is not None:  # None where the tests run outside a checkout
        assert re.fullmatch(r"[0-9a-f]{40}", found["git"]["commit"])
        assert isinstance(found["git"]["dirty"], bool)
    assert found["seconds"] > 0
    assert yaml.safe_load((run / "config.yaml").read_text()) == found["config"]


@pytest.mark.parametrize("run", [*TRAINING, "evaluate"], indirect=True)
def test_all_that_went_in_is_hashed(run: Path) -> None:
    inputs = record(run)["inputs"]
    from_scratch = run.name == "sft"
    for role in {"data", "tokenizer", "chat_template"} | (set() if from_scratch else {"model"}):
        assert SHA256.fullmatch(inputs[role]["sha256"]), role
    if from_scratch:
        assert inputs["model"] == {"path": None}


def test_the_same_data_and_tokenizer_have_the_same_hash(
    sft_run: Path, reward_run: Path, dpo_run: Path
) -> None:
    sft, reward, dpo = (record(run)["inputs"] for run in (sft_run, reward_run, dpo_run))
    assert reward["data"] == dpo["data"] != sft["data"]  # sft reads the chosen replies only
    assert sft["tokenizer"] == reward["tokenizer"] == dpo["tokenizer"]
    assert sft["chat_template"] == dpo["chat_template"] != dpo["tokenizer"]


@pytest.mark.parametrize("run", TRAINING, indirect=True)
def test_what_came_out_is_hashed(run: Path) -> None:
    assert record(run)["outputs"]["model"]["sha256"] == sha256_of(run / "model")


def test_the_lineage_leads_back_to_the_first_run(
    sft_run: Path, reward_run: Path, dpo_run: Path, evaluate_run: Path
) -> None:
    inputs = record(evaluate_run)["inputs"]
    for role, origin in (("model", dpo_run), ("reference", sft_run), ("reward", reward_run)):
        assert inputs[role]["path"] == str(origin)
        assert inputs[role]["sha256"] == record(origin)["outputs"]["model"]["sha256"]
        assert inputs[role]["run"]["command"] == record(origin)["command"]
    before = inputs["model"]["run"]["inputs"]["model"]
    assert before["sha256"] == record(sft_run)["outputs"]["model"]["sha256"]
    assert before["run"]["stage"] == "sft"


@pytest.mark.parametrize("run", TRAINING, indirect=True)
def test_metrics_hold_one_line_a_logging_step(run: Path) -> None:
    found = lines(run)
    assert [line["step"] for line in found] == [1, 2, 3, 4, 5, 6]
    assert all(math.isfinite(value) for line in found for value in line.values())
    # batch 8 of 136 pairs: the rate rises over two steps to its peak, then falls
    assert found[-1]["epoch"] == pytest.approx(48 / 136)
    assert [line["learning_rate"] for line in found] == pytest.approx(
        [0.001, 0.002, 0.003, 0.00225, 0.0015, 0.00075]
    )


@pytest.mark.parametrize("run", TRAINING, indirect=True)
def test_each_line_says_what_it_cost(run: Path) -> None:
    """Rates are of one interval: seconds cancel in their ratios. A pair's prompt stands once, not twice."""
    for line in read_metrics(run / "metrics.jsonl"):
        rollouts = {f"time_share/{phase}" for phase in ROLLOUT_PHASES}
        assert line.keys() >= (CLOCK_KEYS - rollouts) | {"tokens", "fill_rate"}
        assert sum(line[f"time_share/{phase}"] for phase in PHASES) == pytest.approx(1.0)
        assert 0 < line["mfu"] < 2  # a busy machine measures a low peak
        assert line["fill_rate"] == 1
        assert line["memory_peak_mb"] > 100  # torch alone
        repeated = line["tokens_per_second/total"] / line["tokens_per_second"]
        assert repeated == 1.0 if run.name == "sft" else 1 < repeated < 2
    store: TokenStore[Any, Any] = TokenStore(run / "data" / "train.arrow")
    drawn = [store[i] for step in range(1, 7) for i in sampler_of(store).batch(step)]
    fields = [value for item in drawn for value in vars(item).values()]
    assert line["tokens"] == sum(len(ids) for ids in fields if isinstance(ids, np.ndarray))


@pytest.mark.parametrize(
    ("run", "metrics"),
    [
        ("sft", {"sft/nll"}),
        ("reward", {"reward/accuracy", "reward/bayes_accuracy"}),
        ("dpo", {"dpo/implicit/accuracy"}),
        ("evaluate", {"sft/gold_reward", "dpo/gold_reward", "dpo/gold_win_rate", "dpo/kl"}),
        ("evaluate", {"dpo/proxy_reward", "dpo/proxy_win_rate"}),
    ],
    indirect=["run"],
)
def test_results_are_numbers_with_their_intervals(run: Path, metrics: set[str]) -> None:
    found = results(run)
    assert metrics <= found.keys()
    for entry in found.values():
        assert entry.keys() == {"metric", "value", "n", "ci_low", "ci_high", "method"}
        assert entry["n"] > 0
        if entry["method"] == "exact":
            assert entry["ci_low"] is entry["ci_high"] is None
        else:
            assert entry["ci_low"] <= entry["value"] <= entry["ci_high"], entry


def test_samples_hold_both_policies_replies(evaluate_run: Path) -> None:
    rows = [json.loads(line) for line in (evaluate_run / "samples.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert len({json.dumps(row["prompt"]) for row in rows}) == 6
    for row in rows:
        assert row["prompt"][-1]["role"] == "user"
        assert list(row["replies"]) == ["sft", "dpo"]
        for reply in row["replies"].values():
            assert 1 <= reply["tokens"] <= 12
            assert math.isfinite(reply["scores"]["gold"])
    gold = [row["replies"]["dpo"]["scores"]["gold"] for row in rows]
    assert results(evaluate_run)["dpo/gold_reward"]["value"] == pytest.approx(sum(gold) / 6)


@pytest.mark.parametrize("run", TRAINING, indirect=True)
def test_the_data_report_counts_every_row(run: Path) -> None:
    report = json.loads((run / "data_report.json").read_text())
    assert report["read"] == 160
    assert report["kept"] == sum(report["splits"].values()) == 160 - sum(report["refused"].values())
    for split, count in report["splits"].items():
        store: TokenStore[Any, Any] = TokenStore(run / "data" / f"{split}.arrow")
        assert len(store) == count > 0


@pytest.mark.parametrize("run", TRAINING, indirect=True)
def test_the_newest_checkpoints_and_a_figure_stay(run: Path) -> None:
    folder = run / "checkpoints"
    assert checkpoints.steps_in(folder) == [4, 6]
    assert [checkpoints.damage(checkpoints.folder_of(folder, step)) for step in (4, 6)] == [None, None]
    assert len(list(folder.iterdir())) == 2
    (figure,) = (run / "figures").iterdir()
    assert figure.read_bytes().startswith(b"\x89PNG")


def trained_weights(run: Path) -> dict[str, torch.Tensor]:
    """The weights right after the last step."""
    last = checkpoints.newest(run / "checkpoints")
    assert last is not None
    return dict(last.tensors["weights"])


@pytest.mark.parametrize("run", ["sft", "dpo"], indirect=True)
def test_the_policy_loads_by_itself_with_the_weights_of_the_last_step(run: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    held = dict(model.named_parameters())
    trained = trained_weights(run)
    assert held.keys() == trained.keys()
    assert all(torch.equal(held[name], trained[name]) for name in trained)
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How do I mend a bell?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    written = model.generate(**prompt, max_new_tokens=3, do_sample=False)
    assert written.shape[1] > prompt["input_ids"].shape[1]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_reward_model_loads_by_itself_and_scores_the_same(reward_run: Path) -> None:
    """transformers' class alone, on padded rows, against our own reader of the run's directory."""
    model = AutoModelForSequenceClassification.from_pretrained(reward_run / "model").eval()
    trained = {name.removeprefix("inner."): tensor for name, tensor in trained_weights(reward_run).items()}
    held = dict(model.named_parameters())
    assert held.keys() == trained.keys()
    assert all(torch.equal(held[name], trained[name]) for name in trained)

    prompt = (Message("user", "How do I mend a bell?"),)
    replies = ["With care.", "Take a small hammer and glue, then wait a day because it must dry.", "No."]
    tokenizer = AutoTokenizer.from_pretrained(reward_run / "model")
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt[0].content}, {"role": "assistant", "content": reply}],
            tokenize=False,
        )
        for reply in replies
    ]
    rows = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="right", return_tensors="pt")
    with torch.no_grad():
        alone = model(**rows).logits.squeeze(-1).tolist()
    scores = BradleyTerry(str(reward_run)).prepare().score([prompt] * 3, replies)
    assert scores == pytest.approx(alone, abs=1e-6)
    assert len(set(scores)) == 3


def test_training_moved_the_losses(sft_run: Path, reward_run: Path, dpo_run: Path) -> None:
    """A run that trains nothing would pass much of the above."""
    for run in (sft_run, reward_run, dpo_run):
        assert len(set(losses(run))) == 6
    assert losses(sft_run)[-1] < losses(sft_run)[0] - 0.05
