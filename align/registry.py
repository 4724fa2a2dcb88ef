"""A component by the name of its file: ``loss=ipo`` is the one class that ``align/losses/ipo.py`` offers.

Each group's package stands here once. A dotted name (``my_lab.losses.mine``) is somebody else's module,
imported as it is.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from pathlib import Path

from align.errors import ConfigError

PACKAGES = {
    "stage": "align.stages",
    "loss": "align.losses",
    "reward_loss": "align.reward_losses",
    "unpaired_loss": "align.unpaired_losses",
    "dataset": "data",
    "reward": "reward_models",
    "collect": "align.collect",
    "benchmark": "align.benchmarks",
    "tracking": "align.tracking",
    "sweep": "align.sweeps",
}
"""Config group -> the package whose files are its components."""

_ROOT = Path(__file__).resolve().parent.parent


def folder(group: str) -> Path:
    """The folder that holds a group's components, beside (or inside) this package."""
    return _ROOT.joinpath(*PACKAGES[group].split("."))


def known(group: str) -> list[str]:
    """Names of a group's components: files that declare ``__all__``, read as text, nothing imported."""
    return sorted(
        path.stem
        for path in folder(group).glob("*.py")
        if not path.stem.startswith("_") and "\n__all__ = " in path.read_text(encoding="utf-8")
    )


def near(name: str, choices: list[str]) -> str:
    """`` Did you mean 'x'?`` where a choice is close to the name, else nothing."""
    found = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""


def component(group: str, name: str) -> type:
    """The class that ``<package>/<name>.py`` (or the dotted module ``name``) offers in ``__all__``.

    Raises:
        ConfigError: no such file; a module that offers none or several classes; a package of that name
            (``data`` is a common one) that does not lie beside ``align``.
    """
    if "." not in name and name not in known(group):
        place = folder(group).relative_to(_ROOT)
        choices = known(group)
        raise ConfigError(
            f"no {group} named '{name}' in {place}/.{near(name, choices)} Known: {', '.join(choices)}"
        )
    if "." not in name:
        _refuse_a_stranger(PACKAGES[group])
    module_name = name if "." in name else f"{PACKAGES[group]}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigError(f"{group}={name}: there is no module '{error.name}' to import") from error
    offered = list(getattr(module, "__all__", []))
    found = getattr(module, offered[0], None) if len(offered) == 1 else None
    if not isinstance(found, type):
        raise ConfigError(
            f"{group}={name}: {module_name} must offer exactly one class in __all__, it offers {offered}"
        )
    return found


def _refuse_a_stranger(package: str) -> None:
    """A ``data/`` folder in the working directory must not stand in for ours."""
    top = package.split(".", maxsplit=1)[0]
    module = importlib.import_module(top)
    places = [Path(place).resolve() for place in module.__path__]
    if places != [_ROOT / top]:
        found = ", ".join(map(str, places))
        raise ConfigError(
            f"the package '{top}' that Python finds is {found}, not {_ROOT / top}: "
            f"run from another folder, or install align with `pip install -e .`"
        )
