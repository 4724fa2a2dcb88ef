from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_architectures import ARCHITECTURES, random_causal, texts, tiny
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from align.errors import ModelError
from align.models.batch import pad_replies
from align.models.build import seeded
from align.models.forward import reply_scores
from align.models.policy import load_policy, save_policy
from align.models.save import plain_model
from align.models.scalar import LastTokenScores, load_scalar, save_scalar
from align.models.settings import AdapterSettings, ModelSettings
from align.models.tokenizer import train_tokenizer
from align.types import Message

NONE = AdapterSettings()
LORA = AdapterSettings(kind="lora", rank=4)
PAD = 0
# padding's id stands inside two texts, and is the last token of one
PROMPTS = [np.array(ids, dtype=np.int32) for ids in ([5, 6, 7, 8, 9], [20], [0, 30, 0], [9, 8, 7])]
REPLIES = [np.array(ids, dtype=np.int32) for ids in ([40, 2], [50, 51, 52, 53, 54, 2], [0, 2], [41, 0])]


def scores(model: LastTokenScores, rows=range(4)) -> torch.Tensor:
    model.eval()
    with torch.no_grad():
        return reply_scores(model, [PROMPTS[row] for row in rows], [REPLIES[row] for row in rows], PAD)


def load(path: Path | None = None, adapter: AdapterSettings = NONE, seed: int = 0, **more):
    settings = tiny() if path is None else ModelSettings(path=str(path), max_length=32)
    return load_scalar(settings, adapter, texts=texts, seed=seed, **more)


def causal_folder(tmp_path: Path, architecture: str) -> Path:
    folder = tmp_path / architecture
    tokenizer = train_tokenizer(texts(), 300)
    random_causal(architecture, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def encoder_folder(tmp_path: Path, kind: str) -> Path:
    """A BERT or RoBERTa as it comes from pre-training: a masked-language head, no scores."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz:"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = {"bert": BertConfig, "roberta": RobertaConfig}[kind](
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=66,
        pad_token_id=0,
    )
    with seeded(0):
        AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / kind)
    tokenizer.save_pretrained(tmp_path / kind)
    return tmp_path / kind


@pytest.mark.medium
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_text_scores_the_same_alone_in_any_batch_and_by_transformers(tmp_path: Path, architecture: str):
    scalar = load(causal_folder(tmp_path, architecture))
    together = scores(scalar.model)
    assert together.std() > 1e-3
    for row in range(4):
        torch.testing.assert_close(scores(scalar.model, [row])[0], together[row], atol=1e-5, rtol=0)
    save_scalar(scalar, tmp_path / "rm" / "model")
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm" / "model").eval()
    # rows 0 to 2 end with a token that is not padding's, as every reply of ours does
    batch = pad_replies(PROMPTS[:3], REPLIES[:3], PAD)
    with torch.no_grad():
        got = theirs(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits[:, 0]
    torch.testing.assert_close(got, together[:3], atol=1e-5, rtol=0)
    again = load(tmp_path / "rm", trained=True)
    torch.testing.assert_close(scores(again.model), together, atol=1e-5, rtol=0)


def test_the_score_is_read_at_the_last_token_by_hand():
    scalar = load()
    whole = plain_model(scalar.model.inner)
    whole.eval()
    got = scores(scalar.model)
    for row in range(4):
        ids = torch.tensor([[*PROMPTS[row], *REPLIES[row]]])
        with torch.no_grad():
            expected = whole.model(input_ids=ids).last_hidden_state[0, -1] @ whole.score.weight[0]
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=0)


def test_padding_on_the_left_gives_the_same_scores():
    scalar = load()
    width = max(len(p) + len(r) for p, r in zip(PROMPTS, REPLIES, strict=True))
    ids, mask = torch.zeros(4, width, dtype=torch.int64), torch.zeros(4, width, dtype=torch.int64)
    for row, (prompt, reply) in enumerate(zip(PROMPTS, REPLIES, strict=True)):
        text = torch.tensor([*prompt, *reply])
        ids[row, width - len(text) :], mask[row, width - len(text) :] = text, 1
    expected = scores(scalar.model)
    with torch.no_grad():
        # rotary positions are relative: shifting a row changes nothing but rounding
        torch.testing.assert_close(scalar.model(ids, mask), expected, atol=1e-5, rtol=0)


@pytest.mark.medium
@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("adapter", [NONE, LORA])
def test_an_encoder_serves_as_well(tmp_path: Path, kind: str, adapter: AdapterSettings, capsys):
    scalar = load(encoder_folder(tmp_path, kind), adapter)
    assert scalar.positions == (66 if kind == "bert" else 64)
    assert scalar.chat.stop_ids == (3,)  # [SEP]
    prompt, replies = (Message("user", "ab"),), ["c", "defghij"]
    prompts = [scalar.chat.prompt_ids(prompt)] * 2
    assert prompts[0][0] == 2  # [CLS], which the pooler reads
    ids = [scalar.chat.reply_ids(prompt, reply) for reply in replies]
    scalar.model.eval()
    with torch.no_grad():
        together = reply_scores(scalar.model, prompts, ids, scalar.pad_id)
        for row in (0, 1):
            alone = reply_scores(scalar.model, prompts[:1], [ids[row]], scalar.pad_id)
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)
        save_scalar(scalar, tmp_path / "rm" / "model")
        again = load(tmp_path / "rm", trained=True)
        again.model.eval()
        got = reply_scores(again.model, prompts, ids, again.pad_id)
    torch.testing.assert_close(got, together, atol=1e-5, rtol=0)


def test_a_new_head_is_drawn_as_published_and_from_the_seed():
    # it reads d = 1024 values: the standard deviation is 1/sqrt(1025); of 1024 draws, 2.2 % is one sigma
    shape = tiny().scratch
    wide = ModelSettings(
        scratch=type(shape)(hidden_size=1024, layers=1, heads=1, mlp_size=1, vocab_size=262), max_length=8
    )
    state = torch.get_rng_state()
    scalar = load_scalar(wide, NONE, texts=texts, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    head = plain_model(scalar.model.inner).score.weight.detach()
    assert float(head.std()) == pytest.approx(1 / math.sqrt(1025), rel=0.09)
    assert abs(float(head.mean())) < 4 / math.sqrt(1025 * 1024)
    one, same, other = (plain_model(load(seed=seed).model.inner).score.weight for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_policys_backbone_is_kept(tmp_path: Path):
    policy = load_policy(tiny(), NONE, texts=texts, seed=5)
    save_policy(policy, tmp_path / "sft" / "model")
    whole = plain_model(load(tmp_path / "sft").model.inner)
    for name, weight in policy.model.model.state_dict().items():
        assert torch.equal(whole.model.state_dict()[name], weight), name
    with pytest.raises(ModelError, match="has no head that gives scores"):
        load(tmp_path / "sft", trained=True)


@pytest.mark.medium
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lora_trains_saves_and_loads_the_head(tmp_path: Path, architecture: str):
    folder = causal_folder(tmp_path, architecture)
    scalar = load(folder, LORA)
    trainable = [name for name, one in scalar.model.named_parameters() if one.requires_grad]
    assert any("score" in name for name in trainable)
    assert all("lora_" in name or "score.modules_to_save" in name for name in trainable)
    optimiser = torch.optim.AdamW([one for one in scalar.model.parameters() if one.requires_grad], lr=0.01)
    for _ in range(3):
        optimiser.zero_grad()
        reply_scores(scalar.model, PROMPTS, REPLIES, PAD).square().sum().backward()
        optimiser.step()
    trained = scores(scalar.model)
    assert not torch.allclose(trained, scores(load(folder, LORA).model), atol=1e-3)
    save_scalar(scalar, tmp_path / "rm" / "model")
    assert torch.equal(scores(scalar.model), trained)
    torch.testing.assert_close(scores(load(tmp_path / "rm", trained=True).model), trained, atol=1e-5, rtol=0)
    # the adapter alone, on the base that it names
    from_adapter = load(tmp_path / "rm" / "adapter", trained=True)
    torch.testing.assert_close(scores(from_adapter.model), trained, atol=1e-5, rtol=0)
    # and as the start of another run with an adapter
    torch.testing.assert_close(scores(load(tmp_path / "rm", LORA).model), trained, atol=1e-5, rtol=0)
    with pytest.raises(ModelError, match="is a reward model's adapter"):
        load_policy(
            ModelSettings(path=str(tmp_path / "rm" / "adapter"), max_length=32), NONE, texts=None, seed=0
        )


def test_a_reward_model_is_no_policy(tmp_path: Path):
    save_scalar(load(), tmp_path / "rm" / "model")
    with pytest.raises(ModelError, match="is a reward model, not a policy"):
        load_policy(ModelSettings(path=str(tmp_path / "rm"), max_length=32), NONE, texts=None, seed=0)


def test_a_classifier_of_several_labels_gives_way_to_a_new_head_but_never_scores(tmp_path: Path):
    folder = causal_folder(tmp_path, "llama")
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="gives 3 scores a reply"):
        load(folder, trained=True)
    scalar = load(folder)
    assert plain_model(scalar.model.inner).score.weight.shape == (1, 32)
    assert scores(scalar.model).shape == (4,)
