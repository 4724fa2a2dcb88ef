"""What stops a run on purpose: a number that is not finite, a device that is full.

With its defaults, the usual trainer logs a NaN loss as 0.0 and trains on. Here the run stops at that step,
before the number reaches a weight, a checkpoint or a metric.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import Parameter

from align.errors import AlignError, NonFiniteError, OutOfMemoryError
from align.settings import TrainingSettings

_NAMED_AT_MOST = 32


def require_finite(what: str, value: float, *, step: int, ids: Sequence[str], hint: str = "") -> None:
    """Stops where a number is NaN or infinite.

    Args:
        what: the tensor or metric, as the user knows it (``loss``, ``rewards/chosen``).
        value: the number.
        step: the optimiser step (1-based).
        ids: the items that it was computed from.
        hint: one more sentence, where the caller knows more.

    Raises:
        NonFiniteError: names step, items and tensor.
    """
    if not math.isfinite(value):
        raise NonFiniteError(_message(what, value, f"step {step}", ids, hint))


def require_finite_scores(scores: Sequence[float], ids: Sequence[str], *, what: str = "score") -> None:
    """Stops where a reward model gave a NaN or infinite score, and names the replies that got one.

    Raises:
        NonFiniteError: names the items whose score is not finite.
    """
    bad = [(score, name) for score, name in zip(scores, ids, strict=True) if not math.isfinite(score)]
    if bad:
        raise NonFiniteError(_message(what, bad[0][0], "scoring", [name for _, name in bad], ""))


def require_finite_gradients(
    parameters: Mapping[str, Parameter], norm: float, *, step: int, ids: Sequence[str]
) -> None:
    """Stops where the global gradient norm is not finite, and names the parameters at fault.

    Call it before clipping: clipping by a NaN norm turns every gradient into NaN.

    Raises:
        NonFiniteError: names step, items and parameters.
    """
    if math.isfinite(norm):
        return
    gradients = {name: one.grad for name, one in parameters.items() if one.grad is not None}
    guilty = nonfinite_names(gradients.items())
    if guilty:
        what = f"gradient of {_listed(guilty)}"
    else:  # under ZeRO they are parted, and gone by now: nobody can tell
        what = f"global norm of the {'(finite) ' if gradients else ''}gradients"
    raise NonFiniteError(_message(what, norm, f"step {step}", ids, ""))


def require_finite_state(tensors: Mapping[str, Tensor], *, step: int) -> None:
    """Stops before a checkpoint that would hold a NaN.

    Raises:
        NonFiniteError: names step and tensors.
    """
    guilty = nonfinite_names(tensors.items())
    if guilty:
        raise NonFiniteError(
            f"not finite after step {step}: {_listed(guilty)}. No checkpoint was written for this step; "
            f"the last one is whole. Lower training.learning_rate or training.max_grad_norm."
        )


def nonfinite_names(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the floating-point tensors that hold a NaN or an infinity."""
    return [
        name
        for name, tensor in tensors
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]


def blame(parameters: Iterable[tuple[str, Tensor]]) -> str:
    """A sentence that names the weights which are not finite, or nothing where all are."""
    guilty = nonfinite_names(parameters)
    return f"Already not finite in the model: {', '.join(guilty[:3])}." if guilty else ""


@contextmanager
def memory_explained(settings: TrainingSettings) -> Iterator[None]:
    """Turns running out of memory, on any device, into one message that says which settings to lower.

    Raises:
        align.errors.OutOfMemoryError: in place of what torch or Python raised.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, AlignError) or not _ran_out_of_memory(error):
            raise
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        size = settings.micro_batch_size or settings.batch_size
        checkpointing = (
            ""
            if settings.gradient_checkpointing
            else ", or set training.gradient_checkpointing=true (about a third more time)"
        )
        raise OutOfMemoryError(
            f"out of memory with training.micro_batch_size={size}: lower it (training.batch_size may stay), "
            f"lower model.max_length{checkpointing}. ({said})"
        ) from error


def _ran_out_of_memory(error: BaseException) -> bool:
    # torch raises its own class on CUDA, a bare RuntimeError on CPU and from cuBLAS' workspace.
    signs = ("not enough memory", "DefaultCPUAllocator", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(sign in str(error) for sign in signs)


def _message(what: str, value: float, where: str, ids: Sequence[str], hint: str) -> str:
    return f"{what} is {value} at {where}; batch: {_listed(ids)}.{' ' + hint if hint else ''}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_AT_MOST])
    more = len(names) - _NAMED_AT_MOST
    return f"{shown} and {more} more" if more > 0 else shown
