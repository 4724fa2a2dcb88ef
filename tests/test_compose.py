"""What is typed on the command line -> a typed run, or one message, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from align import registry
from align.compose import run_from
from align.compose_sweep import combinations, swept
from align.errors import ConfigError
from align.overrides import choices, conf_folder, groups
from align.run import Run, differences
from align.sweeps.axes import Span

REPO = Path(__file__).resolve().parent.parent


def composed(*overrides: str) -> Run:
    return run_from(["run.dir=unused", *overrides], ["python", "-m", "align", *overrides])


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        run_from(list(overrides), [])
    return str(caught.value)


def test_values_reach_the_typed_stage() -> None:
    run = composed("stage=dpo", "loss.beta=0.3", "training.max_steps=5", "seed=7", "model.path=runs/sft")
    assert run.stage.loss.beta == 0.3  # type: ignore[attr-defined]
    assert run.stage.training.max_steps == 5  # type: ignore[attr-defined]
    assert run.stage.model.path == "runs/sft"  # type: ignore[attr-defined]
    assert (run.seed, run.stage_name, run.directory) == (7, "dpo", Path("unused"))


def test_another_loss_is_one_word() -> None:
    loss = composed("stage=dpo", "loss=ipo", "loss.beta=0.2").stage.loss  # type: ignore[attr-defined]
    assert type(loss).__name__ == "Ipo"
    assert loss.beta == 0.2


def test_a_dotted_name_is_somebody_elses_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab").mkdir()
    (tmp_path / "my_lab" / "flat.py").write_text(
        "from dataclasses import dataclass\n__all__ = ['Flat']\n"
        "@dataclass(frozen=True)\nclass Flat:\n    height: float = 1.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = composed("stage=dpo", "loss=my_lab.flat", "loss.height=2")
    assert run.stage.loss.height == 2.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], "no stage given. Type: python -m align stage=NAME, with one of: annotate, best_of_n, "),
        (["stage=dpoo"], "no stage named 'dpoo'. Did you mean 'dpo'? Known: annotate, best_of_n, "),
        (["stage=dpo", "loss=ipoo"], "no loss named 'ipoo'. Did you mean 'ipo'? Known: "),
        (["stage=dpo", "loss.betaa=1"], "loss.betaa: there is no such option. Did you mean 'beta'?"),
        (["stage=dpo", "loss.beta=-1"], "loss.beta: takes a number above 0, got -1"),
        (["stage=dpo", "loss.beta=high"], "loss.beta: takes a number above 0, got 'high'"),
        (["stage=dpo", "losss=ipo"], "losss: there is no such option. Did you mean 'loss'?"),
        (["stage=sft", "loss=dpo"], "loss: stage=sft does not use a loss; leave out loss=..."),
        (["stage=sft", "loss.beta=0.1"], "loss: stage=sft does not use a loss"),
        (["stage=sft", "resume=true"], "resume=true needs run.dir=DIR"),
        (["stage=sft", "model=hf"], "model.path"),
        (["stage=sft", "model.scratch.hidden_size=10", "model.scratch.heads=2"], "heads=2 an odd width of 5"),
        (["stage=sft", "seed=-1"], "seed: takes an integer at least 0, got -1"),
        (["stage=sft", "training.max_steps=1,2"], "a sweep is started with python -m align -m"),
        (["stage=sft", "training"], "cannot read 'training': options are typed as key=value"),
        (["stage=sft", "run.dir=a{b"], "cannot read an option"),
        (["stage=sft", 'run.dir="'], "cannot read an option"),
        (["stage=dpo", "dataset=demonstrations", "dataset.path=a"], "needs preference pairs"),
        (["stage=pipeline", "dataset=demonstrations", "dataset.path=a"], "needs preference pairs"),
        (["stage=null"], "no stage named 'null'"),
        (["stage=sft", "model=none"], "no model named 'none'. Known: hf, tiny"),
        (["stage=dpo", "loss=null"], "loss: is missing: type loss=..."),
        (["stage=dpo", "adapter=none", "training=null"], "training: is missing"),
        (["stage=dpo", "steps.dpo.loss.beta=3"], "type loss.beta=... for stage=dpo"),
        (["stage=dpo", "run=3"], "run=3: run is typed by its parts, for example run.dir="),
        (["stage=evaluate", "reference.path=a"], "model.path: is missing: type model.path=..."),
        (["stage=sft", "tracking.api_key=abc"], "tracking.api_key: looks like a secret"),
        (["stage=sft", "model.path=hf_" + "a" * 30], "model.path: looks like a secret"),
    ],
)
def test_mistakes_are_answered(overrides: list[str], words: str) -> None:
    assert words in refusal(*overrides)


def test_typed_mistakes_come_all_together() -> None:
    text = refusal("stage=dpo", "loss.beta=0", "training.batch_sise=8", "model.max_length=0")
    assert "3 mistakes" in text
    for key in ("loss.beta", "training.batch_sise", "model.max_length"):
        assert key in text


def test_a_pipeline_composes_each_step_as_if_alone() -> None:
    run = composed(
        "stage=pipeline", "training.max_steps=9", "steps.dpo.training.max_steps=50", "steps.dpo.loss=ipo",
        "steps.dpo.loss.beta=0.3",
    )  # fmt: skip
    sft, reward, dpo, evaluate, ppo, evaluate_ppo = run.steps
    names = ["sft", "reward", "dpo", "evaluate", "ppo", "evaluate_ppo"]
    assert [step.directory.name for step in run.steps] == names
    assert sft.stage.training.max_steps == reward.stage.training.max_steps == 9  # type: ignore[attr-defined]
    assert dpo.stage.training.max_steps == 50  # type: ignore[attr-defined]
    assert (type(dpo.stage.loss).__name__, dpo.stage.loss.beta) == ("Ipo", 0.3)  # type: ignore[attr-defined]
    assert reward.stage.model.path == dpo.stage.model.path == "unused/sft"  # type: ignore[attr-defined]
    assert evaluate.stage.model.path == "unused/dpo"  # type: ignore[attr-defined]
    assert evaluate.stage.reward.path == "unused/reward"  # type: ignore[attr-defined]
    assert ppo.stage.model.path == "unused/sft"  # type: ignore[attr-defined]
    assert ppo.stage.reward.path == "unused/reward"  # type: ignore[attr-defined]
    assert evaluate_ppo.stage.model.path == "unused/ppo"  # type: ignore[attr-defined]


def test_a_typed_reward_replaces_the_wired_one() -> None:
    evaluate = composed("stage=pipeline", "dataset=toy", "model=tiny", "reward=gold").steps[-1]
    assert type(evaluate.stage.reward).__name__ == "Gold"  # type: ignore[attr-defined]


def test_a_reward_typed_for_the_step_replaces_the_wired_one() -> None:
    evaluate = composed("stage=pipeline", "steps.evaluate.reward=gold").steps[3]
    assert type(evaluate.stage.reward).__name__ == "Gold"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("steps.dpo.loss.betaa=1", "there is no such option. Did you mean 'beta'?"),
        ("steps.dpoo.loss.beta=1", "Did you mean 'dpo'?"),
        ("steps.dpo.loss=ipoo", "no loss named 'ipoo'"),
        ("sampling.temperature=-1", "sampling.temperature: takes"),
        ("losss.beta=1", "losss.beta: no step uses this. Did you mean 'loss'?"),
        ("steps=3", "steps=3: steps is typed by its parts"),
        ("steps.dpo=3", "steps.dpo: is typed by its parts"),
        ("order=sft", "order takes a list of steps, for example order=[sft,reward]; got 'sft'"),
        ("order=[]", "order takes a list of steps"),
        ("order=[sft,sft]", "names a step twice"),
        ("order=[pipeline]", "a pipeline cannot be its own step"),
    ],
)
def test_a_pipelines_mistakes_are_told_before_any_step_runs(override: str, words: str) -> None:
    assert words in refusal("stage=pipeline", override)


def test_an_optional_group_is_switched_off_by_none() -> None:
    evaluate = composed("stage=pipeline", "steps.evaluate.reward=none").steps[3]
    assert evaluate.stage.reward is None  # type: ignore[attr-defined]


def test_the_last_word_of_a_group_wins_and_names_the_folder() -> None:
    run = run_from(["stage=dpo", "stage=sft"], [])
    assert run.stage_name == "sft"
    assert run.directory.name.endswith("_sft")


def test_a_sweep_is_every_combination() -> None:
    assert combinations(["stage=dpo", "loss.beta=0.1,0.3", "seed=1,2"]) == [
        ["stage=dpo", "loss.beta=0.1", "seed=1"],
        ["stage=dpo", "loss.beta=0.1", "seed=2"],
        ["stage=dpo", "loss.beta=0.3", "seed=1"],
        ["stage=dpo", "loss.beta=0.3", "seed=2"],
    ]


def test_hydras_sweep_words_are_read() -> None:
    axes = swept(["seed=range(1,4)", "loss=glob(apo_*)", "model.path=choice(runs/a=1,runs/b)"]).axes
    assert [axis.values for axis in axes] == [
        ("1", "2", "3"), ("apo_down", "apo_zero"), ("'runs/a=1'", "runs/b"),
    ]  # fmt: skip
    assert axes[0].span == Span(1, 3, step=1.0, integer=True)
    words = [
        "x=tag(log,interval(1e-5,1e-3))",
        "a=int(interval(1,8))",
        "b=range(0.1,0.5,0.2)",
        "c=range(3,1,-1)",
    ]
    rate, layers, share, steps = swept(words).axes
    assert (rate.span, rate.values) == (Span(1e-5, 1e-3, log=True), ())
    assert layers.span == Span(1, 8, integer=True)
    assert (share.span, share.values) == (Span(0.1, 0.3, step=0.2), ("0.1", "0.3"))
    assert (steps.span, steps.values) == (None, ("3", "2"))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("a=interval(2,1)", "from a smaller number to a larger one"),
        ("a=tag(log,interval(0,1))", "starts above 0"),
        ("a=tag(fast,interval(0,1))", "tag takes log, got fast"),
        ("loss=glob(apoo*)", "no loss matches"),
    ],
)
def test_spans_without_anything_in_them(word: str, answer: str) -> None:
    with pytest.raises(ConfigError, match=answer):
        swept([word])


def test_paths_may_hold_the_sign_that_sweeps_put_into_their_folders() -> None:
    run = run_from(["stage=dpo", "run.dir=runs/loss.beta=0.1", "model.path=runs/seed=1,a=2"], [])
    assert run.directory == Path("runs/loss.beta=0.1")
    assert run.stage.model.path == "runs/seed=1,a=2"  # type: ignore[attr-defined]
    assert combinations(["model.path=runs/seed=1,runs/seed=2", "run.dir='a=b,c'"]) == [
        ["model.path='runs/seed=1'", "run.dir='a=b,c'"],
        ["model.path='runs/seed=2'", "run.dir='a=b,c'"],
    ]


def test_a_list_of_paths_may_hold_that_sign_too() -> None:
    typed = ["stage=evaluate", "model.path=a", "reference.path=b", "reward=ensemble"]
    for text in ("[runs/seed=1, runs/b]", "['runs/seed=1',runs/b]"):
        run = run_from([*typed, f"reward.paths={text}"], [])
        assert run.stage.reward.paths == ("runs/seed=1", "runs/b")  # type: ignore[attr-defined]
    run = run_from(["stage=collect", "collect=strength", "collect.sources=[a.json,http://b:1/v1#c]"], [])
    assert run.stage.collect.sources == ("a.json", "http://b:1/v1#c")  # type: ignore[attr-defined]
    swept = ["reward.paths=[runs/seed=1,runs/b]", "seed=1,2"]
    assert [job[0] for job in combinations(swept)] == swept[:1] * 2


def test_every_component_has_its_yaml_and_every_yaml_its_component() -> None:
    for group in registry.PACKAGES:
        assert choices(group) == registry.known(group), group
        for name in choices(group):
            text = (conf_folder() / group / f"{name}.yaml").read_text(encoding="utf-8")
            assert f"name: {name}" in text, f"conf/{group}/{name}.yaml must say name: {name}"


def pipeline(*words: str) -> dict[str, Any]:
    """A pipeline's steps by name."""
    run = run_from(["stage=pipeline", "run.dir=runs/w", *words], [])
    return {step.directory.name: step for step in run.steps}


@pytest.mark.parametrize("method", sorted({*choices("collect")} - {"active"}))
def test_each_way_of_collecting_has_its_pipeline_which_trains_on_what_it_collects(method: str) -> None:
    """``active`` leaves its pairs to people. No option of the dataset reaches the step that trains on it."""
    needed = ("collect.path=judge",) if method == "judge" else ()
    steps = pipeline(f"collect={method}", *needed, "dataset=toy", "dataset.pairs=60", "collection.limit=9")
    order = list(steps)
    assert order[0] == "sft"
    assert order.index("collect") < order.index("dpo") < order.index("evaluate")
    assert isinstance(steps["collect"].stage.collect, registry.component("collect", method))
    trained = steps["dpo"].stage
    assert isinstance(trained.dataset.source, registry.component("dataset", "records"))
    assert trained.dataset.source.path == "runs/w/collect"
    assert trained.model.path == steps["evaluate"].stage.reference.path
    assert steps["evaluate"].stage.model.path == "runs/w/dpo"
    assert steps["collect"].stage.collection.limit == 9, "what is typed wins over what stands in for it"
    assert steps["sft"].stage.dataset.source.pairs == 60


def test_pairs_for_people_come_from_where_three_rewards_were_not_trained() -> None:
    """The pipeline of ``active`` ends with them: what comes next is a person's work."""
    steps = pipeline("collect=active")
    assert list(steps) == ["sft", "reward", "second", "third", "collect"]
    assert [steps[name].seed for name in ("reward", "second", "third")] == [0, 1, 2]
    collect = steps["collect"].stage
    assert collect.reward.paths == ("runs/w/reward", "runs/w/second", "runs/w/third")
    assert (collect.collection.split, collect.collection.limit) == ("validation", None)


@pytest.mark.parametrize(
    ("words", "writer", "reward"),
    [
        (["collect=active"], None, "ensemble"),
        (["collect=active", "collect.by=random"], None, None),
        (["collect=active", "collect.by=diversity", "order=[collect]"], None, None),
        (["collect=active", "collect.by=margin", "collect.candidates=sampled"], "runs/w/sft", "ensemble"),
        (["collect=active", "collect.by=random", "collect.candidates=sampled"], "runs/w/sft", None),
        (["collect=judge", "collect.path=judge"], "runs/w/sft", None),
        (["collect=judge", "collect.path=judge", "collect.candidates=dataset"], None, None),
        (["collect=contrast"], "runs/w/sft", None),
        (["collect=contrast", "collect.label=reward"], "runs/w/sft", "bradley_terry"),
        (["collect=best_of_n"], "runs/w/sft", "bradley_terry"),
        (["collect=best_of_n", "collect.pools=runs/pools"], None, None),
    ],
)
def test_a_method_is_given_the_policy_and_the_reward_that_its_settings_ask_for(
    words: list[str], writer: str | None, reward: str | None
) -> None:
    collect = pipeline(*words)["collect"].stage
    assert (collect.model and collect.model.path) == writer
    assert (collect.reward and type(collect.reward).__module__.removeprefix("reward_models.")) == reward


def test_affixes_are_taught_where_the_world_is_the_embedded_one() -> None:
    steps = pipeline("collect=contrast")
    assert steps["sft"].stage.dataset.source.steered == 0.6
    assert steps["collect"].stage.collection.limit is None, "a pipeline takes all prompts"
    assert pipeline("collect=contrast", "dataset=toy")["sft"].stage.dataset.source.steered == 0.6
    other = pipeline("collect=contrast", "dataset=preference", "dataset.path=pairs.jsonl")
    assert "steered" not in vars(other["sft"].stage.dataset.source)
    assert "steered" not in vars(other["collect"].stage.dataset.source)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["collect=contrastt"], "no collect named 'contrastt'. Did you mean 'contrast'?"),
        (
            ["collect=contrast", "collect.label=gold"],
            "collect.label: takes one of prompt, reward",
        ),
        (["collect=active", "steps.collect.reward=gold", "collect.by=random"], "does not use a reward"),
        (["collect.n=4"], "collect.n: no step uses this"),
    ],
)
def test_a_mistake_in_what_is_collected_is_told_before_any_step_runs(words: list[str], told: str) -> None:
    assert told in refusal("stage=pipeline", *words)


def test_every_group_is_chosen_by_some_stage() -> None:
    texts = "".join(path.read_text() for path in (conf_folder() / "stage").glob("*.yaml"))
    chosen_for_all = ("stage", "tracking", "training", "sweep")  # by config.yaml itself, and by -m
    for group in groups():
        assert group in chosen_for_all or f"override /{group}:" in texts or f"{group}:" in texts


def seconds(*words: str) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Shortest of three: the machine may be busy, the code's own time is the least that was seen."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=REPO, check=False)
        best = min(best, time.perf_counter() - start)
    return best, done


@pytest.mark.medium
def test_a_mistake_is_answered_at_once_and_without_torch() -> None:
    took, done = seconds("-X", "importtime", "-m", "align", "stage=dpo", "loss.betaa=1")
    assert done.returncode == 2
    assert "Did you mean 'beta'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert "| torch" not in done.stderr
    assert took < 2.0


@pytest.mark.medium
def test_help_needs_no_stage_and_is_quick() -> None:
    took, done = seconds("-m", "align", "--help")
    assert done.returncode == 0
    for word in ("stage=pipeline", "ipo", "hh_rlhf", "gold", "exit codes"):
        assert word in done.stdout
    assert took < 1.5
    took, _ = seconds("-c", "import align")
    bare, _ = seconds("-c", "pass")
    assert took - bare < 0.2


def test_the_cache_is_typed_or_set_or_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ALIGN_CACHE", "some=where/{kept}")
    assert composed("stage=dpo", "run.cache='~/a'").cache == tmp_path / "a"
    assert composed("stage=dpo").cache == Path("some=where/{kept}").absolute()
    monkeypatch.delenv("ALIGN_CACHE")
    assert composed("stage=dpo").cache == tmp_path / ".cache" / "align"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["run.cache="], ["run.cache=''"]])
def test_an_empty_cache_is_refused(words: list[str]) -> None:
    assert "run.cache" in refusal("stage=dpo", *words)


def test_an_emptied_variable_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIGN_CACHE", "")
    assert "run: cache is empty: give a folder with run.cache=DIR, or unset ALIGN_CACHE" in refusal(
        "stage=dpo"
    )


def test_a_pipeline_hands_its_cache_to_every_step_but_to_one_that_has_its_own() -> None:
    run = composed("stage=pipeline", "run.cache='/a b=c'", "steps.dpo.run.cache=/d")
    assert run.cache == Path("/a b=c")
    assert [str(step.cache) for step in run.steps] == ["/a b=c"] * 2 + ["/d"] + ["/a b=c"] * 3


def test_a_run_is_the_same_with_another_cache() -> None:
    one, two = (composed("stage=pipeline", f"run.cache=/{name}").steps[0] for name in "ab")
    assert one.config["run"]["cache"] != two.config["run"]["cache"]
    assert differences(one.config, two.config) == []
