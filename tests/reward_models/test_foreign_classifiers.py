"""Sequence classifiers that were made elsewhere, with tokenizers, paddings and templates of their own.

What a text scores is asked of transformers directly, one unpadded row at a time: the last real token of a
decoder, an encoder's own pooling.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_architectures import ARCHITECTURES, randomised, texts
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from align.models.tokenizer import train_tokenizer
from align.types import Message
from reward_models.bradley_terry import BradleyTerry

PROMPTS = [(Message("user", text),) for text in ("hello", "how are you?", "hello there, how", "how", "hello")]
REPLIES = ["yes", "hello <|pad|>", "<|eos|>", "", "are you there, are you"]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def causal_tokenizer() -> PreTrainedTokenizerBase:
    tokenizer = train_tokenizer(texts(), 300)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def uncased_tokenizer() -> PreTrainedTokenizerFast:
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "hello",
        "there",
        "how",
        "are",
        "you",
        "yes",
        "user",
        "assistant",
    ]
    words += [",", ":", "?", "<", ">", "|", "pad", "eos"]
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def saved(folder: Path, config: Any, tokenizer: PreTrainedTokenizerBase) -> Path:
    config.num_labels = 1
    randomised(AutoModelForSequenceClassification, config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def assert_scores_are_transformers_own(folder: Path) -> None:
    theirs = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    expected = []
    chat = BradleyTerry(str(folder), device="cpu").prepare().scalar.chat
    for prompt, reply in zip(PROMPTS, REPLIES, strict=True):
        ids = [*chat.prompt_ids(prompt).tolist(), *chat.reply_ids(prompt, reply).tolist()]
        # without a padding id transformers reads a single row at its last token
        theirs.config.pad_token_id = None
        with torch.no_grad():
            expected.append(float(theirs(input_ids=torch.tensor([ids])).logits[0, 0]))
    assert torch.tensor(expected).std() > 1e-3
    for size in (1, 2, 32):
        ready = BradleyTerry(str(folder), batch_size=size, device="cpu").prepare()
        assert ready.score(PROMPTS, REPLIES) == pytest.approx(expected, abs=1e-5)
        alone = [ready.score([one], [two])[0] for one, two in zip(PROMPTS, REPLIES, strict=True)]
        assert alone == pytest.approx(expected, abs=1e-5)


@pytest.mark.medium
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pad", ["own", "eos", "none"])
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_decoder_is_read_at_its_last_real_token(tmp_path: Path, architecture: str, pad: str, side: str):
    tokenizer = causal_tokenizer()
    if pad != "own":
        tokenizer.pad_token = tokenizer.eos_token if pad == "eos" else None
    config = ARCHITECTURES[architecture](len(tokenizer))
    # as many published classifiers have it: every text then ends with the padding's id
    config.pad_token_id = tokenizer.pad_token_id
    folder = saved(tmp_path / "rm", config, tokenizer)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": side}))
    assert AutoTokenizer.from_pretrained(folder).padding_side == side
    assert_scores_are_transformers_own(folder)


@pytest.mark.medium
def test_an_encoder_pools_as_it_was_made_to_and_says_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    tokenizer = uncased_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=66, pad_token_id=0,
    )  # fmt: skip
    folder = saved(tmp_path / "bert", config, tokenizer)
    assert_scores_are_transformers_own(folder)
    capsys.readouterr()
    ready = BradleyTerry(str(folder), device="cpu").prepare()
    capsys.readouterr()
    ready.score(PROMPTS[:1], ["yes"])
    assert capsys.readouterr().out == ""
    ready.score([(Message("user", "Hello there, 数 you"),)], ["Yes"])
    assert capsys.readouterr().out == (
        f"note: the reward model {folder} does not see all of the text: of 2 texts its tokenizer loses "
        "unknown tokens of 1, letter case of 1; it reads 'Hello there, 数 you' as 'hello there , [UNK] you' "
        "(unknown tokens)\n"
    )
    ready.score([(Message("user", "Hello"),)], ["Yes"])
    assert capsys.readouterr().out == ""
