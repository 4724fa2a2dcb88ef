"""Any task of lm-evaluation-harness (Gao et al.), through its own package."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from align.errors import ConfigError
from align.protocols import Part
from align.settings import NaturalInt, PositiveInt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.types import Result

__all__ = ["LmEval"]

_NO_METRICS = ("alias", "name", "sample_len", "sample_count")


@dataclass(frozen=True)
class LmEval:
    """The package loads the data, asks the policy and takes the means; its numbers are its own."""

    needs: ClassVar[tuple[Part, ...]] = ("model",)
    takes: ClassVar[tuple[Part, ...]] = ()

    tasks: tuple[str, ...]
    """Names of tasks or groups of tasks, as ``lm-eval ls tasks`` lists them, or of ``include_path``."""
    include_path: str | None = None
    """A folder with task files (yaml) of one's own; none takes the package's alone."""
    num_fewshot: NaturalInt | None = None
    """Examples before each question; none takes each task's own number."""
    limit: PositiveInt | None = None
    """First documents of each task; none takes all."""
    chat: bool = False
    """Whether questions are asked through the policy's chat template."""
    batch_size: PositiveInt = 8
    """Requests at once."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("no task: give tasks=[NAME]")

    def measure(self, label: str, given: Material) -> Measured:
        """``<label>/<task>/<metric>``; what a filter makes of the answers comes as ``<metric>/<filter>``.

        Intervals are those of the documents' values where a metric is their mean, and of the package's
        standard error elsewhere. A metric that is no finite number is said, and is no result.

        Raises:
            ConfigError: the package is not installed, or knows no such task.
            DataError: a task's data cannot be loaded.
        """
        from align.benchmarks._measured import Measured
        from align.models.policy import evaluating

        package, models, listed = _packages()
        manager = listed.TaskManager(include_path=self.include_path)
        self._refuse_unknown(manager)
        policy = given.policy
        with evaluating(policy.model):
            model = models.HFLM(
                pretrained=policy.model,
                tokenizer=policy.tokenizer,
                batch_size=self.batch_size,
                max_length=policy.max_length,
            )
            found = self._evaluated(package, model, manager)
        given.note_data(label, self.include_path, _fingerprint(found["samples"]))
        results = [
            one
            for task, values in found["results"].items()
            for one in _results(label, task, values, found["samples"].get(task, ()))
        ]
        return Measured(results, items=list(_items(found["samples"])))

    def _evaluated(self, package: Any, model: Any, manager: Any) -> Mapping[str, Any]:
        from align.errors import DataError

        try:
            found: Mapping[str, Any] = package.simple_evaluate(
                model=model,
                tasks=list(self.tasks),
                task_manager=manager,
                num_fewshot=self.num_fewshot,
                limit=self.limit,
                apply_chat_template=self.chat,
                log_samples=True,
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise DataError(f"benchmark=lm_eval: {type(error).__name__}: {error}") from error
        return found

    def _refuse_unknown(self, manager: Any) -> None:
        from align.registry import near

        for task in self.tasks:
            if task not in manager.all_tasks:
                hint = near(task, list(manager.all_tasks))
                raise ConfigError(
                    f"lm-eval knows no task '{task}'.{hint} Its tasks: lm-eval ls tasks; one's own lie in "
                    "include_path"
                )


def _packages() -> tuple[Any, Any, Any]:
    import importlib

    try:
        names = ("lm_eval", "lm_eval.models.huggingface", "lm_eval.tasks")
        package, models, listed = map(importlib.import_module, names)
    except ImportError as error:
        raise ConfigError(
            f"benchmark=lm_eval needs a package that is not here ({error}): pip install 'align[lm_eval]'"
        ) from error
    return package, models, listed


def _results(
    label: str, task: str, values: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]
) -> Iterator[Result]:
    """The package names a value ``metric,filter``, and its error ``metric_stderr,filter``."""
    from align.report.console import say

    for key, value in values.items():
        metric, _, kind = key.partition(",")
        if key in _NO_METRICS or metric.endswith("_stderr"):
            continue
        name = f"{label}/{task}/{metric}" + (f"/{kind}" if kind not in ("", "none") else "")
        if not _is_number(value):
            say(f"note: {name} is {value!r}: no result")
            continue
        own = [row.get(metric) for row in samples if row["filter"] == (kind or "none")]
        count = int(values.get("sample_len") or len(own))
        yield _with_interval(name, float(value), own, values.get(f"{metric}_stderr,{kind}"), count)


def _with_interval(name: str, value: float, each: Sequence[Any], error: Any, count: int) -> Result:
    """That of the documents' own values where the metric is their mean, or else of the package's error."""
    from align.evaluation.statistics import mean, normal, proportion
    from align.types import Result

    numbers = [float(one) for one in each if _is_number(one)]
    if len(numbers) == len(each) > 1 and math.isclose(math.fsum(numbers) / len(numbers), value, abs_tol=1e-9):
        whole = all(one in (0.0, 0.5, 1.0) for one in numbers)
        return (proportion if whole else mean)(name, numbers)
    if _is_number(error):
        bounds = normal(value, float(error))
        return Result(name, value, count, bounds.low, bounds.high, "lm-eval's standard error")
    return Result(name, value, count, None, None, "exact")


def _items(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    for task, rows in samples.items():
        for row in rows:
            kept = {name: float(row[name]) for name in row["metrics"] if _is_number(row.get(name))}
            yield {"id": f"{task} {row['doc_id']}", "filter": row["filter"], **kept}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _fingerprint(samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    import hashlib

    asked = [
        f"{task} {row['doc_hash']} {row['prompt_hash']}" for task, rows in samples.items() for row in rows
    ]
    return hashlib.sha256("\n".join(asked).encode()).hexdigest()
