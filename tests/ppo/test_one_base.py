"""Policy, reference, critic and reward on one set of frozen weights: the numbers of whole models, the memory
of one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_rollouts import ALL, GROUPS, clipped, rolled_out
from tiny_architectures import ARCHITECTURES, random_causal, texts
from transformers import AutoModelForCausalLM

from align.models.build import quiet, seeded
from align.models.one_base import Apart, new_scalar, prepared, saved_scalar
from align.models.policy import Policy, load_policy, save_policy
from align.models.save import BASE_FILE, plain_model
from align.models.scalar import ScalarModel, load_scalar, save_scalar
from align.models.settings import AdapterSettings, ModelSettings
from align.models.tokenizer import train_tokenizer
from align.packing.probe import open_forward
from align.ppo.actor import Actor, Together
from align.training.optimiser import trainable_parameters
from align.types import Message
from reward_models.bradley_terry import BradleyTerry
from reward_models.ensemble import Ensemble
from reward_models.weighted import Part, Weighted

LORA = AdapterSettings(kind="lora", rank=4, alpha=8.0)
PROMPTS = [(Message("user", "hello " * n),) for n in (1, 4, 2)]
REPLIES = ["yes", "how are you?", "no " * 9]


def make_base(folder: Path, architecture: str) -> Path:
    with quiet():
        random_causal(architecture, 300).save_pretrained(folder)
        train_tokenizer(texts(), 300).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=ARCHITECTURES)
def any_base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model", request.param)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base") / "model", "llama")


def settings(path: Path) -> ModelSettings:
    return ModelSettings(path=str(path), max_length=64)


def moved(model: Any, seed: int) -> Any:
    """Stands for training: whatever is trained moves."""
    with seeded(seed), torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def policy_on(base: Path) -> Policy:
    policy = load_policy(settings(base), LORA, texts=None, seed=3)
    moved(policy.model, 7)
    return policy


def with_critic(policy: Policy, critic: ScalarModel) -> Actor:
    moved(critic.model, 8)
    values = open_forward(critic.model, critic.pad_id, say=lambda _line: None)
    return Actor(
        Together(policy.model, critic.model),
        open_forward(policy.model, policy.pad_id, say=lambda _line: None),
        0.8,
        critic=values.values,
        critic_work=values.work,
    )


def both_actors(base: Path) -> tuple[Actor, Actor]:
    """A critic on the policy's weights, and one on weights of its own, with the same adapters and heads."""
    policy, alone = policy_on(base), policy_on(base)
    whole = load_scalar(settings(base), LORA, texts=None, seed=5)
    return with_critic(policy, new_scalar(policy, LORA, 5)), with_critic(alone, whole)


def gradients(actor: Actor) -> dict[str, torch.Tensor]:
    """Of the whole PPO objective, as an update follows it."""
    actor.model.zero_grad()
    objective = clipped(actor, rolled_out(actor), entropy_coef=0.1)
    (objective(ALL).loss_sum / objective.weight(ALL)).backward()
    found = {name: one.grad for name, one in trainable_parameters(actor.model).items()}
    assert None not in found.values()
    return found


def reward_run(folder: Path, base: Path, adapter: AdapterSettings = LORA, seed: int = 9) -> Path:
    scalar = load_scalar(settings(base), adapter, texts=None, seed=seed)
    moved(scalar.model, seed)
    save_scalar(scalar, folder / "model")
    return folder


def storages(*models: Any) -> dict[int, int]:
    """Address -> bytes of all that the models' parameters and buffers lie in."""
    tensors = [one for model in models for one in (*model.parameters(), *model.buffers())]
    return {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}


def own_bytes(scalar: ScalarModel) -> int:
    """Of the adapter, and of the head and the copy of it that is trained."""
    named = scalar.model.named_parameters()
    return sum(one.nbytes for name, one in named if "lora_" in name or ".score." in name)


def test_both_adapters_get_the_gradients_of_models_of_their_own(any_base: Path) -> None:
    on_base, apart = (gradients(actor) for actor in both_actors(any_base))
    assert on_base.keys() == apart.keys()
    for role in ("policy", "critic"):
        own = [one.norm() for name, one in on_base.items() if name.startswith(role)]
        assert min(own) > 0, role
    for name, gradient in apart.items():
        torch.testing.assert_close(on_base[name], gradient, rtol=0, atol=1e-6, msg=name)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_recomputed_activations_meet_their_own_adapter(architecture: str, tmp_path: Path) -> None:
    """A backward pass that recomputes runs the layers again after both roles had their turn."""
    actor, _ = both_actors(make_base(tmp_path / "model", architecture))
    kept = gradients(actor)
    actor.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    actor.model.train()
    layers = [one for one in actor.model.modules() if getattr(one, "gradient_checkpointing", False)]
    assert len(layers) >= 2
    recomputed = gradients(actor)
    for name, gradient in kept.items():
        torch.testing.assert_close(recomputed[name], gradient, rtol=0, atol=1e-6, msg=name)


def test_training_both_moves_the_adapters_alone(base: Path) -> None:
    actors = both_actors(base)
    frozen = {name: one.clone() for name, one in actors[0].model.named_parameters() if not one.requires_grad}
    for actor in actors:
        optimiser = torch.optim.AdamW(trainable_parameters(actor.model).values(), lr=0.01)
        for _ in range(3):
            gradients(actor)
            optimiser.step()
    on_base, apart = (trainable_parameters(actor.model) for actor in actors)
    for name, weight in apart.items():
        torch.testing.assert_close(on_base[name], weight, rtol=0, atol=1e-5, msg=name)
    after = dict(actors[0].model.named_parameters())
    assert all(torch.equal(after[name], one) for name, one in frozen.items())


def test_the_reference_is_the_start_whatever_stands_on_its_weights(any_base: Path, tmp_path: Path) -> None:
    start = load_policy(settings(any_base), AdapterSettings(), texts=None, seed=3)
    expected = open_forward(start.model.eval(), 0, say=lambda _line: None).logps(GROUPS).logps_BT
    policy = policy_on(any_base)
    actor = with_critic(policy, new_scalar(policy, LORA, 5))
    saved_scalar(policy, str(reward_run(tmp_path / "rm", any_base)))
    before = gradients(actor)
    with policy.reference():
        found = actor.forward.logps(GROUPS).logps_BT
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert float((found - actor.forward.logps(GROUPS).logps_BT.detach()).abs().max()) > 1e-2
    after = gradients(actor)
    assert all(torch.equal(after[name], one) for name, one in before.items())


def test_what_is_saved_is_the_policy_alone(base: Path, tmp_path: Path) -> None:
    policy, alone = policy_on(base), policy_on(base)
    with_critic(policy, new_scalar(policy, LORA, 5))
    for one, place in ((policy, "shared"), (alone, "alone")):
        save_policy(one, tmp_path / place / "model")
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors", f"adapter/{BASE_FILE}"):
        assert (tmp_path / "shared" / file).read_bytes() == (tmp_path / "alone" / file).read_bytes(), file
    ids = torch.arange(6, 30).reshape(2, 12)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "shared" / "model").eval()
    with torch.no_grad():
        ours, theirs = (model(ids).logits for model in (policy.model.eval(), loaded))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_four_roles_lie_in_one_set_of_weights(any_base: Path, tmp_path: Path) -> None:
    policy = policy_on(any_base)
    own = storages(policy.model)
    critic = new_scalar(policy, LORA, 5)
    reward = BradleyTerry(str(reward_run(tmp_path / "rm", any_base))).prepare_on(policy)
    with policy.reference() as reference:
        together = storages(policy.model, reference, critic.model, reward.scalar.model)
    added = sum(together.values()) - sum(own.values())
    assert own.keys() <= together.keys()
    assert added == own_bytes(critic) + own_bytes(reward.scalar)
    # as models of their own each of the two holds a whole backbone
    whole = load_scalar(settings(any_base), LORA, texts=None, seed=5)
    assert not storages(whole.model).keys() & own.keys()


def test_the_reward_gives_the_scores_of_the_merged_model(
    any_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward, policy = BradleyTerry(str(reward_run(tmp_path / "rm", any_base))), policy_on(any_base)
    expected = reward.prepare().score(PROMPTS, REPLIES)
    capsys.readouterr()
    on_base = prepared(reward, policy)
    assert capsys.readouterr().out == (
        f"the reward model {reward.path} is an adapter on the policy's frozen weights\n"
    )
    assert len({round(score, 3) for score in expected}) == 3
    assert on_base.score(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)
    moved(policy.model, 4)
    assert on_base.score(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)
    assert not trainable_parameters(policy.model).keys() - {
        name for name in dict(policy.model.named_parameters()) if "lora_" in name
    }


@pytest.mark.parametrize("how", ["other weights", "no adapter", "unsaid", "a policy's", "other device"])
def test_what_cannot_stand_there_says_why_and_scores_by_itself(
    how: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, trained_on, adapter = policy_on(base), base, LORA
    if how == "other weights":
        save_policy(policy, tmp_path / "sft" / "model")  # the policy as it was trained, not as it started
        trained_on = tmp_path / "sft" / "model"
    if how == "no adapter":
        adapter = AdapterSettings()
    run = reward_run(tmp_path / "rm", trained_on, adapter)
    if how == "unsaid":
        (run / "adapter" / BASE_FILE).unlink()
    if how == "a policy's":
        save_policy(policy, run / "sft" / "model")
        (run / "adapter").rename(run / "former")
        (run / "sft" / "adapter").rename(run / "adapter")
    reward = BradleyTerry(str(run), device="cpu")
    if how == "other device":
        policy = replace(policy, device=torch.device("meta"))
    capsys.readouterr()
    scores = prepared(reward, policy).score(PROMPTS, REPLIES)
    said = capsys.readouterr().out
    assert scores == pytest.approx(reward.prepare().score(PROMPTS, REPLIES), abs=1e-6)
    assert said == (
        f"note: the reward model {run} is loaded beside the policy's weights, because "
        + {
            "other weights": "its adapter was trained on other weights than the policy starts from",
            "no adapter": "it is no adapter (stage=reward adapter=lora makes one)",
            "unsaid": "its adapter does not say which weights it was trained on",
            "a policy's": "it is no adapter (stage=reward adapter=lora makes one)",
            "other device": "reward.device=cpu is not the policy's",
        }[how]
        + "\n"
    )


def test_members_and_parts_share_the_weights_too(base: Path, tmp_path: Path) -> None:
    first, second = (reward_run(tmp_path / str(seed), base, seed=seed) for seed in (1, 2))
    ensemble = Ensemble((str(first), str(second)), scale="raw")
    reward = Weighted({"cautious": Part(ensemble, 1.0), "second": Part(BradleyTerry(str(second)), 0.5)})
    policy = policy_on(base)
    on_base = prepared(reward, policy)
    assert on_base.score(PROMPTS, REPLIES) == pytest.approx(
        reward.prepare().score(PROMPTS, REPLIES), abs=1e-5
    )
    members = [one.scalar for one in on_base.scorers["cautious"].members]  # type: ignore[attr-defined]
    members.append(on_base.scorers["second"].scalar)  # type: ignore[attr-defined]
    together = storages(policy.model, *(one.model for one in members))
    assert sum(together.values()) - sum(storages(policy.model).values()) == sum(map(own_bytes, members))


def test_a_critic_may_start_from_a_reward_models_adapter(base: Path, tmp_path: Path) -> None:
    run, policy = reward_run(tmp_path / "rm", base, replace(LORA, dropout=0.3)), policy_on(base)
    critic = saved_scalar(policy, str(run), trainable=True, dropout=0.0)
    reward = BradleyTerry(str(run)).prepare()
    values = open_forward(critic.model, critic.pad_id).scores(GROUPS)
    torch.testing.assert_close(values, reward.forward.scores(GROUPS), rtol=0, atol=1e-5)
    trained = trainable_parameters(critic.model)
    assert all("lora_" in name or "score.modules_to_save" in name for name in trained)
    assert any("score" in name for name in trained)
    assert critic.model.training
    assert all(one.p == 0 for one in critic.model.modules() if isinstance(one, torch.nn.Dropout))


def test_a_policy_that_is_trained_whole_carries_nobody(base: Path, tmp_path: Path) -> None:
    policy = load_policy(settings(base), AdapterSettings(), texts=None, seed=3)
    with pytest.raises(Apart, match="all its weights move"):
        new_scalar(policy, LORA, 5)
    reward = BradleyTerry(str(reward_run(tmp_path / "rm", base)))
    ready = prepared(reward, policy)
    assert not storages(policy.model).keys() & storages(ready.scalar.model).keys()  # type: ignore[attr-defined]
    assert plain_model(policy.model) is policy.model


MEASURED = """
import sys
from pathlib import Path
from align.models.one_base import new_scalar, saved_scalar
from align.models.policy import load_policy
from align.models.settings import AdapterSettings, ModelSettings

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

lora = AdapterSettings(kind="lora", rank=2)
model = ModelSettings(path=sys.argv[1], max_length=64)
policy = load_policy(model, lora, texts=None, seed=0)
sum(float(one.sum()) for one in policy.model.parameters())  # mapped from a file: read, all of it is there
kept = [new_scalar(policy, lora, 0)]  # also what torch and transformers import and keep at the first time
Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
before = peak()
kept += [new_scalar(policy, lora, 1), saved_scalar(policy, sys.argv[2])]
print(peak() - before, sum(one.nbytes for one in policy.model.parameters()))
"""


@pytest.mark.medium
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures by what Linux counts")
def test_loading_critic_and_reward_takes_no_second_model(tmp_path: Path) -> None:
    """The process's own peak, measured: a model of 100 MB, of which either role would need one more."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300, hidden_size=512, intermediate_size=2048, num_hidden_layers=6, num_attention_heads=8
    )
    with seeded(0), quiet():
        LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
        train_tokenizer(texts(), 300).save_pretrained(tmp_path / "base")
    run = reward_run(tmp_path / "rm", tmp_path / "base", replace(LORA, rank=2))
    words = [sys.executable, "-c", MEASURED, str(tmp_path / "base"), str(run)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    added, whole = int(said[-2]), int(said[-1])
    assert whole > 90e6
    assert added < 0.1 * whole
