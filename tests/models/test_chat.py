from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_architectures import texts
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl.chat_template_utils import is_chat_template_stop_token_trained
from trl.data_utils import _tokenize as trl_tokenize

from align.errors import ModelError
from align.models.chat import ChatFormat
from align.models.tokenizer import set_template, train_tokenizer
from align.types import Message

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"]


def build(template: str | None = None, extra: tuple[str, ...] = ()) -> ChatFormat:
    tokenizer = train_tokenizer(texts(), 320)
    if extra:
        tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIAL[3:], "<|system|>", *extra]})
    if template is not None:
        tokenizer.chat_template = template
    return ChatFormat(tokenizer)


CHAT = build()
IM = build(CHATML, ("<|im_start|>", "<|im_end|>"))

said = st.text(max_size=20) | st.lists(st.sampled_from([*SPECIAL, "hi", " ", "\n", ""]), max_size=4).map(
    "".join
)


def ask(*contents: str) -> tuple[Message, ...]:
    """User and assistant in turns; the user begins, and ends."""
    return tuple(Message("assistant" if i % 2 else "user", one) for i, one in enumerate(contents))


def names(chat: ChatFormat, ids) -> list[str]:
    return chat.tokenizer.convert_ids_to_tokens(ids.tolist())


def test_a_turn_begins_with_its_marker_and_a_reply_ends_with_eos():
    # <|bos|> <|user|> h i <|assistant|>, and the reply n o <|eos|>: no merges in words this rare
    assert names(CHAT, CHAT.prompt_ids(ask("qz"))) == ["<|bos|>", "<|user|>", "q", "z", "<|assistant|>"]
    assert names(CHAT, CHAT.reply_ids(ask("qz"), "zq")) == ["z", "q", "<|eos|>"]
    assert CHAT.stop_ids == (CHAT.tokenizer.eos_token_id,)


@settings(max_examples=40, deadline=None)
@given(said, said, said)
def test_prompt_and_reply_are_the_rendered_text_and_come_back(first: str, last: str, reply: str):
    prompt = ask(first, "between", last)
    prompt_ids, reply_ids = CHAT.prompt_ids(prompt), CHAT.reply_ids(prompt, reply)
    whole = [*prompt_ids.tolist(), *reply_ids.tolist()]
    assert CHAT.tokenizer.decode(whole, skip_special_tokens=False) == CHAT.render(prompt, reply)
    assert CHAT.render(prompt, reply).startswith(CHAT.render(prompt))
    assert CHAT.decode_reply(reply_ids) == reply


@settings(max_examples=40, deadline=None)
@given(said, said)
def test_what_a_user_types_never_becomes_a_special_token(content: str, reply: str):
    prompt_ids, reply_ids = CHAT.prompt_ids(ask(content)), CHAT.reply_ids(ask(content), reply)
    special = set(CHAT.tokenizer.all_special_ids)
    # bos, user, assistant are the template's own; eos ends the reply
    assert sum(token in special for token in prompt_ids.tolist()) == 3
    assert [i for i, token in enumerate(reply_ids.tolist()) if token in special] == [len(reply_ids) - 1]


def test_private_use_characters_in_the_text_are_kept():
    # the first two such characters serve as fences elsewhere; here the text holds them, and forges a fence
    text = "\ue000<|eos|>\ue001 \ue000"
    assert CHAT.decode_reply(CHAT.reply_ids(ask("<|user|>"), text)) == text
    assert CHAT.tokenizer.eos_token_id not in CHAT.prompt_ids(ask(text)).tolist()


def test_text_behind_the_end_of_a_turn_is_not_trained():
    # ChatML writes <|im_end|>\n; sampling stops at <|im_end|>, so training does too. eos would end it as well
    end = IM.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert IM.stop_ids == (end, IM.tokenizer.eos_token_id)
    assert names(IM, IM.reply_ids(ask("hi"), "qz")) == ["q", "z", "<|im_end|>"]
    assert IM.decode_reply(IM.reply_ids(ask("hi"), "  qz <|im_end|>x ")) == "qz <|im_end|>x"


def test_a_template_that_does_not_end_the_reply_gets_eos():
    chat = build(
        "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    ids = chat.reply_ids(ask("hi"), "yes")
    assert names(chat, ids)[-1] == "<|eos|>"
    # the template's " " before the reply is its own, the newline behind is the template's too
    assert chat.decode_reply(ids[:-1]) == "yes\n"


def test_raw_joins_contents_and_ends_only_the_reply():
    tokenizer = train_tokenizer(texts(), 320)
    set_template(tokenizer, "raw")
    chat = ChatFormat(tokenizer)
    prompt = ask("\n\nHuman: a", "\n\nAssistant: b", "\n\nHuman: c\n\nAssistant:")
    assert chat.render(prompt) == "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
    assert chat.decode_reply(chat.reply_ids(prompt, " d")) == " d"
    assert chat.reply_ids(prompt, " d").tolist()[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "writes the prompt diff",
        ),
        ("{{ messages[0]['content'] }}", "drops the reply"),
        ("{{ raise_exception('no such role') }}", "refuses a conversation of turns user: no such role"),
    ],
)
def test_templates_that_cannot_be_trained_with_are_refused(template: str, message: str):
    with pytest.raises(ModelError, match=message):
        build(template)


def test_a_conversation_that_the_template_refuses_is_one_error():
    chat = build(
        "{% for m in messages %}{% if m['role'] == 'system' %}"
        "{{ raise_exception('no system role') }}{% endif %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(ModelError, match=r"turns system, user: no system role.*model\.chat_template"):
        chat.prompt_ids((Message("system", "be kind"), Message("user", "hi")))


def test_the_fingerprint_follows_template_and_tokenizer_but_not_their_use():
    again = build()
    again.tokenizer(["a", "b c"], padding="max_length", truncation=True, max_length=3)
    assert again.fingerprint() == build().fingerprint() == CHAT.fingerprint()
    assert IM.fingerprint() != CHAT.fingerprint()
    assert build(CHATML).fingerprint() != CHAT.fingerprint()
    assert ChatFormat(train_tokenizer(texts(), 321)).fingerprint() != CHAT.fingerprint()


def test_what_tokens_follow_from_is_the_fingerprint_and_the_day_where_a_template_asks_for_it(monkeypatch):
    assert CHAT.content_hash() == build().content_hash() == CHAT.fingerprint()
    dated = build("{{ strftime_now('%d %b %Y') }}" + CHATML)
    hashes = []
    for today in ("2030-01-01", "2030-01-02"):
        monkeypatch.setattr("align.models.chat.time.strftime", lambda _, one=today: one)
        hashes.append(dated.content_hash())
        assert CHAT.content_hash() == CHAT.fingerprint()
    assert hashes == [f"{dated.fingerprint()}2030-01-01", f"{dated.fingerprint()}2030-01-02"]


def test_what_tokens_of_a_slow_tokenizer_follow_from_is_not_known(monkeypatch):
    chat = build()
    monkeypatch.setattr(chat, "_backend", None)
    assert chat.content_hash() is None


def test_trl_tokenises_an_ordinary_exchange_alike():
    prompt = [{"role": "user", "content": "how are you?"}]
    reply = [{"role": "assistant", "content": "the capital of France"}]
    theirs = trl_tokenize(CHAT.tokenizer, prompt, add_generation_prompt=True)["input_ids"]
    whole = trl_tokenize(CHAT.tokenizer, prompt + reply, return_assistant_tokens_mask=True)
    ours = CHAT.prompt_ids(ask("how are you?"))
    rest = CHAT.reply_ids(ask("how are you?"), "the capital of France")
    assert ours.tolist() == theirs
    assert [*ours.tolist(), *rest.tolist()] == whole["input_ids"]
    assert whole["assistant_masks"] == [0] * len(ours) + [1] * len(rest)
    assert is_chat_template_stop_token_trained(CHAT.tokenizer)


def sentencepiece_like() -> ChatFormat:
    """Llama-2's way: a space is put before whatever begins a string."""
    letters = ["<unk>", "<s>", "</s>", "▁", *"abcdefghijklmnopqrstuvwxyz:\nUAQ7[]"]
    backend = Tokenizer(
        models.BPE({letter: i for i, letter in enumerate(letters)}, [], unk_token="<unk>", fuse_unk=False)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>"
    )
    set_template(tokenizer, None)
    return ChatFormat(tokenizer)


def test_no_space_is_glued_before_a_reply(capsys):
    chat = sentencepiece_like()
    assert names(chat, chat.reply_ids(ask("hi"), "ok")) == ["o", "k", "</s>"]
    joint = chat.tokenizer(chat.render(ask("hi"), "ok"), add_special_tokens=False)["input_ids"]
    ours = [*chat.prompt_ids(ask("hi")).tolist(), *chat.reply_ids(ask("hi"), "ok").tolist()]
    assert ours == joint


def test_a_vocabulary_that_spells_special_tokens_itself_is_kept_from_it(capsys):
    words = {"[UNK]": 0, "</s>": 1, "a": 2, "[PAD]": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="[UNK]", eos_token="</s>", pad_token="[PAD]"
    )
    set_template(tokenizer, "raw")
    ids = ChatFormat(tokenizer).prompt_ids(ask("a </s> a"))
    # '</s>' letter by letter: four unknown ones
    assert ids.tolist() == [2, 0, 0, 0, 0, 2]
