from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_architectures import texts
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from align.errors import ModelError
from align.models import templates
from align.models.tokenizer import BYTES, load_tokenizer, train_tokenizer

TRAINED = train_tokenizer(texts(), 320)


def word_level(**special: str) -> PreTrainedTokenizerFast:
    """A foreign tokenizer of a few words, without a chat template."""
    words = ["[UNK]", "</s>", "hello", "[PAD]", "[unused0]", "<reserved_1>"]
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_special_tokens_are_distinct_and_turns_are_single_tokens():
    ids = TRAINED.convert_tokens_to_ids(
        ["<|pad|>", "<|bos|>", "<|eos|>", "<|system|>", "<|user|>", "<|assistant|>"]
    )
    assert ids == [0, 1, 2, 3, 4, 5]
    assert (TRAINED.pad_token_id, TRAINED.bos_token_id, TRAINED.eos_token_id) == (0, 1, 2)
    assert TRAINED("<|user|>")["input_ids"] == [4]


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_every_string_survives_the_round_trip(text: str):
    ids = TRAINED(text, split_special_tokens=True)["input_ids"]
    assert TRAINED.decode(ids) == text


@pytest.mark.medium
def test_the_same_texts_give_the_same_tokenizer_in_another_process():
    code = (
        "from align.models.tokenizer import train_tokenizer\n"
        "texts = ['hello there, how are you?', 'the capital of France is Paris', 'ünïcödé and 数字 12345']\n"
        "print(ascii(train_tokenizer(iter(texts * 20), 320).backend_tokenizer.to_str()))"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fresh = train_tokenizer(texts(), 320)
    assert other.stdout.strip() == ascii(fresh.backend_tokenizer.to_str())


def test_vocabulary_is_at_most_as_asked_and_small_texts_yield_less():
    assert len(TRAINED) == 320
    # one text of three letters has two merges at most: 'ab' -> 'ab', 'abc' -> 'abc'; 256 bytes, 6 special
    assert len(train_tokenizer(iter(["abc"] * 5), 10_000)) == BYTES + 6 + 2


def test_a_vocabulary_without_room_for_the_bytes_is_refused():
    with pytest.raises(ModelError, match=r"vocab_size=261 is too small.*need 262"):
        train_tokenizer(texts(), 261)


@pytest.mark.parametrize(
    ("special", "pad"),
    [
        # its own padding token stays
        ({"eos_token": "</s>", "pad_token": "[PAD]"}, "[PAD]"),
        # padding equal to the end: a special token named pad is taken
        (
            {"eos_token": "</s>", "pad_token": "</s>", "additional_special_tokens": ["[unused0]", "[PAD]"]},
            "[PAD]",
        ),
        # none named pad: one that is unused or reserved, the lowest id
        ({"eos_token": "</s>", "additional_special_tokens": ["<reserved_1>", "[unused0]"]}, "[unused0]"),
        # nothing spare: the unknown token
        ({"eos_token": "</s>", "unk_token": "[UNK]"}, "[UNK]"),
        # not even that: a new one
        ({"eos_token": "</s>"}, "<|pad|>"),
        # an unknown token that is the end of text as well (GPT-2) will not do
        ({"eos_token": "</s>", "unk_token": "</s>", "bos_token": "</s>"}, "<|pad|>"),
    ],
)
def test_padding_is_found_apart_from_the_end(tmp_path, special, pad):
    word_level(**special).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.pad_token == pad
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert len(tokenizer) == 6 + (pad == "<|pad|>")


def test_a_tokenizer_without_a_template_gets_the_plain_one_and_says_so(tmp_path, capsys):
    word_level(eos_token="</s>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert "no chat template" in capsys.readouterr().out
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "User:\nhi\n\nAssistant:\nyes</s>"


def test_its_own_template_is_kept_and_a_file_or_raw_replaces_it(tmp_path, capsys):
    TRAINED.save_pretrained(tmp_path)
    assert load_tokenizer(tmp_path).chat_template == templates.SCRATCH
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages[0]['content'] }}é", encoding="utf-8")
    assert load_tokenizer(tmp_path, str(file)).chat_template == "{{ messages[0]['content'] }}é"
    raw = load_tokenizer(tmp_path, "raw")
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert raw.apply_chat_template(turns, tokenize=False) == "ab<|eos|>"
    assert capsys.readouterr().out == ""


def test_a_missing_template_file_and_a_missing_tokenizer_are_one_line(tmp_path):
    TRAINED.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"model\.chat_template=nope\.jinja: no such file"):
        load_tokenizer(tmp_path, "nope.jinja")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match="no tokenizer can be loaded") as caught:
        load_tokenizer(empty)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_cannot_end_a_text_is_refused(tmp_path):
    word_level(pad_token="[PAD]").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no eos_token"):
        load_tokenizer(tmp_path)
