"""A task of one's own through lm-evaluation-harness, and our log-likelihoods beside the package's."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from stand_ins import TEXTS, Made, tiny_policy

from align.benchmarks._likelihood import sentence_logps
from align.benchmarks.lm_eval import LmEval, _with_interval
from align.errors import ConfigError
from align.evaluation.statistics import normal, proportion, standard_error

DOCUMENTS = (
    ("Who could pay?", ("The nurse", "The dog"), 0),
    ("Who is stupid?", ("They are", "It"), 1),
    ("Who is poor?", ("They", "The patient of the nurse"), 0),
)
TASK = """
task: tiny_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {path}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{right}}}}"
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


GROUP = """
group: tiny_group
task: [tiny_choice]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [{"question": q, "choices": choices, "right": right} for q, choices, right in DOCUMENTS]
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (tmp_path / "task.yaml").write_text(TASK.format(path=tmp_path / "rows.jsonl"))
    (tmp_path / "group.yaml").write_text(GROUP)
    return str(tmp_path)


def likeliest(question: str, choices: tuple[str, ...]) -> int:
    """The choice that is likeliest after the question and a space, from all logits of the unpadded text."""
    policy = tiny_policy()
    start = policy.tokenizer(question, add_special_tokens=False)["input_ids"]
    found = []
    for choice in choices:
        ids = torch.tensor([policy.tokenizer(f"{question} {choice}", add_special_tokens=False)["input_ids"]])
        assert ids[0, : len(start)].tolist() == start
        with torch.no_grad():
            logps = policy.model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
        own = logps[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
        found.append(float(own[len(start) - 1 :].sum()))
    return max(range(len(found)), key=found.__getitem__)


@pytest.mark.medium
def test_a_task_of_ones_own_and_its_group(folder: str) -> None:
    """The task's interval is that of its documents, the group's the package's: no document is the group's."""
    pytest.importorskip("lm_eval")
    made = Made(policy=tiny_policy())
    measured = LmEval(("tiny_group",), include_path=folder, batch_size=2).measure("lm_eval", made)
    right = [likeliest(question, choices) == answer for question, choices, answer in DOCUMENTS]
    found = {one.metric: one for one in measured.results}
    alone, together = found.pop("lm_eval/tiny_choice/acc"), found.pop("lm_eval/tiny_group/acc")
    assert not found
    assert alone == proportion("lm_eval/tiny_choice/acc", right)
    assert (together.value, together.n) == (alone.value, 3)
    bounds = normal(together.value, standard_error([float(one) for one in right]))
    assert (together.ci_low, together.ci_high) == pytest.approx((bounds.low, bounds.high))
    assert [one["acc"] for one in measured.items] == [float(one) for one in right]
    assert len(made.noted["lm_eval"]) == 64
    with pytest.raises(ConfigError, match=r"knows no task 'tiny_choise'\. Did you mean 'tiny_choice'"):
        LmEval(("tiny_choise",), include_path=folder).measure("lm_eval", made)


@pytest.mark.medium
def test_sentences_are_as_likely_as_the_package_finds_them() -> None:
    """``loglikelihood`` of an empty context: what CrowS-Pairs and Winogender compare."""
    models = pytest.importorskip("lm_eval.models.huggingface")
    instances = pytest.importorskip("lm_eval.api.instance")
    policy = tiny_policy()
    model = models.HFLM(pretrained=policy.model, tokenizer=policy.tokenizer, batch_size=2)
    asked = [
        instances.Instance("loglikelihood", {}, ("", text), place, (None, None, 1))
        for place, text in enumerate(TEXTS)
    ]
    theirs = [value for value, _ in model.loglikelihood(asked)]
    assert sentence_logps(policy, TEXTS) == pytest.approx(theirs, abs=1e-4)


def test_a_metric_that_is_no_mean_has_the_packages_error() -> None:
    found = _with_interval("m", 3.0, [1.0, 2.0], 0.5, 2)
    assert (found.ci_low, found.ci_high) == (normal(3.0, 0.5).low, normal(3.0, 0.5).high)
    assert _with_interval("m", 3.0, [], "N/A", 7).ci_low is None
    assert _with_interval("m", 0.25, [0.2, 0.3], math.nan, 2).method == "bootstrap"


def test_no_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"give tasks=\[NAME\]"):
        LmEval(())
