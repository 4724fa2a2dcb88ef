"""DeepSpeed's ZeRO: each rank holds a part of the optimiser, of the gradients, and at stage 3 of the weights.

The model, the objectives and the checkpoints know nothing of it. At stage 3 weights come and go by hooks on
the modules, in an order that must be the same on every rank; a pass therefore goes through one module at the
top (``Passes``), whose forward is whatever is to be computed.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from align.distributed.engine import Refuse
from align.distributed.world import world
from align.settings import DeepspeedSettings

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW remembers of each number, beside how many steps it took."""


class Passes(Module):
    """The model, and a forward pass that is whatever the caller computes with it."""

    def __init__(self, model: Module) -> None:
        super().__init__()
        self.model: Module | None = model

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """What ``compute`` returns."""
        return compute()


class Partitioned:
    """A model under ZeRO 1, 2 or 3."""

    def __init__(
        self,
        model: Module,
        parameters: Mapping[str, Parameter],
        optimiser: torch.optim.AdamW,
        settings: DeepspeedSettings,
        max_norm: float,
    ) -> None:
        deepspeed = _deepspeed()
        self._settings, self._parameters = settings, parameters
        self._passes = Passes(model)
        self._own_attributes = [(one, dict(vars(one))) for one in model.parameters()]
        numbers = sum(one.numel() for one in parameters.values())
        self._engine, self.optimiser, _, _ = deepspeed.initialize(
            model=self._passes, optimizer=optimiser, config=_config(settings, numbers, max_norm)
        )
        self._max_norm = max_norm
        if settings.stage == 3:
            for parameter in _read_in_parts(model):
                deepspeed.zero.register_external_parameter(self._passes, parameter)

    def begin(self) -> None:
        """See ``Engine``; a step leaves no gradient behind."""

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """See ``Engine``."""
        loss: Tensor = self._engine(compute)
        return loss

    def backward(self, loss: Tensor) -> None:
        """See ``Engine``. DeepSpeed takes the mean over the ranks, so that each gives its share so often."""
        self._engine.backward(loss * world().size)

    def step(self, max_norm: float, refuse: Refuse) -> float:
        """See ``Engine``. DeepSpeed clips, and leaves out a step whose gradient is not finite."""
        assert max_norm == self._max_norm, "DeepSpeed was told another norm to clip to"
        self._engine.step()
        if not self._engine.was_step_applied():
            refuse(float("nan"))
        return float(self._engine.get_global_grad_norm())

    @contextmanager
    def whole(self) -> Iterator[None]:
        """See ``Engine``: at stage 3 weights are gathered once, and the hooks that let go of them rest."""
        if self._settings.stage < 3:
            yield
            return
        hooks = self._engine.optimizer.parameter_offload
        with _deepspeed().zero.GatheredParameters(list(self._passes.parameters())):
            _take_off(hooks)
            try:
                yield
            finally:
                _put_on(hooks)

    def shapes(self) -> dict[str, torch.Size]:
        """See ``Engine``."""
        return {name: getattr(one, "ds_shape", one.shape) for name, one in self._parameters.items()}

    def weights(self) -> dict[str, Tensor]:
        """See ``Engine``: at stage 3 gathered one by one, and put by in the processor's memory."""
        found: dict[str, Tensor] = {}
        for name, parameter in self._parameters.items():
            with self._one_whole(parameter):
                if world().leads:
                    found[name] = parameter.detach().to("cpu", copy=self._settings.stage == 3)
        return found

    def moments(self) -> dict[str, Tensor]:
        """See ``Engine``."""
        from deepspeed.utils import safe_get_full_optimizer_state

        steps = self._steps()
        found: dict[str, Tensor] = {}
        if steps is None:
            return found
        self._link()
        for name, parameter in self._parameters.items():
            for key in MOMENTS:
                value = safe_get_full_optimizer_state(parameter, key)
                if world().leads:
                    found[f"{key}/{name}"] = value.cpu()
            if world().leads:
                found[f"step/{name}"] = steps.cpu().clone()
        return found

    def restore(self, weights: Mapping[str, Tensor], moments: Mapping[str, Tensor]) -> None:
        """See ``Engine``."""
        with torch.no_grad():
            self._restore_weights(weights)
            if moments:
                self._restore_moments(moments)

    def close(self) -> None:
        """See ``Engine``."""
        parted = self._settings.stage == 3
        whole: list[tuple[torch.device, Tensor]] = []
        for parameter, _ in self._own_attributes:
            with self._one_whole(parameter):
                # a device has no room for all of them beside what DeepSpeed still holds
                kept = parameter.detach().to("cpu", copy=True) if parted else parameter.data
                whole.append((parameter.device, kept))
        self._engine.destroy()
        for module in self._passes.modules():
            if "_original_parameters" in vars(module):
                vars(module)["_parameters"] = vars(module).pop("_original_parameters")
        for (parameter, attributes), (device, data) in zip(self._own_attributes, whole, strict=True):
            vars(parameter).clear()
            vars(parameter).update(attributes)
            parameter.data, parameter.grad = data.to(device), None
        # DeepSpeed remembers the module at the top for as long as the process lives
        self._passes.model = None

    def _one_whole(
        self, parameter: Parameter, modifier_rank: int | None = None
    ) -> AbstractContextManager[None]:
        """Inside, the parameter is whole on every rank, which no other need be; what ``modifier_rank`` makes
        of it holds on all."""
        gathered: AbstractContextManager[None] = _deepspeed().zero.GatheredParameters(
            [parameter], modifier_rank, enabled=self._settings.stage == 3
        )
        return gathered

    def _parts(self) -> list[Tensor]:
        """The flat float32 parameters that this rank's optimiser changes."""
        own = self._engine.optimizer
        name = (
            "fp32_partitioned_groups_flat" if self._settings.stage == 3 else "single_partition_of_fp32_groups"
        )
        parts: list[Tensor] = getattr(own, name)
        return parts

    def _steps(self) -> Tensor | None:
        """How many steps the optimiser took; None before the first."""
        state = self._engine.optimizer.optimizer.state
        counts = [state[part]["step"] for part in self._parts() if "step" in state.get(part, {})]
        return counts[0] if counts else None

    def _link(self) -> None:
        """Tells parameters where their moments are: DeepSpeed does so when the first of several groups of
        parameters was stepped, and the others have no moments yet."""
        if self._settings.stage < 3:
            own = self._engine.optimizer
            own._hp_optimizer_states_linked = False
            own._lazy_init_hp_params_optimizer_state()

    def _restore_weights(self, weights: Mapping[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_local_fp32_param

        if self._settings.stage < 3:
            for name, parameter in self._parameters.items():
                value = weights[name].to(parameter.device)
                parameter.data.copy_(value)
                safe_set_full_fp32_param(parameter, value)
            return
        for name, parameter in self._parameters.items():
            with self._one_whole(parameter, modifier_rank=0):
                if world().leads:
                    parameter.data.copy_(weights[name])
            safe_set_local_fp32_param(parameter, _own_part(weights[name], parameter))

    def _restore_moments(self, moments: Mapping[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state, safe_set_local_optimizer_state

        own = self._engine.optimizer
        steps = moments[f"step/{next(iter(self._parameters))}"]
        for part in self._parts():
            fresh = {key: torch.zeros_like(part) for key in MOMENTS}
            own.optimizer.state[part] = {"step": steps.clone().to(part.device), **fresh}
        self._link()
        for name, parameter in self._parameters.items():
            for key in MOMENTS:
                value = moments[f"{key}/{name}"]
                if self._settings.stage < 3:
                    safe_set_full_optimizer_state(parameter, value, key)
                else:
                    safe_set_local_optimizer_state(parameter, _own_part(value, parameter), key)


def _deepspeed() -> Any:
    """The library, silent, on this process's device and in its group of ranks."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    os.environ.setdefault("LOCAL_RANK", "0")  # it asks for it, even where there is one rank
    with _left_out("mlflow"):
        import deepspeed
    from torch import distributed

    # a sum in shared memory for inference under tensor parallelism: a first start would compile it (40 s)
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # its own calls, by names that torch has new ones for, at every step
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = distributed.HashStore()  # type: ignore[attr-defined]
        distributed.init_process_group(backend, store=store, rank=0, world_size=1)
        # as long as the process: DeepSpeed knows it from its first training to its last
        atexit.register(distributed.destroy_process_group)
    return deepspeed


@contextmanager
def _left_out(module: str) -> Iterator[None]:
    """Within, the module is not found: DeepSpeed's tuner, which nothing calls, would import mlflow (2 s)."""
    absent = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


def _config(settings: DeepspeedSettings, numbers: int, max_norm: float) -> dict[str, Any]:
    """DeepSpeed's own. Weights are float32 as in every engine; products are autocast by the forward pass."""
    bucket = min(settings.bucket_size, numbers + numbers % 2)
    zero: dict[str, Any] = {
        "stage": settings.stage,
        "reduce_bucket_size": bucket,
        "allgather_bucket_size": bucket,
        "stage3_prefetch_bucket_size": bucket,
        "stage3_param_persistence_threshold": settings.whole_below,
    }
    if settings.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if settings.stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        # whoever calls ``step`` decides where a step ends
        "managed_gradient_accumulation": False,
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": max_norm,
        "zero_optimization": zero,
        # torch's AdamW, as without DeepSpeed, also where the processor updates
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
    }


def _read_in_parts(model: Module) -> Iterable[Parameter]:
    """Weights that a pass reads as often as it has chunks of tokens, which is not as often on every rank.

    They are fetched once a pass, with the module at the top.
    """
    found: list[Parameter] = []
    for module in model.modules():
        head = getattr(module, "get_output_embeddings", lambda: None)()
        if isinstance(head, Module):
            found += [one for one in head.parameters() if all(one is not other for other in found)]
    return found


def _own_part(value: Tensor, parameter: Any) -> Tensor:
    """This rank's part of a whole tensor, with the zeros that fill up the last rank's."""
    size = parameter.ds_tensor.numel()
    flat = value.flatten()[world().rank * size : (world().rank + 1) * size]
    return torch.nn.functional.pad(flat, (0, size - flat.numel())).to(parameter.ds_tensor.device)


def _take_off(hooks: Any) -> None:
    """As trl does around generation: weights stay gathered for as long as nobody lets go of them."""
    for parameter in hooks.module.parameters():
        parameter.ds_active_sub_modules.clear()
    for hook in (*hooks.forward_hooks, *hooks.backward_hooks):
        hook.remove()
    hooks.forward_hooks, hooks.backward_hooks = [], []


def _put_on(hooks: Any) -> None:
    hooks._register_deepspeed_module(hooks.module)
