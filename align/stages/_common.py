"""What the training stages do alike: open a model, prepare the data, fit, and look at unseen items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from align.alarms.watch import counted
from align.collect._bench import judge_named
from align.distributed.agree import require_same
from align.distributed.device import compute_dtype, device
from align.distributed.world import led, shared_out
from align.errors import DataError, ModelError
from align.evaluation.accuracy import accuracy
from align.files import sha256_of
from align.models.chat import ChatFormat
from align.models.one_base import prepared
from align.models.policy import Policy, evaluating, load_policy
from align.models.scalar import ScalarModel, load_scalar
from align.models.settings import AdapterSettings, ModelSettings
from align.packing.forward import Forward, Padded
from align.packing.probe import open_forward
from align.pairs.prepare import Prepared, prepare
from align.pairs.read import Wants, texts
from align.pairs.store import TokenStore
from align.protocols import PairLoss, RewardModel, Scorer
from align.report.console import say
from align.run import Run
from align.settings import DatasetSettings, TrainingSettings
from align.stages._recipe import TrainingStage
from align.tensors import TokenPair
from align.training.compiling import compile_blocks
from align.training.course import Batches
from align.training.determinism import seed_everything
from align.training.freezing import freeze
from align.training.loop import train
from align.training.memory import offloaded
from align.training.objectives import Imitation, Preference, Scoring
from align.training.unpaired import Unpaired
from align.training.update import Objective, cut
from align.types import Judge, Result

T = TypeVar("T")
ScorePairs = Callable[[list[TokenPair]], tuple[Tensor, Tensor]]
"""Pairs -> something that should be higher for the chosen reply: scores (B,), or implicit rewards (B,)."""


def open_policy(run: Run, model: ModelSettings, adapter: AdapterSettings, dataset: DatasetSettings) -> Policy:
    """The policy that a stage trains, with its origin noted in run.json."""
    seed_everything(run.seed)
    policy = load_policy(model, adapter, texts=lambda: texts(dataset), seed=run.seed, device=device())
    _refuse_all_frozen(policy.model, model, adapter)
    _note_model(run, model, policy.chat)
    return policy


def open_to_sample(run: Run, role: str, model: ModelSettings) -> Policy:
    """A finished policy, with its origin noted in run.json under ``role``."""
    policy = load_policy(model, AdapterSettings(), texts=None, seed=run.seed, device=device())
    _note_model(run, model, policy.chat, role)
    return policy


def open_scalar(
    run: Run, model: ModelSettings, adapter: AdapterSettings, dataset: DatasetSettings
) -> ScalarModel:
    """The reward model that a stage trains, with its origin noted in run.json."""
    seed_everything(run.seed)
    scalar = load_scalar(model, adapter, texts=lambda: texts(dataset), seed=run.seed, device=device())
    _refuse_all_frozen(scalar.model, model, adapter)
    _note_model(run, model, scalar.chat)
    return scalar


def _refuse_all_frozen(opened: torch.nn.Module, model: ModelSettings, adapter: AdapterSettings) -> None:
    if not any(one.requires_grad for one in opened.parameters()):
        raise ModelError(
            f"{model.path} has virtual tokens, which cannot be merged into weights, and "
            f"adapter={adapter.kind} would train on without them: go on with the adapter that made them "
            f"(adapter=prompt or prefix), or start from the model that they were trained on"
        )


def _note_model(run: Run, model: ModelSettings, chat: ChatFormat, role: str = "model") -> None:
    run.note_input(role, model.path)
    if role == "model":
        # without the path: it is the model's, and would write the model's lineage down twice
        run.note_input("tokenizer", None, chat.fingerprint())
        run.note_input("chat_template", None, chat.template_fingerprint())


def open_reward(run: Run, reward: RewardModel, policy: Policy | None = None) -> Scorer:
    """A reward ready to score, with every model and file that it is made of noted in run.json.

    It stands on the frozen weights of a ``policy`` with an adapter, where it was trained on them.
    """
    for role, path in paths_of(reward, "reward"):
        run.note_input(role, path)
    return prepared(reward, policy, run.cache)


def judge_of(run: Run, reward: RewardModel) -> Judge:
    """Who a reward is in preference records: a model where it reads one, and which (by its hash)."""
    name = type(reward).__module__.removeprefix("reward_models.")
    hashes = [run.inputs()[role].get("sha256", "") for role, _ in paths_of(reward, "reward")]
    return judge_named(name, hashes, asks=hasattr(reward, "server"))


def paths_of(component: Any, role: str) -> Iterator[tuple[str, str]]:
    """What a reward reads, by role: ``reward``, a member's ``reward.0``, a part's ``reward.helpful``."""
    for field in fields(component):
        value = getattr(component, field.name)
        if field.name in ("path", "template") and value is not None:
            yield role, str(value)
        elif field.name == "paths":
            yield from ((f"{role}.{i}", one) for i, one in enumerate(value))
        elif is_dataclass(value):
            yield from paths_of(value, role)
        elif isinstance(value, dict):
            for name, one in value.items():
                if is_dataclass(one):
                    yield from paths_of(one, f"{role}.{name}")


def prepare_data(
    run: Run,
    dataset: DatasetSettings,
    chat: ChatFormat,
    model: ModelSettings,
    wants: Wants,
) -> Prepared[Any, Any]:
    """The dataset as tokens on disk, split by prompt, with its fingerprint noted in run.json."""
    # the other ranks open the files that the first one wrote
    data = led(lambda: prepare(dataset, chat, model.max_length, run.directory, wants, cache=run.cache))
    require_same(lambda: {"data.sha256": sha256_of(run.directory / "data")})
    if not len(data.train):
        raise DataError(f"no usable row is left to train on; {run.directory}/data_report.json says why")
    run.note_input("data", getattr(dataset.source, "path", None), data.fingerprint)
    return data


def ready(
    opened: Policy | ScalarModel, training: TrainingSettings, model: torch.nn.Module | None = None
) -> Forward:
    """How a model is asked about replies in training: packed where its architecture allows it.

    Its layers are frozen and compiled as the settings say. ``model`` is another model of the same kind (the
    frozen reference), of which nothing is said.
    """
    if model is None:
        freeze(opened.model, training.frozen)
    forward = open_forward(
        model or opened.model,
        opened.pad_id,
        attention=training.attention,
        dtype=compute_dtype(training.precision, opened.device),
        say=say if model is None else lambda _line: None,
    )
    if model is not None:
        return forward
    if training.compile:
        compile_blocks(opened.model)
    return offloaded(forward, opened.device) if training.offload_activations else forward


def effective(training: TrainingSettings, forward: Forward) -> TrainingSettings:
    """The settings that count: nothing is gained by like lengths in a batch where nothing is padded."""
    return training if isinstance(forward, Padded) else replace(training, length_window=1)


def fit(
    run: Run,
    stage: TrainingStage,
    model: Any,
    objective: Imitation | Scoring | Preference | Unpaired,
    data: Prepared[Any, Any],
    validate: Callable[[], float] | None = None,
) -> list[Result]:
    """Trains the model on the training split; early stopping looks at the validation split.

    Returns ``<stage>/alarms``, for results.json.
    """
    own = effective(stage.training, objective.forward)
    summary = train(
        run=run,
        settings=own,
        model=model,
        course=Batches(objective, data.train, lambda item: str(item.id), own, run.seed),
        alarms=stage.alarms,
        validate=validate if len(data.validation) else None,
        device=device(),
        deepspeed=stage.deepspeed,
        fingerprint=input_hashes(run),
    )
    return counted(run.stage_name, summary.alarms, summary.watched)


def input_hashes(run: Run) -> dict[str, str]:
    """What must be the same for a checkpoint to fit: the hashes of what went into a run."""
    return {role: entry["sha256"] for role, entry in run.inputs().items() if "sha256" in entry}


def over_all(
    model: torch.nn.Module,
    look: Callable[[list[Any]], T],
    items: TokenStore[Any, Any],
    settings: TrainingSettings,
) -> list[T]:
    """What a look says of all items in order, as many at once as a training pass takes.

    Without gradients or dropout; the ranks share the passes, and each gets all that was said.
    """
    size = settings.micro_batch_size or settings.batch_size
    starts = range(0, len(items), size)
    with torch.no_grad(), evaluating(model):
        return shared_out(
            starts, lambda start: look([items[i] for i in range(start, min(start + size, len(items)))])
        )


def pair_accuracy(
    label: str,
    model: torch.nn.Module,
    score: ScorePairs,
    items: TokenStore[Any, Any],
    settings: TrainingSettings,
) -> list[Result]:
    """``<label>/accuracy``, ``ties`` and ``margin`` over unseen pairs, without gradients or dropout.

    Nothing where there is no unseen pair, which is said.
    """
    return accuracy_of(label, pair_scores(model, score, items, settings), items)


def accuracy_of(
    label: str, scores: tuple[list[float], list[float]], items: TokenStore[Any, Any]
) -> list[Result]:
    """The same from scores that ``pair_scores`` gave."""
    if not some_unseen(items):
        return []
    clusters = [items.text(i).prompt for i in range(len(items))]
    return accuracy(*scores, clusters, label)


def pair_scores(
    model: torch.nn.Module, score: ScorePairs, items: TokenStore[Any, Any], settings: TrainingSettings
) -> tuple[list[float], list[float]]:
    """Scores of the chosen replies and of the rejected ones, in order, without gradients or dropout."""

    def both(batch: list[Any]) -> tuple[list[float], list[float]]:
        chosen, rejected = score(batch)
        return chosen.double().tolist(), rejected.double().tolist()

    found = over_all(model, both, items, settings)
    return [one for ahead, _ in found for one in ahead], [one for _, behind in found for one in behind]


def held_out(
    model: torch.nn.Module,
    objective: Objective[Any],
    items: TokenStore[Any, Any],
    settings: TrainingSettings,
    names: Mapping[str, str],
) -> list[Result]:
    """An objective's own metrics over unseen items: ``names`` maps a metric to its name in results.json.

    Nothing where there is no unseen item, which is said.
    """
    if not some_unseen(items):
        return []

    def look(batch: list[Any]) -> dict[str, tuple[float, float]]:
        metrics = objective(batch).metrics
        return {name: (float(metrics[name][0]), float(metrics[name][1])) for name in names}

    sums = dict.fromkeys(names, 0.0)
    counts = dict.fromkeys(names, 0.0)
    for found in over_all(model, look, items, settings):
        for name, (total, count) in found.items():
            sums[name] += total
            counts[name] += count
    return [
        Result(public, sums[name] / counts[name], len(items), None, None, "exact")
        for name, public in names.items()
    ]


def some_unseen(items: TokenStore[Any, Any]) -> bool:
    """Whether anything was held out; says so where nothing was."""
    if not len(items):
        say(
            "note: the test split is empty, nothing is measured on unseen data; dataset.test_fraction sets it"
        )
    return bool(len(items))


def warn_if_coupled(loss: PairLoss, settings: TrainingSettings) -> None:
    """Losses that couple the pairs of a micro-batch depend on how a batch is cut."""
    chunks = len(cut(settings.batch_size, settings.micro_batch_size))
    if loss.couples_batch and chunks > 1:
        say(
            f"note: this loss couples the pairs of a micro-batch; {chunks} micro-batches a "
            f"step are another objective than one of {settings.batch_size}"
        )
