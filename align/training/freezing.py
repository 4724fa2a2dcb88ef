"""Which layers are trained: some are frozen by name, and the others may thaw one by one, from the top."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.nn import Module, Parameter

from align.errors import ModelError
from align.registry import near
from align.report.console import say

_FIRST = re.compile(r"first_(\d+)_blocks?")


def freeze(model: Module, names: Sequence[str]) -> None:
    """Freezes what ``training.frozen`` names: ``embeddings``, ``first_6_blocks``, parameters by their names.

    ``embeddings`` are the tables (a head that shares one is frozen with it); names may hold ``*`` and ``?``.

    Raises:
        ModelError: a word that names nothing that is trained.
    """
    for word in names:
        chosen = [one for one in _named_by(model, word) if one.requires_grad]
        if not chosen:
            known = [name for name, one in model.named_parameters() if one.requires_grad]
            shown = ", ".join(known[:3])
            raise ModelError(
                f"training.frozen={word} names nothing that is trained.{near(word, known)} It takes "
                f"embeddings, first_N_blocks, and names of parameters with * for any part, as in {shown}"
            )
        for one in chosen:
            one.requires_grad_(False)


def thawing(
    parameters: Mapping[str, Parameter], model: Module, every: int | None, total: int
) -> Callable[[int], None]:
    """What is to be called before each step (1-based), so that what is to be trained in it is.

    Gradual unfreezing (Howard & Ruder 2018, section 3.3): the first ``every`` steps train the top block, with
    the norm and the head above it; every ``every`` steps the next block below joins, in the end the
    embeddings. What has yet to join has no gradient and no moments, and meets the schedule's rate of the step
    in which it joins with an AdamW whose bias corrections begin there. With ``every`` none nothing is done.

    Raises:
        ModelError: the model has no blocks to go by.
    """
    if every is None:
        return lambda step: None
    depths = _depths(model)
    joins = {one: (max(1, depths.get(one, 1)) - 1) * every + 1 for one in parameters.values()}
    last = max(joins.values())
    if last > total:
        late = sum(1 for step in joins.values() if step > total)
        say(
            f"note: training.unfreeze_every={every} lets the last layers join at step {last}, and this run "
            f"has {total}: {late} of {len(joins)} parameters are never trained"
        )

    def thaw(step: int) -> None:
        for one, joined in joins.items():
            one.requires_grad_(step >= joined)

    return thaw


def blocks_of(model: Module) -> list[nn.ModuleList]:
    """The stacks of like layers in a model, one for each transformers model in it, from the bottom up.

    Raises:
        ModelError: there is none.
    """
    configs: list[Any] = [module.config for module in model.modules() if hasattr(module, "config")]
    texts = [one.get_text_config() for one in configs if hasattr(one, "get_text_config")]
    counts = {getattr(text, "num_hidden_layers", None) for text in texts}
    found = [one for one in model.modules() if isinstance(one, nn.ModuleList) and len(one) in counts]
    if not found:
        raise ModelError(f"{type(model).__name__} does not keep its layers in a list: its blocks are unknown")
    return found


def _depths(model: Module) -> dict[Parameter, int]:
    """How far below the top a parameter lies: 1 in the top block, one more a block, most in the tables."""
    stacks = blocks_of(model)
    lowest = max(map(len, stacks)) + 1
    depths = dict.fromkeys(_tables(model), lowest)
    for stack in stacks:
        for above, block in enumerate(reversed(stack)):
            depths |= dict.fromkeys(block.parameters(), above + 1)
    return depths


def _tables(model: Module) -> list[Parameter]:
    return [
        one for module in model.modules() if isinstance(module, nn.Embedding) for one in module.parameters()
    ]


def _named_by(model: Module, word: str) -> list[Parameter]:
    if word == "embeddings":
        return _tables(model)
    first = _FIRST.fullmatch(word)
    if first is None:
        return [one for name, one in model.named_parameters() if fnmatch.fnmatchcase(name, word)]
    count, stacks = int(first[1]), blocks_of(model)
    fewest = min(map(len, stacks))
    if count > fewest:
        raise ModelError(f"training.frozen={word}: the model has {fewest} blocks")
    return [one for stack in stacks for block in stack[:count] for one in block.parameters()]
