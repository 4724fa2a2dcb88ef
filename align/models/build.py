"""What policies and scalar models share on their way into memory: shape, seed, dropout, adapter, rows."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import LlamaConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from align.errors import ModelError
from align.models.four_bits import four_bits, refuse_no_four_bits
from align.models.products import quicken
from align.models.settings import ModelSettings, ScratchSettings
from align.models.source import ModelSource, cannot_load, find_model, read_config
from align.models.tokenizer import load_tokenizer, set_template, train_tokenizer

Texts = Callable[[], Iterator[str]]


@dataclass(frozen=True)
class Origin:
    """All that a model is made from, before its weights: ``source`` is None for one built from scratch."""

    config: PreTrainedConfig
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource | None
    max_length: int
    """``model.max_length``: tokens of prompt and reply together."""


def origin(model: ModelSettings, texts: Texts | None, room: int = 0) -> Origin:
    """Config (dropout written) and tokenizer of the model that the settings ask for.

    One from scratch gets positions for ``room`` tokens more than ``model.max_length``.

    Raises:
        ModelError: nothing at ``model.path``; no text to train a tokenizer on; more tokens than the
            model has positions for; dropout asked of an architecture that has none.
    """
    if model.path is None:
        if model.scratch is None or texts is None:
            raise ModelError(
                "a model from scratch needs a dataset to train its tokenizer on: give model.path"
            )
        tokenizer = train_tokenizer(texts(), model.scratch.vocab_size)
        config, source = scratch_config(model.scratch, tokenizer, model.max_length + room), None
        set_template(tokenizer, model.chat_template)
    else:
        source = find_model(model.path)
        config = read_config(source)
        tokenizer = load_tokenizer(source.tokenizer, model.chat_template)
    positions = longest_input(config)
    if positions is not None and model.max_length > positions:
        raise ModelError(
            f"model.max_length={model.max_length}, but {model.path} was built for {positions} tokens: "
            f"give model.max_length={positions} or less"
        )
    _write_dropout(config, model.dropout)
    return Origin(config, tokenizer, source, model.max_length)


def scratch_config(
    scratch: ScratchSettings, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> PreTrainedConfig:
    """A Llama config of the given shape, with tied embeddings."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=scratch.hidden_size,
        intermediate_size=scratch.mlp_size,
        num_hidden_layers=scratch.layers,
        num_attention_heads=scratch.heads,
        num_key_value_heads=scratch.heads,
        max_position_embeddings=max_length,
        # with the usual 0.02 so small a model does not learn to copy words from the prompt
        initializer_range=scratch.hidden_size**-0.5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def longest_input(config: PreTrainedConfig) -> int | None:
    """Tokens that a model has positions for, or None where it does not say."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if positions is not None and text.model_type in ("roberta", "xlm-roberta", "camembert", "longformer"):
        return int(positions) - 2  # their positions start behind the padding index
    return positions if positions is None else int(positions)


def load_weights(
    auto: Any, origin: Origin, seed: int, kind: str = "none", **more: Any
) -> tuple[Any, set[str]]:
    """The model in float32 on the CPU, and the names of parameters that the checkpoint does not hold.

    Those are drawn from ``seed``, and the caller's random state is left as it was. Under ``adapter=qlora``,
    the ``kind``, the linear layers are read in four bits, on the CUDA device.

    Raises:
        ModelError: the checkpoint cannot be loaded, or does not fit the architecture.
    """
    if kind == "qlora":
        refuse_no_four_bits(origin.source)
    config = copy.deepcopy(origin.config)  # loading writes into it
    with seeded(seed), quiet():
        if origin.source is None:
            built = auto.from_config(config, dtype=torch.float32)
            quicken(built)
            return built, {name for name, _ in built.named_parameters()}
        if (getattr(config, "quantization_config", None) or {}).get("quant_method") == "torchao":
            raise ModelError(
                f"{origin.source.weights} holds weights in 8 bits, for use elsewhere: give the model that it "
                f"was exported from"
            )
        try:
            built, info = auto.from_pretrained(
                origin.source.weights,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                # virtual tokens may lie in the same folder; they are not transformers' to load
                adapter_kwargs={"subfolder": "none"},
                **(four_bits() if kind == "qlora" else {}),
                **more,
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise cannot_load(origin.source.weights, error) from error
    missing = set(info["missing_keys"]) | {entry[0] for entry in info["mismatched_keys"]}
    _make_room(built, len(origin.tokenizer))
    quicken(built)
    # transformers finds the last token of a text by this id, and a checkpoint of ours must score alone;
    # not before loading: the id may lie in a row that was just added
    for part in (built.config, built.config.get_text_config()):
        part.pad_token_id = origin.tokenizer.pad_token_id
    return built, missing


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries' bars and warnings off: what they say (weights are missing, say) is checked here."""
    bars, level = hf_logging.is_progress_bar_enabled(), logging.root.manager.disable
    hf_logging.disable_progress_bar()
    logging.disable(max(level, logging.WARNING))  # all loggers: saving imports DeepSpeed, which talks as well
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draws from ``seed`` inside, and leaves every generator outside as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _write_dropout(config: PreTrainedConfig, dropout: float) -> None:
    written = 0
    text = config.get_text_config()
    for part in (config,) if text is config else (config, text):
        for name, value in part.to_dict().items():
            a_rate = isinstance(value, int | float) and not isinstance(value, bool)
            if ("dropout" in name or name.endswith("pdrop")) and (a_rate or value is None):
                setattr(part, name, dropout)
                written += 1
    if dropout and not written:
        raise ModelError(f"model.dropout={dropout}: {config.model_type} has no dropout; give model.dropout=0")


def _make_room(model: Any, tokens: int) -> None:
    """Rows for tokens that the tokenizer gained: the mean of the others, so that they stay improbable.

    A row of zeros would get the logit 0, which is high in models whose logits are all negative.
    """
    embeddings = model.get_input_embeddings().weight
    known = embeddings.shape[0]
    if tokens <= known:
        return
    model.resize_token_embeddings(tokens, mean_resizing=False)
    head = model.get_output_embeddings()
    with torch.no_grad():
        for matrix in [model.get_input_embeddings().weight] + ([head.weight] if head is not None else []):
            matrix[known:] = matrix[:known].mean(0)
        if head is not None and getattr(head, "bias", None) is not None:
            head.bias[known:] = head.bias[:known].mean()
