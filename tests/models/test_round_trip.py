"""What a tokenizer loses of a text is found, named by its kind, and told once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_architectures import texts, tiny
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.decoders import WordPiece
from transformers import PreTrainedTokenizerFast

from align.models.chat import ChatFormat
from align.models.policy import load_policy
from align.models.round_trip import RoundTrip, lost
from align.models.settings import AdapterSettings

WORDS = ["hello", "how", "are", "you", "polish", ",", "?", "User", "Assistant", ":"]


def small_format(*, lower: bool = True) -> ChatFormat:
    """A word-level tokenizer of ten words, uncased if asked for."""
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[SEP]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = WordPiece()
    if lower:
        backend.normalizer = normalizers.Lowercase()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", sep_token="[SEP]"
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.content }}{% if m.role == 'assistant' %}[SEP]{% endif %}{% endfor %}"
    )
    return ChatFormat(tokenizer)


@pytest.mark.parametrize(
    ("text", "back", "kind"),
    [
        ("hello", "hello", None),
        (" hello\n", "hello", None),
        ("Hello you", "hello you", "letter case"),
        ("hello, you", "hello , you", "spacing"),
        ("Hello, you", "hello , you", "letter case"),
        ("naïve", "naive", "characters"),
        ("hello 数", "hello [UNK]", "unknown tokens"),
        ("he said [UNK]", "he said [UNK]", None),
    ],
)
def test_kinds_of_loss(text: str, back: str, kind: str | None):
    assert lost(text, back, "[UNK]") == kind


def test_it_is_said_once_how_many_and_with_an_example():
    said: list[str] = []
    look = RoundTrip(small_format(), "the reward model rm", said.append).look
    look(["hello you", "how are you", "hello you"])
    assert said == []
    look(["hello you", "Hello", "Polish", "how are 数?", "you"])
    assert said == [
        "note: the reward model rm does not see all of the text: of 5 texts its tokenizer loses "
        "unknown tokens of 1, letter case of 2; it reads 'how are 数?' as 'how are [UNK]?' (unknown tokens)"
    ]
    look(["数"])
    assert len(said) == 1


def test_a_long_text_is_shown_where_it_changes():
    said: list[str] = []
    RoundTrip(small_format(), "it", said.append).look(["hello " * 50 + "Polish " + "you " * 50])
    assert "it reads 'o hello Polish you you you you y' as 'o hello polish" in said[0]
    assert len(said[0]) < 250


@given(st.text())
def test_bytes_lose_nothing(text: str):
    """Byte-level BPE, also where the text spells a special token; surrogates are no text."""
    look = RoundTrip(BYTES, "it", refuse)
    look.look([text, f"{text}<|eos|>{text}<|pad|>"])


def refuse(said: str) -> None:
    raise AssertionError(said)


BYTES = load_policy(tiny(), AdapterSettings(), texts=texts, seed=0).chat
