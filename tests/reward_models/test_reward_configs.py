"""Every reward has its yaml, with the same fields and the same defaults, each explained."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from align import registry
from align.config import field_types

ROOT = Path(__file__).resolve().parents[2]
NAMES = registry.known("reward")


def text_of(name: str) -> str:
    return (ROOT / "conf" / "reward" / f"{name}.yaml").read_text(encoding="utf-8")


def defaults(cls: type) -> dict[str, Any]:
    """The fields with their defaults as yaml writes them; a required section has its own fields."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        if field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        else:
            hint = field_types(cls)[field.name]
            found[field.name] = defaults(hint) if dataclasses.is_dataclass(hint) else "???"
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_yaml_holds_every_field_with_its_default(name: str):
    values = yaml.safe_load(text_of(name))
    assert values.pop("name") == name
    assert values == defaults(registry.component("reward", name))
    assert list(values) == list(defaults(registry.component("reward", name)))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name: str):
    settings = [line for line in text_of(name).splitlines() if not line.lstrip().startswith("#")]
    plain = [line for line in settings if "# " not in line and not line.endswith(":")]
    assert plain == [f"name: {name}"]


def test_importing_every_reward_loads_no_torch_and_no_client():
    code = (
        "import sys\nfrom align import registry\n"
        f"for name in {NAMES!r}: registry.component('reward', name)\n"
        "print({'torch', 'httpx', 'transformers'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
