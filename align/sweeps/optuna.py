"""A search by Optuna: jobs are drawn where earlier ones did well; hopeless ones end early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from align.errors import ConfigError
from align.settings import NaturalInt, PositiveInt
from align.sweeps.jobs import Ended, Proposal

if TYPE_CHECKING:
    from align.sweeps.axes import Axis, Swept
    from align.types import Result

__all__ = ["Optuna"]

_PRUNED = "its validation is worse than the median of earlier trials at that step"


@dataclass(frozen=True)
class Optuna:
    """``sweep=optuna``: written against Optuna 5, with its own storage in the sweep's folder."""

    learns: ClassVar[bool] = True

    metric: tuple[str, ...]
    """Of ``results.json``; two give a Pareto front."""
    direction: tuple[str, ...] = ("maximize",)
    """``maximize`` or ``minimize``, one for each metric."""
    trials: PositiveInt = 20
    """Jobs in all, over all sittings."""
    sampler: Literal["tpe", "random"] = "tpe"
    """``tpe``: a tree-structured Parzen estimator (Bergstra et al. 2011)."""
    startup: PositiveInt = 5
    """Trials drawn at random before the sampler learns, and compared before any is pruned."""
    seed: NaturalInt = 0
    """Of what is drawn; with it and the trials before, each next one is decided."""
    pruning: Literal["median", "none"] = "median"
    """``median`` stops a job whose best validation is worse than the median of others at that step."""

    def __post_init__(self) -> None:
        strange = [one for one in self.direction if one not in ("maximize", "minimize")]
        if strange:
            raise ConfigError(f"direction takes maximize or minimize, got {strange[0]!r}")
        if len(self.direction) != len(self.metric):
            raise ConfigError(
                f"direction={list(self.direction)} must have one for each metric of {list(self.metric)}"
            )

    def begin(self, swept: Swept, root: Path) -> _Trials:
        """Opens the study in ``root/optuna.db``, or makes it.

        Raises:
            ConfigError: Optuna is not installed; nothing varies; the study there is of another search.
        """
        if not swept.axes:
            raise ConfigError("sweep=optuna has nothing to search: type KEY=interval(LOW,HIGH) or KEY=A,B,C")
        from align.compose import run_from

        # a mistake in what all jobs share would cost every trial
        run_from([*swept.job([_first(axis) for axis in swept.axes]), "run.dir=unused"], ())
        return _Trials(self, swept, _opened(self, swept, root))


class _Trials:
    """A study that proposes and learns.

    The sampler is made anew for each trial, seeded by ``seed`` and the trial's number: a search that was
    killed and goes on draws what an unbroken one would have drawn.
    """

    def __init__(self, settings: Optuna, swept: Swept, study: Any) -> None:
        self.total = settings.trials
        self._settings, self._swept, self._study = settings, swept, study
        self._trials: dict[str, Any] = {}
        self._reported: dict[str, set[int]] = {}
        self._whole, self._unfinished = _earlier(study)
        self._doomed: set[str] = set()

    def next(self) -> Proposal | None:
        """What earlier sittings completed, then what they left unfinished, then new trials."""
        import optuna

        if self._whole:
            frozen = self._whole.pop(0)
            known = [axis.word(_text(axis, frozen.params[axis.key])) for axis in self._swept.axes]
            return Proposal(_name(frozen), tuple(known))
        if self._unfinished:
            frozen = self._unfinished.pop(0)
            self._study.sampler = _sampler(self._settings, frozen.number)
            trial = optuna.trial.Trial(self._study, frozen._trial_id)
        elif (number := self._begun()) < self.total:
            self._study.sampler = _sampler(self._settings, number)
            trial = self._study.ask()
            frozen = None
        else:
            return None
        varied = tuple(axis.word(_drawn(trial, axis)) for axis in self._swept.axes)
        proposal = Proposal(_name(trial), varied)
        self._trials[proposal.name] = trial
        self._reported[proposal.name] = set(frozen.intermediate_values) if frozen else set()
        if self._reported[proposal.name] and self._prunes() and trial.should_prune():
            self._doomed.add(proposal.name)  # it was stopped, and the sweep with it before it said so
        return proposal

    def seen(self, proposal: Proposal, values: Sequence[tuple[int, float]]) -> str | None:
        """Reports what is new; says why the job should stop, where it should.

        Reported in order and up to the stop, whenever they are read: what is pruned does not depend on how
        often somebody looks.
        """
        if not self._prunes() or proposal.name not in self._trials:
            return None
        trial, reported = self._trials[proposal.name], self._reported[proposal.name]
        for step, value in values:
            if proposal.name in self._doomed:
                break
            if step in reported:
                continue
            # a stage's validation is better when larger; a study that minimises compares the other way
            trial.report(value if self._settings.direction[0] == "maximize" else -value, step)
            reported.add(step)
            if trial.should_prune():
                self._doomed.add(proposal.name)
        return _PRUNED if proposal.name in self._doomed else None

    def _begun(self) -> int:
        """Trials that were asked for; what somebody put into the queue of the study waits to be."""
        from optuna.trial import TrialState

        found = self._study.get_trials(deepcopy=False)
        return sum(trial.state != TrialState.WAITING for trial in found)

    def _prunes(self) -> bool:
        return self._settings.pruning != "none" and len(self._settings.metric) == 1

    def told(self, proposal: Proposal, ended: Ended, directory: Path) -> Ended:
        """Tells the study; a job that was only stopped stays unfinished there, and goes on next time."""
        from optuna.trial import TrialState

        trial = self._trials.pop(proposal.name, None)
        if trial is None:
            return ended  # the study knows it from an earlier sitting
        if proposal.name in self._doomed:
            self._study.tell(trial, state=TrialState.PRUNED)
            return Ended("pruned", _PRUNED)
        if ended.state == "terminated":
            return ended
        found = ended if ended.state == "failed" else self._values(directory)
        if isinstance(found, Ended):
            trial.set_user_attr("reason", found.reason)
            self._study.tell(trial, state=TrialState.FAIL)
            return found
        self._study.tell(trial, found)
        return ended

    def summary(self) -> list[str]:
        """How many trials are what, and the best one, or the Pareto front, with the words to type."""
        states = [trial.state.name.lower() for trial in self._study.get_trials(deepcopy=False)]
        counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        if "complete" not in states:
            return [f"no trial is complete, so there is no best one; of {len(states)}: {counts}"]
        best = sorted(self._study.best_trials, key=lambda trial: trial.values)
        names = self._settings.metric
        head = f"best by {names[0]}" if len(names) == 1 else f"Pareto front of {' and '.join(names)}"
        lines = [
            f"trials over all sittings: {counts}",
            f"{head} ({', '.join(self._settings.direction)}):",
        ]
        for trial in best if len(names) > 1 else best[:1]:
            said = ", ".join(f"{name} {value:.4g}" for name, value in zip(names, trial.values, strict=True))
            words = " ".join(axis.word(_text(axis, trial.params[axis.key])) for axis in self._swept.axes)
            lines.append(f"  {_name(trial)}  {said}  {words}")
        return lines

    def _values(self, directory: Path) -> list[float] | Ended:
        """The job's metrics, or why they cannot be used."""
        from align.errors import AlignError
        from align.report.files import read_results

        try:
            results = read_results(directory / "results.json")
        except (AlignError, OSError) as error:
            return Ended("failed", str(error))
        return _picked(results, self._settings.metric)


def _picked(results: Sequence[Result], names: Sequence[str]) -> list[float] | Ended:
    from align.registry import near

    by_name = {result.metric: result.value for result in results}
    for name in names:
        if name not in by_name:
            known = sorted(by_name)
            return Ended(
                "failed", f"results.json has no {name}.{near(name, known)} Known: {', '.join(known)}"
            )
        if not math.isfinite(by_name[name]):
            return Ended("failed", f"{name} is {by_name[name]}")
    return [by_name[name] for name in names]


def _opened(settings: Optuna, swept: Swept, root: Path) -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError("sweep=optuna needs Optuna: pip install 'align[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=f"sqlite:///{root.resolve() / 'optuna.db'}",
        study_name="sweep",
        directions=cast(Any, list(settings.direction)),
        sampler=_sampler(settings, 0),
        pruner=_pruner(settings),
        load_if_exists=True,
    )
    asked = {
        "axes": [axis.typed for axis in swept.axes],
        "fixed": sorted(swept.fixed),
        "metric": list(settings.metric),
        "direction": list(settings.direction),
    }
    for name, value in asked.items():
        before = study.user_attrs.get(name)
        if before is not None and before != value:
            raise ConfigError(
                f"{root}/optuna.db holds a search with another {name}: {before} -> {value}; "
                f"give another run.dir, or what it had"
            )
        study.set_user_attr(name, value)
    return study


def _earlier(study: Any) -> tuple[list[Any], list[Any]]:
    """The trials that earlier sittings completed, and those that they began and nobody ended."""
    from optuna.trial import TrialState

    whole: list[Any] = study.get_trials(states=(TrialState.COMPLETE,))
    running: list[Any] = study.get_trials(states=(TrialState.RUNNING,))
    return whole, running


def _name(trial: Any) -> str:
    return f"trial-{trial.number:03d}"


def _sampler(settings: Optuna, number: int) -> Any:
    import optuna

    seed = settings.seed * 1_000_003 + number
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=settings.startup)


def _pruner(settings: Optuna) -> Any:
    import optuna

    if settings.pruning == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=settings.startup)


def _drawn(trial: Any, axis: Axis) -> str:
    """One value of an axis; a trial that has drawn it already gives the same again."""
    span = axis.span
    if span is None:
        return str(trial.suggest_categorical(axis.key, list(axis.values)))
    if span.integer:
        step = 1 if span.step is None else int(span.step)
        return str(trial.suggest_int(axis.key, int(span.low), int(span.high), step=step, log=span.log))
    return repr(trial.suggest_float(axis.key, span.low, span.high, step=span.step, log=span.log))


def _first(axis: Axis) -> str:
    """The option with the first of its values, or the lowest."""
    return axis.word(axis.values[0] if axis.span is None else _text(axis, axis.span.low))


def _text(axis: Axis, value: Any) -> str:
    """A value as it is typed."""
    return repr(value) if axis.span is not None and not axis.span.integer else str(value)
