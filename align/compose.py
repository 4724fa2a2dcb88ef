"""What the user typed -> a typed ``Run``: Hydra composes, ``config.build`` types. The only file with hydra.

Group choices (``loss=ipo``) are Hydra's to compose; single values (``loss.beta=0.3``) are forced in and
checked by the typed settings afterwards, so that all mistakes in them are told together, with their near
matches, in this project's words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from align import registry
from align.config import Mistakes, Problems, field_types
from align.errors import ConfigError
from align.overrides import SEVERAL, Choice, choices, conf_folder, groups, parse, quoted, readable
from align.run import Run, flat
from align.spare import spare, without_spare
from align.typed import COMMON, typed_run

_PIPELINE = ("stage", "order", "steps", "of", "plan", "folds")
"""Sections that a pipeline (or a plan) reads itself; every other option is for its steps."""


def run_from(overrides: Sequence[str], command: Sequence[str]) -> Run:
    """The run that these overrides ask for, checked whole; a pipeline's steps are checked with it.

    Raises:
        ConfigError: says what is wrong, where, and what to type.
    """
    typed = _last_wins([parse(override) for override in overrides])
    _refuse_words_of_sweeps(typed)
    if not any(choice.key == "run.dir" for choice in typed):
        if any(choice.key == "resume" and choice.text == "true" for choice in typed):
            raise ConfigError("resume=true needs run.dir=DIR: the run to continue")
        last = {choice.key: choice.text for choice in typed}
        if last.get("launch.nodes", "1") != "1" and last.get("launch.submit", "null") in ("null", "none"):
            raise ConfigError("several nodes need run.dir=DIR: one folder, which all of them see")
        typed.append(Choice("run.dir", _dated_folder(typed), is_group=False))
    values = without_spare(compose(typed), {choice.key.split(".")[0] for choice in typed})
    steps: list[Run] = []
    stray = next((choice.key for choice in typed if choice.key.startswith("steps.")), None)
    if stray and "steps" not in values:
        raise ConfigError(
            f"{stray}: options under steps are for stage=pipeline; "
            f"type {stray.split('.', maxsplit=2)[-1]}=... for stage={values['stage']['name']}"
        )
    if "steps" in values:
        own = (*COMMON, *_PIPELINE)
        # what is collected decides the steps (conf/rules/wiring/), and is then an option of one of them
        values = compose([c for c in typed if c.key.split(".")[0] in own or c.key == "collect"])
        values.pop("collect", None)
        if "folds" in values:
            values |= _fold_steps(values["folds"])
        steps = _steps(values, typed, command)
        values["steps"] = {step.directory.name: dict(step.config) for step in steps}
    return typed_run(values, _yaml(values), command, steps)


def compose(typed: Sequence[Choice]) -> dict[str, Any]:
    """The composed config as plain values."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not any(choice.key == "stage" for choice in typed):
        raise ConfigError(
            "no stage given. Type: python -m align stage=NAME, with one of: " + ", ".join(choices("stage"))
        )
    overrides = []
    for choice in typed:
        if choice.key.startswith("steps."):
            continue
        if choice.is_group and choice.key in SEVERAL:
            overrides += _several(choice)
        elif choice.is_group and "." in choice.text:
            overrides += [f"~{choice.key}", f"++{choice.key}.name={choice.text}"]
        elif choice.is_group and choice.text not in choices(choice.key):
            overrides.append(f"~{choice.key}")
        else:
            overrides.append(f"{'' if choice.is_group else '++'}{choice.key}={readable(choice.text)}")
    try:
        with initialize_config_dir(config_dir=str(conf_folder()), version_base="1.3"):
            composed = hydra_compose(config_name="config", overrides=overrides)
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(reworded(error)) from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _yaml(values: Mapping[str, Any]) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def _refuse_words_of_sweeps(typed: Sequence[Choice]) -> None:
    """What only ``-m`` reads would be ignored by a single run."""
    for choice in typed:
        if choice.key.split(".")[0] == "sweep" or choice.key == "launch.parallel":
            typed_so = f"{choice.key}={choice.text}"
            raise ConfigError(f"{typed_so} is for sweeps: python -m align -m {typed_so} ...")


def _several(choice: Choice) -> list[str]:
    """A list of files; each of somebody else's modules is a section under the module's own name."""
    known = [name for name in choice.names() if name in choices(choice.key)]
    foreign = [name for name in choice.names() if "." in name]
    sections = [f"++{choice.key}.{name.split('.')[-1]}.name={name}" for name in foreign]
    return [f"{choice.key}=[{','.join(known)}]" if known else f"~{choice.key}", *sections]


def reworded(error: Exception) -> str:
    """Hydra's and OmegaConf's words without their stack of hints."""
    text = str(error).strip().splitlines()[0].rstrip(".")
    swept = re.search(r"Ambiguous value for argument '\+*([^']*)'", text)
    if swept:
        return (
            f"{swept[1]} lists several values: a sweep is started with python -m align -m ...; "
            f"one value with a comma is typed in quotes, key=\"'a,b'\""
        )
    unread = ("mismatched input", "token recognition", "no viable alternative", "LexerNoViableAlt")
    if any(words in text for words in unread):
        return f"cannot read an option: {text}. Quote values that hold spaces or signs: key='\"a value\"'"
    return f"the config cannot be composed: {text}"


def _dated_folder(typed: Sequence[Choice]) -> str:
    from align.distributed.world import joined, of_first

    stage = next((choice.text for choice in typed if choice.key == "stage"), "run")
    with joined():  # ranks that a launcher has started may read the clock at two sides of a second
        return of_first(f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{stage}")


def _fold_steps(folds: Any) -> dict[str, Any]:
    """The steps of ``stage=folds``: a reward model for each part of the prompts."""
    if not isinstance(folds, int) or folds < 2:
        raise ConfigError(f"folds takes an integer from 2 on, got {folds!r}")
    own = {
        f"fold_{fold}": {"stage": "reward", "dataset": {"folds": folds, "fold": fold}}
        for fold in range(folds)
    }
    return {"order": list(own), "steps": own}


def _steps(values: Mapping[str, Any], typed: Sequence[Choice], command: Sequence[str]) -> list[Run]:
    """A pipeline's steps: each composed from the shared options that it uses, then its own.

    Later words win: ``steps.NAME.unless_typed`` of the pipeline's yaml, shared options (but those of the
    sections in ``steps.NAME.apart``), the rest of the wiring, what was typed as ``steps.NAME.KEY=VALUE``.
    """
    problems = Problems()
    names = _order(values)
    shared = [c for c in typed if c.key.split(".")[0] not in (*_PIPELINE, "run")]
    own = _typed_for_steps(typed, names, problems)
    used: set[str] = set()
    offered: set[str] = set()
    runs = []
    for name in names:
        wired_values = dict(values["steps"].get(name) or {})
        apart = wired_values.pop("apart", [])
        unless_typed = _as_choices(wired_values.pop("unless_typed", {}))
        wiring = _as_choices(wired_values)
        stage = next((c.text for c in [*own[name], *wiring] if c.key == "stage"), name)
        fields = {*field_types(registry.component("stage", stage)), *COMMON}
        offered.update(fields)
        mine = [choice for choice in shared if choice.key.split(".")[0] in fields.difference(apart)]
        wired = {c.key: c.text for c in wiring if c.is_group}
        retyped = {c.key for c in [*mine, *own[name]] if c.is_group and c.text != wired.get(c.key, c.text)}
        wiring = [c for c in wiring if c.key.split(".")[0] not in retyped]
        start = Choice("stage", stage, is_group=True)
        if stage == "collect" or any(c.key.split(".")[0] in SEVERAL for c in [*mine, *own[name]]):
            unused = spare(compose(_last_wins([start, *unless_typed, *mine, *wiring, *own[name]])))
            wiring = [c for c in wiring if c.key.split(".")[0] not in unused]
            if stage != "collect":
                mine = [c for c in mine if c.key.split(".")[0] not in unused]
        used.update(choice.key for choice in mine)
        place = Choice("run.dir", quoted(f"{values['run']['dir']}/{name}"), is_group=False)
        kept = Choice("run.cache", quoted(values["run"]["cache"]), is_group=False)
        try:
            composed = compose(_last_wins([start, kept, *unless_typed, *mine, *wiring, *own[name], place]))
            composed = without_spare(composed, {choice.key.split(".")[0] for choice in own[name]})
            runs.append(typed_run(composed, _yaml(composed), command, is_step=True))
        except Mistakes as error:
            problems.lines += [f"steps.{name}.{line}" for line in error.lines]
        except ConfigError as error:
            problems.add(f"steps.{name}", str(error))
    for choice in shared:
        if choice.key not in used:
            near = registry.near(choice.key.split(".")[0], sorted(offered))
            problems.add(choice.key, f"no step uses this.{near} Steps: {', '.join(names)}")
    problems.raise_if_any()
    return runs


def _order(values: Mapping[str, Any]) -> list[str]:
    """The steps' names, each a stage or given one under ``steps.NAME.stage``."""
    order = values["order"]
    if not isinstance(order, list) or not order or not all(isinstance(name, str) for name in order):
        raise ConfigError(f"order takes a list of steps, for example order=[sft,reward]; got {order!r}")
    if len(set(order)) < len(order):
        raise ConfigError(f"order={order} names a step twice, and each has a folder of its own")
    if values["stage"]["name"] in order:
        raise ConfigError(f"order={order}: a pipeline cannot be its own step")
    return list(order)


def _typed_for_steps(
    typed: Sequence[Choice], names: Sequence[str], problems: Problems
) -> dict[str, list[Choice]]:
    """``steps.dpo.loss.beta=0.3`` -> ``loss.beta=0.3`` for the step ``dpo``."""
    own: dict[str, list[Choice]] = {name: [] for name in names}
    for choice in typed:
        if not choice.key.startswith("steps."):
            continue
        _, name, rest = [*choice.key.split(".", maxsplit=2), ""][:3]
        if name not in own:
            problems.add(
                choice.key,
                f"no step named '{name}'.{registry.near(name, list(names))} Known: {', '.join(names)}",
            )
            continue
        if not rest:
            problems.add(choice.key, f"is typed by its parts, for example steps.{name}.seed=1")
            continue
        own[name].append(parse(f"{rest}={choice.text}"))
    return own


def _as_choices(values: Mapping[str, Any]) -> list[Choice]:
    """Nested values from yaml as overrides; a group's ``name`` (or its own word) is a choice of its file."""
    named = {f"{group}.name": group for group in groups()} | {group: group for group in groups()}
    return [
        parse(f"{named[key]}={value}" if key in named else f"{key}={quoted(value)}")
        for key, value in flat(values).items()
    ]


def _last_wins(typed: Sequence[Choice]) -> list[Choice]:
    """One choice a group: Hydra refuses two."""
    last = {choice.key: place for place, choice in enumerate(typed) if choice.is_group}
    return [c for place, c in enumerate(typed) if not c.is_group or last[c.key] == place]
