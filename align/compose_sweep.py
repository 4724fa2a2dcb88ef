"""The words behind ``python -m align -m`` -> axes and settings: Hydra's sweep words are read here.

``a,b``, ``choice(a,b)``, ``range(1,4)``, ``glob(*)`` over a group's files, and ``interval(0.1,0.9)`` with
``tag(log, ...)`` and ``int(...)``, which have no list of values and need a search that draws them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from align.compose import reworded
from align.config import build
from align.errors import ConfigError
from align.overrides import Choice, choices, conf_folder, each_readable, groups, parse, quoted, readable
from align.registry import near
from align.sweeps.axes import Axis, Span, Swept
from align.sweeps.settings import SweepSettings

OWN = ("sweep", "launch.parallel", "run.dir")
"""Options that the sweep itself reads; no job is given them as they are typed."""


def is_own(word: str) -> bool:
    """Whether a word is for the sweep and not for its jobs."""
    key = word.partition("=")[0].lstrip("+")
    return key in OWN or key.startswith("sweep.")


def swept(words: Sequence[str]) -> Swept:
    """What the jobs share and what varies.

    Raises:
        ConfigError: a word that cannot be read; a span or pattern without anything in it.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_overrides([each_readable(one) for one in words])
    except HydraException as error:
        raise ConfigError(reworded(error)) from error
    pairs = zip(parsed, words, strict=True)
    return Swept(tuple(_axis(one, typed) if one.is_sweep_override() else typed for one, typed in pairs))


def combinations(words: Sequence[str]) -> list[list[str]]:
    """Every combination of the values that are listed (``loss.beta=0.1,0.3 seed=1,2``), first key slowest.

    Raises:
        ConfigError: a word that cannot be read, or that lists no values.
    """
    found = swept(words)
    refuse_intervals(found)
    return [list(found.job(varied)) for varied in found.products()]


def refuse_intervals(found: Swept) -> None:
    """Raises ``ConfigError`` where an axis has no list of values: only a search can draw from it."""
    for axis in found.axes:
        if not axis.values:
            raise ConfigError(
                f"{axis.typed}: an interval has no list of values; sweep=optuna searches it, "
                f"and {axis.key}=A,B,C or range(FROM,TO,STEP) lists them"
            )


def sweep_settings(words: Sequence[str]) -> SweepSettings:
    """The sweep's own settings, from the words that are its own.

    Raises:
        ConfigError: lists every mistake in them.
    """
    typed = [parse(word) for word in words]
    named = [choice.text for choice in typed if choice.key == "sweep"]
    return build(SweepSettings, _composed(named[-1] if named else "grid", typed))


def _composed(name: str, typed: Sequence[Choice]) -> dict[str, Any]:
    """The sections of ``SweepSettings``, from ``conf/sweep/`` and what was typed."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    overrides = [f"++{choice.key}={readable(choice.text)}" for choice in typed if not choice.is_group]
    if not any(choice.key == "run.dir" for choice in typed):
        overrides.append(f"++run.dir=runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_sweep")
    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
            composed = compose(config_name=f"sweep/{name}", overrides=overrides)
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(reworded(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _axis(one: Any, typed: str) -> Axis:
    """One of Hydra's sweep overrides."""
    from hydra.core.override_parser.types import Glob, IntervalSweep, RangeSweep

    key, value = one.get_key_element().lstrip("+"), one.value()
    if isinstance(value, IntervalSweep):
        return Axis(key, (), _interval(value, typed), typed)
    if isinstance(value, Glob):
        if key not in groups():
            groups_known = ", ".join(groups())
            raise ConfigError(f"{typed}: glob goes over the files of a group. Groups: {groups_known}")
        found = value.filter(choices(key))
        if not found:
            close = near(value.include[0], choices(key))
            raise ConfigError(f"{typed}: no {key} matches.{close} Known: {', '.join(choices(key))}")
        return Axis(key, tuple(found), None, typed)
    if isinstance(value, RangeSweep) and not value.shuffle:
        return _range(key, value, typed)
    return Axis(key, _some(tuple(map(_typed, one.sweep_iterator())), typed), None, typed)


def _some(values: tuple[str, ...], typed: str) -> tuple[str, ...]:
    if not values:
        raise ConfigError(f"{typed}: there is no value in it")
    return values


def _typed(value: Any) -> str:
    """One value as a word may hold it: in quotes where Hydra would put escapes before its signs."""
    from hydra.core.override_parser.types import Transformer

    text = str(Transformer.str(value))
    return quoted(value) if isinstance(value, str) and text != value else text


def _interval(value: Any, typed: str) -> Span:
    log = "log" in value.tags
    if value.tags - {"log"}:
        raise ConfigError(f"{typed}: tag takes log, got {', '.join(sorted(value.tags - {'log'}))}")
    if not value.start < value.end:
        raise ConfigError(f"{typed}: an interval goes from a smaller number to a larger one")
    if log and value.start <= 0:
        raise ConfigError(f"{typed}: a logarithmic interval starts above 0")
    integer = isinstance(value.start, int) and isinstance(value.end, int)
    return Span(value.start, value.end, step=None, integer=integer, log=log)


def _range(key: str, value: Any, typed: str) -> Axis:
    """The numbers of a range as they are typed: in decimals, where floats would say 0.30000000000000004."""
    start, stop, step = (Decimal(str(part)) for part in (value.start, value.stop, value.step))
    if not step:
        raise ConfigError(f"{typed}: a range takes steps other than 0")
    numbers = [start + step * place for place in range(max(0, math.ceil((stop - start) / step)))]
    values = _some(tuple(map(str, numbers)), typed)
    integer = all(isinstance(part, int) for part in (value.start, value.stop, value.step))
    rises = len(numbers) > 1 and step > 0
    number = int if integer else float
    span = Span(number(numbers[0]), number(numbers[-1]), step=float(step), integer=integer) if rises else None
    return Axis(key, values, span, typed)
