"""ppo, rloo, grpo and online_dpo on the replies of a server: with the policy's weights, and without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rollout_runs import words
from served_policies import Model, serving_policy, words_for
from tiny_runs import STEPS, WORLD, align, lines, record

from align.__main__ import main
from align.errors import ServerError
from align.models.policy import Policy
from experiments.collect.serving import problem
from experiments.ppo_optimum.task import ONE_TOKEN, optimum, outcomes, write_policy, write_prompts

pytestmark = pytest.mark.medium

SERVED = ("rollout.old_logps=recomputed", "objective.epochs=1", "training.max_steps=4")
FOLLOWED = (*SERVED, "serving.reload=sglang")
WEIGHED = (*SERVED, "rollout.importance_cap=2")
ONLINE = ("reward=gold", "sampling.max_new_tokens=12", "evaluation.prompts=6", "evaluation.shown=1")
NOISE = 1e-6
"""Nats a token that two passes over the same weights lie apart in float32, with room."""


def run(kind: str, directory: Path, start: Path, *more: str, **how: Any) -> tuple[Path, Model]:
    """A stage whose replies a server writes."""
    with serving_policy(start / "model", **how) as (stand_in, model):
        align(*words(kind, directory, start, *words_for(stand_in, *more)))
    return directory, model


def each(directory: Path, name: str) -> list[float]:
    return [line[name] for line in lines(directory)]


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo"])
def test_a_server_that_follows_writes_as_the_policy_would(kind: str, tmp_path: Path, sft_run: Path) -> None:
    """Its numbers are the policy's own, in each iteration, after weights that have moved."""
    directory, model = run(kind, tmp_path / kind, sft_run, *FOLLOWED)
    assert model.loaded == [f"step-{step:06d}" for step in (1, 2, 3, 4)]
    assert max(map(abs, each(directory, "server/kl"))) < NOISE
    assert min(each(directory, "server/effective")) > 1 - NOISE
    assert each(directory, "server/age") == [0.0] * 4
    for name in ("retokenised", "misspelt", "cut", "unmatched"):
        assert each(directory, f"server/{name}") == [0.0] * 4
    assert each(directory, "rollout/logps_gap") == [0.0] * 4
    assert record(directory)["servers"]["rollouts"].endswith("policy")


def test_a_server_that_stays_lies_further_off_with_every_step(tmp_path: Path, sft_run: Path) -> None:
    directory, _ = run("ppo", tmp_path / "run", sft_run, *WEIGHED)
    far = each(directory, "server/kl")
    assert far[0] < NOISE
    assert far[1] > 100 * NOISE
    assert far[3] > far[1]
    assert each(directory, "server/effective")[3] < 0.999
    assert "server/age" not in lines(directory)[0]


def test_a_hand_over_every_third_iteration(tmp_path: Path, sft_run: Path) -> None:
    more = (*WEIGHED, "serving.reload=sglang", "serving.refresh_every=3")
    directory, model = run("ppo", tmp_path / "run", sft_run, *more)
    assert model.loaded == ["step-000001", "step-000004"]
    assert each(directory, "server/age") == [0.0, 1.0, 2.0, 0.0]
    far = each(directory, "server/kl")
    assert max(far[0], far[3]) < NOISE < 100 * NOISE < min(far[1], far[2])


def test_a_server_that_only_says_that_it_has_loaded_raises_an_alarm(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("alarms.server_limit=1e-5", "alarms.window=1")
    directory, _ = run("ppo", tmp_path / "run", sft_run, *FOLLOWED, *limits, deaf=True)
    assert each(directory, "server/kl")[3] > 100 * NOISE
    assert "alarm server_far at step 2" in "".join(capsys.readouterr())


def test_weights_bound_what_a_token_counts(tmp_path: Path, sft_run: Path) -> None:
    """Of a server that is the policy all weights are 1, or the cap: half of it is half the gradient."""
    more = (*SERVED, "kl.coef=0", "objective.minibatches=1", "training.max_steps=1")
    one, half = (
        run("grpo", tmp_path / cap, sft_run, *more, f"rollout.importance_cap={cap}")[0]
        for cap in ("2", "0.5")
    )
    assert each(half, "grad_norm")[0] == pytest.approx(each(one, "grad_norm")[0] / 2, rel=1e-4)


def text_alone(_: Policy, choice: dict[str, Any], reply: Any) -> dict[str, Any]:
    return {"text": choice["text"], "finish_reason": choice["finish_reason"]}


def text_with_pieces(policy: Policy, choice: dict[str, Any], reply: Any) -> dict[str, Any]:
    pieces = [policy.tokenizer.decode([token]) for token in reply.token_ids]
    numbers = {"tokens": pieces, "token_logprobs": reply.logps.tolist()}
    return {**text_alone(policy, choice, reply), "logprobs": numbers}


def test_a_server_that_gives_text_alone_is_read_anew(tmp_path: Path, sft_run: Path) -> None:
    more = (*FOLLOWED, "serving.logprobs=none")
    directory, _ = run("rloo", tmp_path / "run", sft_run, *more, shape=text_alone)
    assert each(directory, "server/retokenised") == [1.0] * 4
    assert "server/kl" not in lines(directory)[0]
    assert "server/unmatched" not in lines(directory)[0]


def test_numbers_of_pieces_count_where_they_are_the_policys_tokens(tmp_path: Path, sft_run: Path) -> None:
    """A random policy cuts words as no tokenizer does: replies that are read otherwise have no numbers."""
    short = (*FOLLOWED, "sampling.max_new_tokens=2")
    directory, _ = run("rloo", tmp_path / "run", sft_run, *short, shape=text_with_pieces)
    assert each(directory, "server/retokenised") == [1.0] * 4
    unmatched = each(directory, "server/unmatched")
    assert all(0 < share < 1 for share in unmatched)
    assert max(map(abs, each(directory, "server/kl"))) < NOISE


@pytest.mark.parametrize("every", [1, 2])
def test_online_dpo(every: int, tmp_path: Path, sft_run: Path) -> None:
    """The KL to the reference is one of the policy's own replies, and stands only where they are."""
    start = (f"run.dir={tmp_path / 'run'}", f"model.path={sft_run}", *WORLD, *STEPS, *ONLINE)
    with serving_policy(sft_run / "model") as (stand_in, model):
        follow = ("serving.reload=sglang", f"serving.refresh_every={every}", "training.max_steps=4")
        align("stage=online_dpo", *start, *words_for(stand_in, *follow))
    assert len(model.loaded) == 4 // every
    for place, line in enumerate(lines(tmp_path / "run")):
        old = place % every
        assert line["server/age"] == old
        assert (line["server/kl"] < NOISE) == (old == 0)
        assert ("rollout/kl" in line) == (old == 0)


def test_an_adapter_alone_is_handed_over(tmp_path: Path, sft_run: Path) -> None:
    """As vLLM is told; the stand-in does not load adapters, and refuses."""
    with serving_policy(sft_run / "model") as (stand_in, _):
        stand_in.others["/v1/load_lora_adapter"] = lambda *_: problem(400, "no adapters here")
        lora = ("serving.reload=vllm_lora", "training.micro_batch_size=null", *SERVED)
        code = main(words("lora", tmp_path / "run", sft_run, *words_for(stand_in, *lora)))
    assert code == ServerError.exit_code
    folder = tmp_path / "run" / "served" / "step-000001"
    assert (folder / "adapter" / "adapter_config.json").is_file()
    assert not (folder / "model").exists()


SCHOOL = (
    "stage=rloo",
    "reward=function",
    "reward.call=experiments.ppo_optimum.task.reward",
    "dataset=demonstrations",
    "dataset.test_fraction=0",
    "dataset.validation_fraction=0",
    "model=hf",
    "model.max_length=16",
    "sampling.max_new_tokens=1",
    "rollout.old_logps=recomputed",
    "rollout.replies=16",
    "objective.epochs=2",
    "objective.minibatches=1",
    "training.batch_size=2",
    "training.micro_batch_size=null",
    "training.learning_rate=0.003",
    "training.schedule=constant",
    "training.warmup_steps=0",
    "training.precision=float32",
    "training.max_steps=25",
    f"kl.coef={ONE_TOKEN.beta}",
)


@pytest.fixture(scope="module")
def school(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy of one token, 40 answers, whose rewards are known."""
    folder = tmp_path_factory.mktemp("school")
    write_policy(ONE_TOKEN, folder / "model")
    write_prompts(folder / "prompts.jsonl")
    return folder


def worth(folder: Path, before: Path) -> float:
    """Mean reward less what the KL costs, enumerated: what the stage optimises."""
    now, then = outcomes(ONE_TOKEN, folder), outcomes(ONE_TOKEN, before)
    chances = np.exp(now.logps)
    return float(chances @ (now.rewards - ONE_TOKEN.beta * (now.logps - then.logps)))


@pytest.mark.slow
def test_what_a_server_teaches_is_what_is_learnt_here(school: Path, tmp_path: Path) -> None:
    """A server that follows, one that stays and is weighed, and none: most of what there is to gain."""
    start = school / "model"
    place = (f"model.path={start}", f"dataset.path={school / 'prompts.jsonl'}")
    align(*SCHOOL, *place, f"run.dir={tmp_path / 'here'}")
    for name, more in (("follows", "serving.reload=sglang"), ("stays", "rollout.importance_cap=2")):
        with serving_policy(start, longest=16) as (stand_in, _):
            align(*SCHOOL, *place, f"run.dir={tmp_path / name}", *words_for(stand_in, more))
    before = outcomes(ONE_TOKEN, start)
    best = dataclasses.replace(before, logps=optimum(ONE_TOKEN, before))
    ceiling = float(np.exp(best.logps) @ (best.rewards - ONE_TOKEN.beta * (best.logps - before.logps)))
    floor = worth(start, start)
    gained = {
        name: (worth(tmp_path / name / "model", start) - floor) / (ceiling - floor)
        for name in ("here", "follows", "stays")
    }
    assert min(gained.values()) > 0.5, gained
    # an episode is told on the line that it begins on
    alarms = {name: sum("alarms/server_far" in line for line in lines(tmp_path / name)) for name in gained}
    assert alarms == {"here": 0, "follows": 0, "stays": 1}


def test_a_server_draws_from_the_policys_distribution(school: Path) -> None:
    """A thousand answers against the enumerated probabilities: chi-square within four deviations."""
    from align.generation.address import ServerSettings
    from align.generation.server import open_server
    from align.ppo.served import read_reply
    from align.settings import SamplingSettings
    from align.types import Message

    exact = np.exp(outcomes(ONE_TOKEN, school / "model").logps)
    with serving_policy(school / "model", longest=16) as (stand_in, model):
        chat = model.policy.chat
        prompt = chat.prompt_ids((Message("user", "a"),)).tolist()
        with open_server(ServerSettings(url=stand_in.url, model="policy")) as server:
            sampling = SamplingSettings(max_new_tokens=1, temperature=1.0)
            found = server.complete([prompt] * 1000, sampling, 0, chat.stop_ids, logprobs=True)
    replies = [read_reply(one, chat, 1).reply for one in found]
    counts = np.bincount([one.token_ids[0] for one in replies], minlength=ONE_TOKEN.tokens)
    expected = 1000 * exact
    chi = float(((counts - expected) ** 2 / expected).sum())
    freedom = ONE_TOKEN.tokens - 1
    assert abs(chi - freedom) < 4 * (2 * freedom) ** 0.5
    said = np.array([one.logps[0] for one in replies if one.logps is not None])
    assert len(said) == 1000
    assert said == pytest.approx(np.log(exact)[[one.token_ids[0] for one in replies]], abs=1e-5)
