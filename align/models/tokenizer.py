"""Tokenizers: trained on the spot, or loaded and made fit for training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from align.errors import ModelError
from align.models import templates

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
TURNS = ("<|system|>", "<|user|>", "<|assistant|>")
BYTES = 256

_SPARE = re.compile(r"pad|unused|reserved|extra_id", re.IGNORECASE)
"""Names of special tokens that no text and no template needs, and that can serve as padding."""


def train_tokenizer(texts: Iterator[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on texts; the same texts give the same tokenizer.

    Every string can be encoded and decoded back unchanged. Padding, start, end and the three turn markers
    are special tokens of their own; the chat template is ``templates.SCRATCH``. Small texts yield fewer
    than ``vocab_size`` tokens.

    Raises:
        ModelError: ``vocab_size`` has no room for the 256 bytes and the special tokens.
    """
    special = [PAD, BOS, EOS, *TURNS]
    least = BYTES + len(special)
    if vocab_size < least:
        raise ModelError(
            f"vocab_size={vocab_size} is too small: "
            f"{BYTES} bytes and {len(special)} special tokens need {least}"
        )
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        additional_special_tokens=list(TURNS),
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = templates.SCRATCH
    return tokenizer


def load_tokenizer(path: str | Path, chat_template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face folder or Hub name, with a padding token and a chat template.

    Padding: the tokenizer's own token where it differs from the one that ends a text. Else a special token
    that nothing uses (named pad, unused, reserved or extra_id), else the unknown token, else a new
    ``<|pad|>``; a new one makes the vocabulary longer, and whoever loads the model resizes its embeddings.
    Nothing here reads padding off the ids (masks say it), but other people's code does.

    Template: ``chat_template`` (a jinja file, or ``raw``), else the tokenizer's own, else
    ``templates.PLAIN``, which is announced by a printed line.

    Raises:
        ModelError: no tokenizer at ``path``; the template file is missing; no token can end a text.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path))
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"no tokenizer can be loaded from {path}: {_first_line(error)}") from error
    _set_padding(tokenizer)
    set_template(tokenizer, chat_template)
    return tokenizer


def end_token(tokenizer: PreTrainedTokenizerBase) -> str:
    """The token that ends a text: eos, or sep for encoders.

    Raises:
        ModelError: there is neither.
    """
    token = tokenizer.eos_token or tokenizer.sep_token
    if token is None:
        raise ModelError(
            f"the tokenizer {tokenizer.name_or_path} has no eos_token, so no reply could end: "
            "set eos_token in its tokenizer_config.json"
        )
    return str(token)


def _set_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    ends = {tokenizer.eos_token, tokenizer.sep_token}
    if tokenizer.pad_token is not None and tokenizer.pad_token not in ends:
        return
    used = {*ends, tokenizer.bos_token, tokenizer.cls_token, tokenizer.mask_token, tokenizer.unk_token}
    special = [token.content for _, token in sorted(tokenizer.added_tokens_decoder.items()) if token.special]
    spare = [token for token in special if token not in used and _SPARE.search(token)]
    unknown = tokenizer.unk_token
    if spare:
        # a token named pad before any other
        tokenizer.pad_token = min(spare, key=lambda token: ("pad" not in token.lower(), special.index(token)))
    elif unknown is not None and unknown not in {*ends, tokenizer.bos_token}:
        tokenizer.pad_token = unknown
    else:
        tokenizer.add_special_tokens({"pad_token": PAD})


def set_template(tokenizer: Any, chat_template: str | None) -> None:
    """Writes the template that ``model.chat_template`` asks for into the tokenizer.

    Raises:
        ModelError: there is no such file, or no token can end a text.
    """
    if chat_template == "raw":
        tokenizer.chat_template = _filled(templates.RAW, tokenizer)
    elif chat_template is not None:
        file = Path(chat_template)
        if not file.is_file():
            raise ModelError(f"model.chat_template={chat_template}: no such file; give a jinja file, or raw")
        tokenizer.chat_template = file.read_text(encoding="utf-8")
    elif tokenizer.chat_template is None:
        tokenizer.chat_template = _filled(templates.PLAIN, tokenizer)
        print(
            f"{tokenizer.name_or_path} brings no chat template: turns are written as 'User:' and "
            "'Assistant:' lines (model.chat_template takes a jinja file, or raw)"
        )


def _filled(template: str, tokenizer: Any) -> str:
    """A built-in template that begins and ends a text as the tokenizer itself would."""
    first = tokenizer("")["input_ids"][:1]
    starts = {tokenizer.bos_token_id: "{{ bos_token }}", tokenizer.cls_token_id: "{{ cls_token }}"}
    start = starts.get(first[0], "") if first else ""
    end = "eos_token" if end_token(tokenizer) == tokenizer.eos_token else "sep_token"
    return template.replace("START", start).replace("END", end)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
