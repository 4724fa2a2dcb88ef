"""``stage=best_of_n`` by its command: what it measures, the set that it leaves, kills, refusals."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from tiny_runs import WORLD, align, lines, record, stopped

from align.__main__ import main
from align.distributed import world
from align.errors import CheckpointError
from align.evaluation.best_of_n import best_of_n_kl
from align.generation.pools import Pool
from align.stages import _pools
from align.stages._pools import best, pool_results, pool_samples, write_best
from align.tensors import SampledReply
from align.types import Message

SMALL = ("best_of_n.n=3", "best_of_n.prompts=5", "best_of_n.chunk=2", "sampling.max_new_tokens=12")
FILES = ("pools.jsonl", "demonstrations.jsonl", "samples.jsonl", "results.json")


def reply(text: str, tokens: int, ended: bool = True) -> SampledReply:
    return SampledReply(text, tuple(range(tokens)), ended)


def pool(number: int, scores: list[float], gold: list[float], cut: int | None = None) -> Pool:
    """Reply i is of i + 1 tokens; the last one is the single sample."""
    replies = tuple(reply(f"reply {i}", i + 1, i != cut) for i in range(len(scores)))
    prompt = (Message("user", f"Ask {number}."),)
    return Pool(prompt, replies, {"gold": tuple(gold), "proxy": tuple(scores)})


POOLS = [
    pool(0, [1.0, 2.0, 4.0, 3.0], [10.0, 30.0, 20.0, 25.0]),
    pool(1, [5.0, 5.0, 1.0, 5.0], [2.0, 4.0, 9.0, 4.0]),
]


def value(metric: str) -> float:
    return next(one.value for one in pool_results(POOLS, "proxy") if one.metric == metric)


def test_rewards_by_hand() -> None:
    """Two of three, three ways: of the first pool 4, 4 or 2 is best; of the second 5 each time, by a coin."""
    assert value("best_of_1/proxy_reward") == pytest.approx((7 / 3 + 11 / 3) / 2)
    assert value("best_of_2/proxy_reward") == pytest.approx((10 / 3 + 5) / 2)
    assert value("best_of_2/gold_reward") == pytest.approx(((20 + 20 + 30) / 3 + 3) / 2)
    assert value("best_of_3/proxy_reward") == pytest.approx((4 + 5) / 2)
    assert value("best_of_3/gold_reward") == pytest.approx((20 + 3) / 2)


def test_the_single_sample_is_another_reply() -> None:
    """The best of three scores 4 against 3 and 5 against 5; its gold 20 against 25, and 2 or 4 against 4."""
    assert value("best_of_3/proxy_win_rate") == pytest.approx((1 + 0.5) / 2)
    assert value("best_of_3/gold_win_rate") == pytest.approx((0 + 0.25) / 2)
    assert value("best_of_1/proxy_win_rate") == pytest.approx((1 / 3 + 1 / 3) / 2)


def test_lengths_and_kl() -> None:
    assert value("best_of_3/length") == pytest.approx((3 + 1.5) / 2)
    assert value("best_of_1/length") == pytest.approx(2.0)
    assert value("best_of_1/kl") == 0.0
    assert value("best_of_3/kl") == best_of_n_kl(3)


def test_the_best_is_finished_and_says_something() -> None:
    """The highest score is the single sample's, which takes no part; then a cut one; then a blank one."""
    one = pool(0, [1.0, 3.0, 2.0, 9.0], [0.0] * 4, cut=1)
    assert best(one, "proxy") == 2
    blank = Pool(one.prompt, (*one.replies[:2], reply(" \n", 3), one.replies[3]), one.scores)
    assert best(blank, "proxy") == 0
    nothing = Pool(one.prompt, tuple(reply("cut", 1, False) for _ in range(4)), one.scores)
    assert best(nothing, "proxy") is None


def test_prompts_without_a_finished_reply_are_left_out(tmp_path: Path) -> None:
    unfinished = pool(2, [1.0, 2.0], [0.0, 0.0], cut=0)
    assert write_best(tmp_path / "best.jsonl", [POOLS[0], unfinished], "proxy") == 1
    (line,) = (tmp_path / "best.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "prompt": [{"role": "user", "content": "Ask 0."}],
        "completion": [{"role": "assistant", "content": "reply 2"}],
        "score": 4.0,
        "of": 3,
    }


def test_samples_stand_side_by_side() -> None:
    first, _ = pool_samples(POOLS, "proxy")
    assert list(first["replies"]) == ["single", "best_of_3"]
    assert first["replies"]["single"]["scores"] == {"proxy": 3.0}
    assert first["replies"]["best_of_3"]["scores"] == {"proxy": 4.0}


@pytest.mark.parametrize("rank", [0, 1])
def test_the_rank_that_writes_alone_looks_for_replies_of_others(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rank may come when the first has begun to write, and would take that for an older run's."""
    monkeypatch.setattr(world, "world", lambda: world.World(rank, 2, rank))
    monkeypatch.setattr(world, "of_first", lambda value: value)
    path = tmp_path / "pools.jsonl"
    now = {"model": {"sha256": "b"}}
    _pools.refuse_others(path, {}, now)
    path.touch()
    with pytest.raises(CheckpointError, match="another model") if rank == 0 else nullcontext():
        _pools.refuse_others(path, {}, now)


def words(directory: Path, sft_run: Path, *more: str) -> tuple[str, ...]:
    start = (f"run.dir={directory}", f"model.path={sft_run}", "reward=gold")
    return ("stage=best_of_n", *start, *WORLD, *SMALL, *more)


@pytest.fixture(scope="session")
def best_run(runs: Path, sft_run: Path) -> Path:
    align(*words(runs / "best_of_n", sft_run))
    return runs / "best_of_n"


@pytest.mark.medium
def test_it_keeps_every_reply_and_names_what_it_measured(best_run: Path) -> None:
    rows = [json.loads(line) for line in (best_run / "pools.jsonl").read_text().splitlines()]
    assert [len(row["replies"]) for row in rows] == [4] * 5
    metrics = [one["metric"] for one in json.loads((best_run / "results.json").read_text())]
    measures = ("gold_reward", "gold_win_rate", "length", "kl")
    assert metrics == [f"best_of_{n}/{what}" for n in (1, 2, 3) for what in measures]
    assert record(best_run)["best_of_n"]["prompts"] == 5
    assert record(best_run)["inputs"]["model"]["run"]["stage"] == "sft"


@pytest.mark.medium
def test_a_proxy_chooses_and_the_truth_is_told_beside(
    tmp_path: Path, sft_run: Path, reward_run: Path
) -> None:
    place = (f"run.dir={tmp_path / 'run'}", f"model.path={sft_run}")
    align("stage=best_of_n", *place, "reward=bradley_terry", f"reward.path={reward_run}", *WORLD, *SMALL)
    (row, *_) = ((tmp_path / "run") / "pools.jsonl").read_text().splitlines()
    assert list(json.loads(row)["replies"][0]["scores"]) == ["gold", "proxy"]
    (sample, *_) = ((tmp_path / "run") / "samples.jsonl").read_text().splitlines()
    assert list(json.loads(sample)["replies"]["single"]["scores"]) == ["proxy"]


@pytest.mark.medium
def test_sft_trains_on_the_best_at_once_and_names_where_they_came_from(
    tmp_path: Path, best_run: Path, sft_run: Path
) -> None:
    """A policy of six steps hardly ends by itself, so that the set is made of what its pools hold, ended."""
    run = tmp_path / "best"
    shutil.copytree(best_run, run)
    rows = [json.loads(line) for line in (run / "pools.jsonl").read_text().splitlines()]
    for row in rows:
        row["replies"][0] |= {"ended": True, "text": "As asked."}
    (run / "pools.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    align(*words(run, sft_run, "resume=true"))
    file = run / "demonstrations.jsonl"
    assert len(file.read_text().splitlines()) == record(run)["outputs"]["demonstrations"]["prompts"] == 5
    data = ("dataset=demonstrations", f"dataset.path={file}", "dataset.test_fraction=0")
    steps = ("training.max_steps=2", "training.batch_size=2", "model.max_length=192")
    align("stage=sft", f"run.dir={tmp_path / 'sft'}", f"model.path={sft_run}", *data, *steps)
    assert lines(tmp_path / "sft")
    origin = record(tmp_path / "sft")["inputs"]["data"]["run"]
    assert origin["stage"] == "best_of_n"
    assert origin["inputs"]["model"]["path"] == str(sft_run)


@pytest.mark.medium
@pytest.mark.parametrize("calls", [1, 2])
def test_stopped_between_chunks_it_goes_on_to_the_same_bytes(
    calls: int, tmp_path: Path, best_run: Path, sft_run: Path
) -> None:
    stopped(*words(tmp_path / "run", sft_run), owner=_pools, name="sample_tokens", call=calls + 1)
    assert len((tmp_path / "run" / "pools.jsonl").read_text().splitlines()) == 2 * calls
    align(*words(tmp_path / "run", sft_run, "resume=true"))
    for name in FILES:
        assert (tmp_path / "run" / name).read_bytes() == (best_run / name).read_bytes(), name


@pytest.mark.medium
def test_another_policy_does_not_go_on_with_these_replies(
    tmp_path: Path, best_run: Path, sft_run: Path, dpo_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start, run = tmp_path / "policy", tmp_path / "run"
    shutil.copytree(best_run, run)
    shutil.copytree(sft_run, start)
    for name in ("run.json", "config.yaml"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace(str(sft_run), str(start)))
    shutil.copytree(dpo_run / "model", start / "model", dirs_exist_ok=True)
    assert main(words(run, start, "resume=true")) == 5
    assert "pools.jsonl was made with another model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("best_of_n.n=1",), "best_of_n.n"),
        (("best_of_n.split=all",), "best_of_n.split"),
        (("sampling.temperature=0",), "sampling.temperature=0 draws n times the same reply"),
        (("sampling.max_new_tokens=192",), "sampling.max_new_tokens=192 leaves no room for a prompt"),
        (("reward=null",), "reward"),
    ],
)
def test_what_it_refuses(
    more: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word for word in words(tmp_path / "run", tmp_path / "sft") if word != "reward=gold"]
    reward = [] if more == ("reward=null",) else ["reward=gold"]
    assert main([*given, *reward, *(one for one in more if one != "reward=null")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
