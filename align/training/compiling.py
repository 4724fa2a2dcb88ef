"""torch.compile of a model's blocks: each is compiled once, for rows of any length."""

from __future__ import annotations

import shutil

import torch
from torch.nn import Module

from align.errors import ModelError
from align.report.console import say
from align.training.freezing import blocks_of


def compile_blocks(model: Module) -> None:
    """Lets torch compile the blocks of a model, where the model stands: names and weights stay.

    Attention stays as it is, between two compiled parts of its block. Nothing is compiled yet: that happens
    in the first passes, which is said once.

    Raises:
        ModelError: no blocks are found, or there is no compiler for this device's code.
    """
    stacks = blocks_of(model)
    device = next(model.parameters()).device
    if device.type == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise ModelError("training.compile=true needs a C++ compiler for this processor (g++): install one")
    # a block differs from its like by its number: one more version each, if that were looked at
    torch._dynamo.config.allow_unspec_int_on_nn_module = True
    for stack in stacks:
        for block in stack:
            block.compile(dynamic=True)
    count = sum(map(len, stacks))
    say(
        f"note: training.compile=true: the {count} blocks are compiled in the first passes of each kind "
        f"(training, looking, sampling), a minute or more each; numbers change by rounding"
    )
