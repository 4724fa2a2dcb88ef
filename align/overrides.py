"""One option as typed on the command line, and the files of ``conf/`` that it may choose from."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align import registry
from align.errors import ConfigError

_BY_PARTS = {"run": "run.dir=runs/mine", "steps": "steps.dpo.loss.beta=0.3"}
"""Sections that no single value stands for, each with a part as it is typed."""

_CALL = re.compile(r"[a-z]+\(.*\)$")

SEVERAL = ("benchmark",)
"""Groups of which several may be chosen, as a list; each has a section of its own within the group's."""


_LAUNCHERS = {"submitit_slurm": "slurm", "submitit_local": "local", "basic": "null"}
"""Hydra's names of launchers, and what they are as ``launch.submit``."""


@dataclass(frozen=True)
class Choice:
    """One override as typed: its key, its value as text, and whether it chooses a file of a group."""

    key: str
    text: str
    is_group: bool

    def names(self) -> list[str]:
        """The files that a group's choice names: several where it is a list."""
        return names_in(self.text) if self.key in SEVERAL else [self.text]


def names_in(text: str) -> list[str]:
    """``[a, b]`` -> a, b; ``a`` alone is one."""
    return [one.strip() for one in text.removeprefix("[").removesuffix("]").split(",")]


def conf_folder() -> Path:
    """``conf/`` of the checkout, or ``align/conf`` of an installed wheel."""
    here = Path(__file__).resolve().parent
    beside = here.parent / "conf"
    return beside if beside.is_dir() else here / "conf"


def groups() -> list[str]:
    """Folders of ``conf/`` that a command may choose from."""
    return sorted(path.name for path in conf_folder().iterdir() if path.is_dir() and path.name != "rules")


def choices(group: str) -> list[str]:
    """Names that a group offers: its yaml files."""
    return sorted(path.stem for path in (conf_folder() / group).glob("*.yaml"))


def parse(override: str) -> Choice:
    """``key=value`` split, group choices told apart from values and checked against the files there are."""
    key, sign, text = override.partition("=")
    key = key.lstrip("+")
    if not sign or not key or override.startswith("~"):
        raise ConfigError(f"cannot read {override!r}: options are typed as key=value, for example stage=dpo")
    if key in _BY_PARTS:
        raise ConfigError(f"{override}: {key} is typed by its parts, for example {_BY_PARTS[key]}")
    is_group = key in groups() and not text.startswith("{")
    switched_off = text in ("null", "none") and key not in ("stage", "model")
    choice = Choice(key, text, is_group)
    for name in choice.names() if is_group and not switched_off else ():
        if "." not in name and name not in choices(key):
            raise ConfigError(
                f"no {key} named '{name}'.{registry.near(name, choices(key))} "
                f"Known: {', '.join(choices(key))}"
            )
    return choice


def in_our_words(words: Sequence[str]) -> list[str]:
    """What is typed for Hydra's launcher plugin, as the section ``launch`` knows it.

    ``hydra/launcher=submitit_slurm hydra.launcher.partition=gpu`` -> ``launch.submit=slurm
    launch.cluster.partition=gpu``.

    Raises:
        ConfigError: another launcher of Hydra's.
    """
    found = []
    for word in words:
        key, sign, text = word.partition("=")
        key = key.lstrip("+")
        if key == "hydra/launcher":
            if text not in _LAUNCHERS:
                raise ConfigError(
                    f"{word}: ranks and sweeps are started by align itself; jobs are handed in with "
                    f"launch.submit=slurm or launch.submit=local"
                )
            found.append(f"launch.submit={_LAUNCHERS[text]}")
        elif key.startswith("hydra.launcher."):
            name = key.removeprefix("hydra.launcher.")
            found.append(f"launch.{'' if name == 'nodes' else 'cluster.'}{name}{sign}{text}")
        else:
            found.append(word)
    return found


def readable(text: str) -> str:
    """A value as typed, in quotes where it holds ``=`` or ``#``, for which Hydra's grammar has no place.

    A sweep's folders are named ``seed=1``, and are then named as a model's or a reward's path, or as several
    in a plain list; a server's model follows its address and a ``#``.
    """
    if text.startswith("[") and text.endswith("]") and not set(text[1:-1]) & set("[]{}'\""):
        return f"[{','.join(readable(one.strip()) for one in text[1:-1].split(','))}]"
    return quoted(text) if {*"=#"} & {*text} and not text.startswith(("'", '"', "[", "{")) else text


def each_readable(override: str) -> str:
    """A sweep's word with each of its values ``readable``; Hydra's other functions stay as they are."""
    key, _, text = override.partition("=")
    if text.startswith(("'", '"', "[", "{")):
        return f"{key}={readable(text)}"
    if text.startswith("choice(") and text.endswith(")") and not set(text[7:-1]) & set("()[]{}'\""):
        return f"{key}=choice({','.join(readable(one.strip()) for one in text[7:-1].split(','))})"
    if _CALL.match(text):
        return override
    return f"{key}={','.join(map(readable, text.split(',')))}"


def quoted(value: Any) -> str:
    """A plain value in Hydra's override grammar."""
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return json.dumps(value)
