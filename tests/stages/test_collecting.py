"""``stage=collect`` by its command: what it leaves, that it trains at once, kills, refusals."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from sittings import Kill, sittings
from tiny_runs import SHAPE, STEPS, WORLD, align, lines, record, stopped, train

from align.__main__ import main
from align.collect import _writers
from align.pairs.records import read_records
from align.tensors import SampledReply
from experiments.collect.serving import completion, serving

SMALL = ("collection.limit=5", "collection.chunk=2", "sampling.max_new_tokens=12")
FILES = ("outcomes.jsonl", "records.jsonl", "manifest.json", "samples.jsonl", "results.json")


def words(directory: Path, sft_run: Path, *more: str) -> tuple[str, ...]:
    method = ("collect=best_of_n", "collect.n=3", "reward=gold")
    return ("stage=collect", f"run.dir={directory}", f"model.path={sft_run}", *method, *WORLD, *SMALL, *more)


def results(directory: Path) -> dict[str, dict[str, Any]]:
    return {one["metric"]: one for one in json.loads((directory / "results.json").read_text())}


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy of six steps hardly ends by itself; here what it says ends and depends on the seed."""
    sample = _writers.sample_tokens

    def ended(*arguments: Any) -> list[SampledReply]:
        found = sample(*arguments)
        return [SampledReply(f"{one.text} {i}.", one.token_ids, True) for i, one in enumerate(found)]

    monkeypatch.setattr(_writers, "sample_tokens", ended)


@pytest.fixture
def collect_run(tmp_path: Path, sft_run: Path, talkative: None) -> Path:
    align(*words(tmp_path / "collect", sft_run))
    return tmp_path / "collect"


@pytest.mark.medium
def test_it_leaves_records_that_train_at_once(tmp_path: Path, collect_run: Path, sft_run: Path) -> None:
    found = list(read_records(collect_run))
    assert len(found) == 5
    told = results(collect_run)
    assert told["collect/pairs"]["value"] == 5
    assert (told["labels/accuracy"]["value"], told["labels/expected_accuracy"]["value"]) == (1.0, 1.0)
    assert told["labels/accuracy"]["ci_low"] < 1.0
    assert told["lengths/chosen_characters"]["value"] > 0
    made = record(collect_run)
    assert made["outputs"]["records"]["pairs"] == 5
    assert made["collect"] == {"given": 5, "abstained": {}}
    assert made["inputs"]["model"]["run"]["stage"] == "sft"
    first = found[0].replies[0]
    assert (first.model, first.sampling["max_new_tokens"]) == (str(sft_run), 12)
    start = (f"model.path={sft_run}", f"dataset.path={collect_run}", "model.max_length=192", *STEPS)
    align("stage=dpo", f"run.dir={tmp_path / 'dpo'}", "dataset=records", *start, "training.max_steps=2")
    assert lines(tmp_path / "dpo")
    assert record(tmp_path / "dpo")["inputs"]["data"]["run"]["stage"] == "collect"


@pytest.mark.medium
@pytest.mark.parametrize("calls", [1, 2])
def test_stopped_between_chunks_it_goes_on_to_the_same_bytes(
    calls: int, tmp_path: Path, collect_run: Path, sft_run: Path
) -> None:
    stopped(*words(tmp_path / "run", sft_run), owner=_writers, name="sample_tokens", call=calls + 1)
    assert len((tmp_path / "run" / "outcomes.jsonl").read_text().splitlines()) == 2 * calls
    assert not (tmp_path / "run" / "manifest.json").exists()
    align(*words(tmp_path / "run", sft_run, "resume=true"))
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (collect_run / name).read_bytes(), name


@pytest.mark.medium
def test_another_policy_does_not_go_on_with_these_pairs(
    tmp_path: Path, collect_run: Path, sft_run: Path, dpo_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, run = tmp_path / "policy", tmp_path / "run"
    shutil.copytree(collect_run, run)
    shutil.copytree(sft_run, start)
    for name in ("run.json", "config.yaml"):
        (run / name).write_text((run / name).read_text().replace(str(sft_run), str(start)))
    shutil.copytree(dpo_run / "model", start / "model", dirs_exist_ok=True)
    assert main(words(run, start, "resume=true")) == 5
    assert "outcomes.jsonl was made with another model" in capsys.readouterr().err


@pytest.mark.medium
def test_a_server_writes_instead_of_a_policy(tmp_path: Path) -> None:
    """It says the more, the larger the seed of the request; who wrote and with what seed is kept."""

    def answer(body: Any, _count: int) -> Any:
        return completion("word " * (1 + body["seed"] % 7) + ".")

    with serving(answer) as server:
        place = (f"server.url={server.url}", "server.model=judge-large", "collect.n=4", "reward=gold")
        align("stage=collect", f"run.dir={tmp_path / 'run'}", *place, *WORLD[:2], *SMALL)
    found = list(read_records(tmp_path / "run"))
    assert found
    seeds = {reply.seed for one in found for reply in one.replies}
    assert len(seeds) == 2 * len(found)
    assert {reply.model for one in found for reply in one.replies} == {"judge-large"}
    assert record(tmp_path / "run")["servers"] == {"model": f"{server.url} judge-large"}


POINTS: dict[str, Kill] = {
    "before anything is collected": ("open", "outcomes.jsonl", 1),
    "as the file of outcomes is made whole": ("os.rename", ".outcomes.jsonl", 1),
    "in the first chunk": ("token", "", 5),
    "in a later chunk": ("token", "", 60),
    "in one of the last": ("token", "", 110),
    "while records are written": ("open", ".records.jsonl", 1),
    "between records and manifest": ("os.rename", ".manifest.json", 1),
    "right before the results are whole": ("os.rename", ".results.json", 1),
}
"""Where a run is killed; a chunk is forty tokens at most of all its replies."""


@pytest.mark.slow
def test_killed_at_any_point_it_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """By SIGKILL, with a policy that has learnt to end, mostly."""
    start = train("sft", tmp_path / "sft", "training.max_steps=60")
    more = ("collection.limit=8", "sampling.max_new_tokens=40")
    runs = {name: tmp_path / f"run{number}" for number, name in enumerate(["unbroken", *POINTS])}
    asked: list[tuple[tuple[str, ...], Kill | None]] = [(words(runs["unbroken"], start, *more), None)]
    for name, point in POINTS.items():
        asked.append((words(runs[name], start, *more), point))
        asked.append((words(runs[name], start, *more, "resume=true"), None))
    assert sittings(*asked) == [0, *([-signal.SIGKILL, 0] * len(POINTS))]
    found = results(runs["unbroken"])
    assert found["collect/pairs"]["value"] > 4, "there are pairs to lose"
    for name, run in runs.items():
        for file in FILES:
            assert (run / file).read_bytes() == (runs["unbroken"] / file).read_bytes(), f"{name}: {file}"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ((), "collect=best_of_n takes one who writes: give either model.path=RUN, or server.url="),
        (("model=tiny",), "collect=best_of_n samples from a trained model: give model.path=RUN"),
        (("model.path=a",), "collect=best_of_n as it is set needs a reward: give reward=NAME"),
        (("model.path=a", "server.url=http://b", "server.model=c"), "give either model.path=RUN"),
        (("model.path=a", "reward=gold", "collect.pools=b"), "does not use a model: leave out model"),
        (("collect.pools=b", "reward=gold"), "does not use a reward: leave out reward"),
        (("model.path=a", "reward=gold", "collect.n=1"), "collect.n: takes an integer at least 2"),
        (("model.path=a", "reward=gold", "collect.pair=worst"), "collect.pair: takes one of best_worst"),
        (("model.path=a", "reward=gold", "sampling.max_new_tokens=512"), "leaves no room for a prompt"),
        (("collect=contrast", "model.path=a", "reward=gold"), "does not use a reward"),
        (("collect=contrast", "model.path=a", "collect.affixes=kind"), "no affixes named 'kind'"),
        (("collect=strength",), "collect.sources: is missing"),
        (("collect=strength", "collect.sources=[a]"), "a ranking has two models or more"),
        (("collect=strength", "collect.sources=[a,b]", "model.path=c"), "does not use a model"),
    ],
)
def test_what_it_refuses(
    typed: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["stage=collect", f"run.dir={tmp_path / 'run'}", *typed]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("best_of_n", ()),
        ("contrast", ()),
        ("strength", ("steps.weak.training.max_steps=2",)),
    ],
)
def test_from_prompts_to_an_evaluated_policy(method: str, more: tuple[str, ...], tmp_path: Path) -> None:
    """One command; what is trained on is what was collected, and the result stands beside the gold."""
    run = tmp_path / "run"
    steps = ("training.max_steps=60", "training.batch_size=8", "training.learning_rate=0.003")
    steps += ("training.precision=float32", "steps.dpo.training.max_steps=2")
    size = ("sampling.max_new_tokens=48", "evaluation.prompts=6", "evaluation.shown=1")
    align("stage=pipeline", f"collect={method}", f"run.dir={run}", *SHAPE, *WORLD, *steps, *size, *more)
    told = results(run)
    pairs = told["collect/pairs"]["value"]
    assert pairs == len((run / "collect" / "records.jsonl").read_text().splitlines()) > 0
    assert json.loads((run / "dpo" / "data_report.json").read_text())["read"] == pairs
    assert {"labels/accuracy", "dpo/gold_win_rate", "dpo/kl", "reward/accuracy"} <= told.keys()
    assert ("weak/nll" in told) == (method == "strength")
    before = {path: path.stat().st_mtime_ns for path in run.glob("*/*.json*")}
    again = ("resume=true", *more)
    align("stage=pipeline", f"collect={method}", f"run.dir={run}", *SHAPE, *WORLD, *steps, *size, *again)
    assert {path: path.stat().st_mtime_ns for path in run.glob("*/*.json*")} == before
