"""``benchmark=`` on the command line: one, several, somebody else's, and what each uses of the config."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from align import registry
from align.compose import run_from
from align.compose_sweep import combinations
from align.errors import ConfigError
from align.overrides import choices, conf_folder
from align.registry import component

NAMES = registry.known("benchmark")


def stage(*words: str) -> Any:
    return run_from(["stage=evaluate", "run.dir=unused", *words], []).stage


def refusal(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        stage(*words)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_yaml_lists_every_field_with_its_default_under_its_own_name(name: str) -> None:
    text = (conf_folder() / "benchmark" / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert list(values) == [name]
    own = values[name]
    assert own.pop("name") == name
    assert own == {
        field.name: "???" if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(component("benchmark", name))
    }
    assert text.startswith("# "), "says what it measures"
    commented = [
        line for line in text.splitlines() if line.startswith("  ") and not line.startswith("  name:")
    ]
    assert all("  # " in line for line in commented)


def test_without_a_word_a_policy_is_held_against_its_reference() -> None:
    found = stage("model.path=a", "reference.path=b")
    assert list(found.benchmark) == ["win_rate"]
    assert (found.model.path, found.reference.path) == ("a", "b")


def test_several_at_once_each_with_its_own_options() -> None:
    words = (
        "benchmark=[xstest,crows_pairs]",
        "benchmark.xstest.path=x.csv",
        "benchmark.crows_pairs.path=c.csv",
    )
    found = stage(*words, "benchmark.xstest.limit=3", "model.path=a")
    assert {name: one.path for name, one in found.benchmark.items()} == {
        "xstest": "x.csv",
        "crows_pairs": "c.csv",
    }
    assert found.benchmark["xstest"].limit == 3
    assert (found.reference, found.dataset) == (None, None), "neither is used, and a yaml brought them in"
    assert found.sampling is not None


def test_what_a_benchmark_does_not_use_is_neither_asked_for_nor_there() -> None:
    found = stage("benchmark=alpaca_eval", "benchmark.alpaca_eval.path=a.json")
    assert [getattr(found, one) for one in ("model", "reference", "dataset", "reward", "sampling")] == [
        None
    ] * 5
    found = stage("benchmark=robustness", "reward=gold")
    assert (found.model, found.sampling) == (None, None)
    assert type(found.dataset.source).__name__ == "Toy"


def test_one_of_ones_own_name_may_come_twice(tmp_path: Path) -> None:
    words = ("benchmark.mine.name=crows_pairs", "benchmark.mine.path=b.csv", "model.path=m")
    found = stage("benchmark=crows_pairs", "benchmark.crows_pairs.path=a.csv", *words)
    assert {name: one.path for name, one in found.benchmark.items()} == {
        "crows_pairs": "a.csv",
        "mine": "b.csv",
    }


def test_somebody_elses_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bench_lab").mkdir()
    (tmp_path / "bench_lab" / "lengths.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\n"
        "from align.protocols import Part\n__all__ = ['Lengths']\n"
        "@dataclass(frozen=True)\nclass Lengths:\n    needs: ClassVar[tuple[Part, ...]] = ('model',)\n"
        "    takes: ClassVar[tuple[Part, ...]] = ()\n    most: int = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for chosen in ("bench_lab.lengths", "[bench_lab.lengths,crows_pairs]"):
        more = ["benchmark.crows_pairs.path=a"] if "crows" in chosen else []
        found = stage(f"benchmark={chosen}", "benchmark.lengths.most=5", "model.path=m", *more)
        assert found.benchmark["lengths"].most == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["benchmark=xstst"], "no benchmark named 'xstst'. Did you mean 'xstest'?"),
        (["benchmark=[xstest,crows]"], "no benchmark named 'crows'. Did you mean 'crows_pairs'?"),
        (["benchmark=xstest", "model.path=a"], "benchmark.xstest.path: is missing"),
        (["benchmark=xstest", "benchmark.xstest.path=x"], "model.path: is missing"),
        (["benchmark=xstest", "benchmark.xstest.pat=x", "model.path=a"], "Did you mean 'path'?"),
        (["benchmark=rewardbench", "benchmark.rewardbench.path=a"], "needs a reward: give reward=NAME"),
        (
            ["benchmark=alpaca_eval", "benchmark.alpaca_eval.path=a", "model.path=b"],
            "benchmark=alpaca_eval does not use a model: leave out model",
        ),
        (
            ["benchmark=alpaca_eval", "benchmark.alpaca_eval.path=a", "dataset=toy"],
            "benchmark=alpaca_eval does not use a dataset: leave out dataset",
        ),
        (["benchmark=none", "model.path=a", "reference.path=b"], "benchmark: is missing"),
        (
            ["model.path=a", "reference.path=b", "benchmark.win_rate.judge.temperature=1"],
            "give either server.url=ADDRESS server.model=NAME, or path",
        ),
        (
            [
                *("model.path=a", "reference.path=b", "benchmark.win_rate.judge.path=c"),
                "benchmark.win_rate.judge.candidates=sampled",
            ],
            "judge.candidates is for stage=collect",
        ),
    ],
)
def test_mistakes_are_answered(words: list[str], told: str) -> None:
    assert told in refusal(*words)


def test_benchmarks_are_swept_one_by_one_or_in_lists() -> None:
    assert [job[0] for job in combinations(["benchmark=xstest,winogender"])] == [
        "benchmark=xstest",
        "benchmark=winogender",
    ]


def test_a_step_of_a_pipeline_measures_something_else() -> None:
    words = ("stage=pipeline", "run.dir=r", "dataset=toy", "model=tiny", "steps.evaluate.benchmark=diversity")
    steps = {step.directory.name: step.stage for step in run_from(list(words), []).steps}
    found: Any = steps["evaluate"]
    assert list(found.benchmark) == ["diversity"]
    assert (found.model.path, found.reference, found.reward) == ("r/dpo", None, None)
    other: Any = steps["evaluate_ppo"]
    assert list(other.benchmark) == ["win_rate"]


def test_benchmarks_are_listed_by_help() -> None:
    from align.help import help_text

    assert all(f"  {name} " in help_text() for name in choices("benchmark"))
