"""Who may import what: the three rings, kept by reading every file's imports (nothing is imported here).

door (composes the config) > hall (stages, training, models, data ...) > rooms (pure: numpy and torch).
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from align import registry

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("align", "data", "reward_models")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES
}

DOOR = ("align/__main__.py", "align/config.py")
"""With any file in ``align/`` itself whose name starts with ``compose``."""

HALL_TYPES = {
    f"align.{name}"
    for name in ("types", "tensors", "protocols", "errors", "config", "settings", "registry", "run")
} | {"align.collect._bench", "align.benchmarks._material", "align.benchmarks._measured"}
"""What every room may use: the nouns, the settings, the errors."""

ROOMS = ("align/types.py", "align/tensors.py", "align/protocols.py", "align/losses/", "align/reward_losses/")
ROOMS += tuple(f"align/evaluation/{name}.py" for name in ("statistics", "best_of_n", "displacement"))
ROOMS += tuple(f"align/evaluation/{name}.py" for name in ("paired", "seeds", "ranking", "length_control"))
ROOMS += tuple(
    f"align/evaluation/{name}.py" for name in ("calibration", "overoptimisation", "combined", "ratios")
)
ROOMS += ("align/evaluation/logistic.py", "align/evaluation/trust.py", "align/comparison/layers.py")
ROOMS += ("align/agreement/", "align/alarms/", "align/models/logprobs.py", "align/models/batch.py")
ROOMS += tuple(f"align/ppo/{name}.py" for name in ("shaping", "advantages", "objective"))
ROOMS += tuple(f"align/packing/{name}.py" for name in ("layout", "mask", "segments", "cuda", "head", "work"))
ROOMS += tuple(f"align/collect/_{name}.py" for name in ("lengths", "probe", "damage", "selection"))
ROOMS += ("align/generation/cache.py", "align/generation/choose.py")
ROOMS += ("align/sweeps/axes.py", "align/sweeps/jobs.py")

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "accelerate", "deepspeed", "wandb", "tokenizers"}
HEAVY |= {"safetensors", "matplotlib", "pandas", "pyarrow", "scipy", "sklearn", "hydra", "omegaconf"}
WEB = {"fastapi", "starlette", "uvicorn", "sqlalchemy", "psycopg"}
TRACKERS = {"wandb", "mlflow", "tensorboard"}
HEAVY |= WEB | TRACKERS | {"optuna"}
"""What takes long to import: 1.3 s for torch alone."""

LIGHT = tuple(
    f"align/{name}.py" for name in ("config", "settings", "registry", "errors", "types", "protocols")
)


@functools.cache
def _parsed(path: Path) -> tuple[ast.Module, str]:
    """A file's tree, and the package that its relative imports start from."""
    return ast.parse(path.read_text(encoding="utf-8")), ".".join(path.relative_to(ROOT).parent.parts)


def _named(node: ast.AST, package: str) -> list[str]:
    """Dotted names that one import statement takes: ``from data import toy`` is ``data`` and ``data.toy``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return []


def _imports(tree: ast.Module, package: str) -> set[str]:
    """Everything that is imported anywhere, type-checking blocks and function bodies included."""
    return {name for node in ast.walk(tree) for name in _named(node, package)}


def _imports_at_once(tree: ast.Module, package: str) -> set[str]:
    """What is imported when the file is: not inside functions, not under TYPE_CHECKING."""

    def walk(body: list[ast.stmt]) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from walk(node.orelse)
                continue
            yield from _named(node, package)
            for part in ("body", "orelse", "finalbody"):
                yield from walk(getattr(node, part, []))
            for handler in getattr(node, "handlers", []):
                yield from walk(handler.body)

    return set(walk(tree.body))


def _loaded_with(path: Path) -> dict[str, str]:
    """Every outside package that importing a file loads, and the file of ours that asks for it."""
    found: dict[str, str] = {}
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in _imports_at_once(*_parsed(file)):
            top = name.split(".")[0]
            if top not in PACKAGES:
                found.setdefault(top, _place(file))
                continue
            parts = name.split(".")
            steps = [".".join(parts[:count]) for count in range(1, len(parts) + 1)]
            waiting += [MODULES[step] for step in steps if step in MODULES]
    return found


def _place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tops(path: Path) -> set[str]:
    return {name.split(".")[0] for name in _imports(*_parsed(path))}


def _is_door(path: Path) -> bool:
    return _place(path) in DOOR or (path.parent == ROOT / "align" and path.name.startswith("compose"))


def _is_room(path: Path) -> bool:
    return _place(path).startswith(ROOMS)


COMPONENTS = [
    registry.folder(group) / f"{name}.py" for group in registry.PACKAGES for name in registry.known(group)
]


def test_the_walk_sees_what_it_should() -> None:
    """The reader itself, on a text that holds each kind of import once."""
    text = (
        "import a.b\nfrom c import d\nfrom . import e\nfrom .f import g\n"
        "if TYPE_CHECKING:\n    import h\nelse:\n    import i\n"
        "try:\n    import j\nexcept ImportError:\n    import k\n"
        "def late():\n    import l\nclass C:\n    import m\n    def late(self):\n        import n\n"
    )
    tree = ast.parse(text)
    names = _imports(tree, "align.pretended")
    assert {"a.b", "c.d", "align.pretended.e", "align.pretended.f.g", *"hijklmn"} <= names
    at_once = _imports_at_once(tree, "align.pretended")
    assert {"a.b", "c.d", "align.pretended.e", "align.pretended.f.g", *"ijkm"} <= at_once
    assert not set("hln") & at_once


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ({"hydra", "omegaconf"}, _is_door),
        (TRACKERS, lambda path: _place(path).startswith("align/tracking/")),
        ({"optuna"}, lambda path: _place(path).startswith("align/sweeps/")),
        (WEB, lambda path: _place(path).startswith("align/annotate/")),
        ({"accelerate", "deepspeed"}, lambda path: _place(path).startswith("align/distributed/")),
        ({"data", "reward_models"}, lambda path: _place(path).split("/")[0] in ("data", "reward_models")),
        ({"reward_models"}, lambda path: not _place(path).startswith("data/")),
        ({"data"}, lambda path: not _place(path).startswith("reward_models/")),
    ],
    ids=["hydra", "trackers", "optuna", "web", "distributed", "components", "data", "reward_models"],
)
def test_only_one_place_imports(names: set[str], allowed: Callable[[Path], bool]) -> None:
    strays = {_place(path): sorted(_tops(path) & names) for path in FILES if not allowed(path)}
    assert {place: found for place, found in strays.items() if found} == {}


def test_rooms_are_pure() -> None:
    """Standard library, numpy and torch; of ours, the hall's types and other rooms."""
    rooms = [path for path in FILES if _is_room(path)]
    assert len(rooms) > 5, "the rooms have moved: name them anew in ROOMS"
    room_modules = {module for module, path in MODULES.items() if _is_room(path)}
    strays: dict[str, list[str]] = {}
    for path in rooms:
        for name in _imports(*_parsed(path)):
            top = name.split(".")[0]
            if top == "align":
                module = name if name in MODULES else name.rpartition(".")[0]
                fine = module in HALL_TYPES | room_modules | {"align"}
            else:
                fine = top in sys.stdlib_module_names | {"numpy", "torch"}
            if not fine:
                strays.setdefault(_place(path), []).append(name)
    assert strays == {}


@pytest.mark.parametrize("path", [*COMPONENTS, *(ROOT / place for place in LIGHT)], ids=_place)
def test_checking_a_config_loads_nothing_heavy(path: Path) -> None:
    """Every component is imported to check a config: no torch, even through another file."""
    heavy = {name: place for name, place in _loaded_with(path).items() if name in HEAVY}
    assert heavy == {}, f"import it inside the method that needs it (package -> file): {heavy}"


def test_no_file_is_too_long() -> None:
    """A reader can hold a file in the head."""
    lengths = {_place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {place: length for place, length in lengths.items() if length > 400} == {}


def test_importing_align_takes_no_time() -> None:
    """Under 0.2 s; the fastest of three, since other programs may be running."""
    code = "import time; start = time.perf_counter(); import align; print(time.perf_counter() - start)"
    took = [
        float(subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(took) < 0.2, took
