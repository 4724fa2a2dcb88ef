from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from tiny_architectures import ARCHITECTURES, random_causal, texts, tiny
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config

from align.errors import ModelError
from align.models import save
from align.models.build import seeded
from align.models.policy import evaluating, load_policy, save_policy
from align.models.settings import AdapterSettings, ModelSettings
from align.models.tokenizer import train_tokenizer
from align.types import Message

NONE = AdapterSettings()
LORA = AdapterSettings(kind="lora", rank=4, alpha=8.0)
DORA = AdapterSettings(kind="dora", rank=4, alpha=8.0)
INPUT = torch.arange(6, 30).reshape(2, 12)


def logits(model) -> torch.Tensor:
    with torch.no_grad(), evaluating(model):
        return model(input_ids=INPUT).logits


def load(path: Path | str | None = None, adapter: AdapterSettings = NONE, seed: int = 0, **changes):
    settings = (
        tiny(**changes) if path is None else ModelSettings(path=str(path), **{"max_length": 64, **changes})
    )
    return load_policy(settings, adapter, texts=texts, seed=seed)


def disturb(model) -> None:
    """Stands for training: every trainable weight moves."""
    with seeded(7), torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


def hf_folder(tmp_path: Path, architecture: str = "llama") -> Path:
    """A foreign model and tokenizer, saved by transformers alone."""
    folder = tmp_path / architecture
    tokenizer = train_tokenizer(texts(), 300)
    random_causal(architecture, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_scratch_is_the_seeds_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    one, same, other = load(seed=0), load(seed=0), load(seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(one.model), logits(same.model))
    assert not torch.equal(logits(one.model), logits(other.model))
    assert one.model.dtype == torch.float32
    assert one.model.lm_head.weight is one.model.model.embed_tokens.weight
    assert one.model.training
    assert one.pad_id not in one.chat.stop_ids


def test_a_scratch_model_needs_texts():
    with pytest.raises(ModelError, match="needs a dataset"):
        load_policy(tiny(), NONE, texts=None, seed=0)


@pytest.mark.medium
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_is_loaded_saved_and_loaded_again(tmp_path: Path, architecture: str):
    policy = load(hf_folder(tmp_path, architecture))
    disturb(policy.model)
    save_policy(policy, tmp_path / "run" / "model")
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert torch.equal(logits(load(tmp_path / "run").model), logits(policy.model))
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    assert torch.equal(logits(alone), logits(policy.model))
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "run" / "model").chat_template
        == policy.tokenizer.chat_template
    )


@pytest.mark.medium
@pytest.mark.parametrize("adapter", [LORA, DORA], ids=["lora", "dora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_reference_under_low_rank_updates_is_the_base_exactly(
    tmp_path: Path, architecture: str, adapter: AdapterSettings
):
    folder = hf_folder(tmp_path, architecture)
    base, policy = load(folder), load(folder, adapter)
    disturb(policy.model)
    assert not torch.allclose(logits(policy.model), logits(base.model))
    with policy.reference() as reference:
        assert not reference.training
        assert torch.equal(reference(input_ids=INPUT).logits, logits(base.model))
    assert policy.model.training
    frozen = [name for name, one in policy.model.named_parameters() if not one.requires_grad]
    assert frozen
    assert all("lora_" not in name for name in frozen)


@pytest.mark.medium
@pytest.mark.parametrize("adapter", [LORA, DORA], ids=["lora", "dora"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_saving_merges_updates_on_disk_and_changes_nothing_in_memory(
    tmp_path: Path, architecture: str, adapter: AdapterSettings
):
    folder = hf_folder(tmp_path, architecture)
    policy = load(folder, adapter)
    assert adapter is LORA or any("magnitude" in name for name, _ in policy.model.named_parameters())
    disturb(policy.model)
    before = {name: one.clone() for name, one in policy.model.state_dict().items()}
    save_policy(policy, tmp_path / "run" / "model")
    after = policy.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(one, after[name]) for name, one in before.items())
    trained = logits(policy.model)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    torch.testing.assert_close(logits(merged), trained, atol=1e-5, rtol=0)
    # the adapter as it is: on its base by peft alone, and as model.path
    onto = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder), tmp_path / "run" / "adapter"
    )
    # (transformers gives a qwen2 folder's tokenizer one more token, and so the policy one more row)
    torch.testing.assert_close(logits(onto), trained[..., :300], atol=1e-6, rtol=0)
    torch.testing.assert_close(logits(load(tmp_path / "run" / "adapter").model), trained, atol=1e-5, rtol=0)
    (tmp_path / "run" / "model").rename(tmp_path / "gone")
    torch.testing.assert_close(logits(load(tmp_path / "run").model), trained, atol=1e-5, rtol=0)


def test_an_adapter_without_its_base_says_so(tmp_path: Path):
    save_policy(
        load(adapter=LORA), tmp_path / "run" / "model"
    )  # the base is from scratch, and nowhere on disk
    with pytest.raises(ModelError, match="does not name its base"):
        load(tmp_path / "run" / "adapter")


def test_the_reference_stays_where_training_started_and_costs_nothing_unasked(tmp_path: Path):
    for policy in (load(), load(hf_folder(tmp_path))):
        start = logits(policy.model)
        disturb(policy.model)
        assert policy._start is None
        with policy.reference() as reference:
            assert torch.equal(reference(input_ids=INPUT).logits, start)
            assert not reference(input_ids=INPUT).logits.requires_grad
            assert not reference.training
            assert not any(one.requires_grad for one in reference.parameters())
        with policy.reference() as again:
            assert again is reference
        policy.drop_reference()
        assert policy._start is None


def test_dropout_reaches_every_field_and_zero_switches_a_checkpoints_off(tmp_path: Path):
    tokenizer = train_tokenizer(texts(), 300)
    folder = tmp_path / "gpt2"
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4, n_positions=64)
    assert config.resid_pdrop == 0.1  # transformers' default: a reference would differ from itself
    with seeded(0):
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    fields = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "summary_first_dropout")
    for rate in (0.0, 0.25):
        policy = load(folder, dropout=rate)
        assert [getattr(policy.model.config, name) for name in fields] == [rate] * 4
        rates = {one.p for one in policy.model.modules() if isinstance(one, torch.nn.Dropout)}
        assert rates == {rate}
    assert load(dropout=0.25).model.config.attention_dropout == 0.25


def test_an_added_padding_token_gets_the_mean_row_and_stays_improbable(tmp_path: Path):
    folder = hf_folder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    settings = json.loads((folder / "tokenizer.json").read_text().replace("<|pad|>", "<|zero|>"))
    # a GPT-2-like tokenizer: the only special token is the end of text
    settings["added_tokens"] = [one for one in settings["added_tokens"] if one["content"] == "<|eos|>"]
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    names = json.loads((folder / "tokenizer_config.json").read_text())
    names = {
        name: one for name, one in names.items() if name in ("tokenizer_class", "eos_token", "pad_token")
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    (folder / "chat_template.jinja").unlink()
    before = AutoModelForCausalLM.from_pretrained(folder)
    policy = load(folder)
    rows = policy.model.get_input_embeddings().weight
    known = before.get_input_embeddings().weight
    assert policy.pad_id == len(known) == len(rows) - 1
    torch.testing.assert_close(rows[-1], known.mean(0))
    assert torch.equal(logits(policy.model)[..., :-1], logits(before))
    with policy.reference() as reference:
        assert torch.equal(reference(input_ids=INPUT).logits, logits(policy.model))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("runs/sf", r"there is no model at runs/sf\. Did you mean 'runs/sft'\?"),
        ("./sf", r"there is no model at \./sf"),
        ("no such thing", "there is no model at no such thing"),
        ("runs/sft", "holds neither model/config.json nor config.json"),
        ("file.txt", "is a file"),
        ("nobody/nothing", "no model can be loaded from nobody/nothing: no such folder, and the Hub"),
    ],
)
def test_a_wrong_path_is_one_line_with_the_near_match(tmp_path, monkeypatch, path: str, message: str):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    (tmp_path / "file.txt").touch()
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_with_missing_weights_is_refused(tmp_path: Path):
    folder = hf_folder(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    state = {name: one for name, one in model.state_dict().items() if "layers.1.mlp" not in name}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(ModelError, match=r"lacks model\.layers\.1\.mlp"):
        load(folder)


def test_a_damaged_weights_file_is_one_line(tmp_path: Path):
    folder = hf_folder(tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(ModelError, match="no model can be loaded from") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_more_tokens_than_positions_and_unknown_layers_are_refused(tmp_path: Path):
    folder = hf_folder(tmp_path, "gpt2")
    with pytest.raises(ModelError, match=r"max_length=65, but .* was built for 64 tokens"):
        load(folder, max_length=65)
    with pytest.raises(ModelError, match=r"adapter\.target_modules=\('nope',\)"):
        load(folder, AdapterSettings(kind="lora", target_modules=("nope",)))


def test_a_failed_save_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy = load()
    save_policy(policy, tmp_path / "model")
    old = (tmp_path / "model" / "model.safetensors").read_bytes()
    disturb(policy.model)

    def full(path: Path) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(save, "sync", full)
        with pytest.raises(OSError, match="no space left"):
            save_policy(policy, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == old
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    save_policy(policy, tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() != old
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_a_saved_model_stops_where_its_chat_does(tmp_path: Path):
    policy = load()
    save_policy(policy, tmp_path / "model")
    written = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert written["eos_token_id"] == list(policy.chat.stop_ids)
    assert (
        written["pad_token_id"]
        == AutoConfig.from_pretrained(tmp_path / "model").pad_token_id
        == policy.pad_id
    )
    again = load(tmp_path / "model")
    prompt = (Message("user", "how are you?"),)
    assert again.chat.fingerprint() == policy.chat.fingerprint()
    assert again.chat.prompt_ids(prompt).tolist() == policy.chat.prompt_ids(prompt).tolist()


def test_evaluating_restores_each_modules_mode():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model[0].eval()
    with evaluating(model):
        assert not any(one.training for one in model.modules())
    assert [model.training, model[0].training, model[1].training] == [True, False, True]
