"""Every loss has its yaml, every yaml its loss, with the same fields and the same defaults."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from align import registry
from align.config import Problems, section

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("loss", "reward_loss", "unpaired_loss")
COMPONENTS = [(group, name) for group in GROUPS for name in registry.known(group)]


@pytest.mark.parametrize("group", GROUPS)
def test_files_and_yamls_pair_up(group: str) -> None:
    yamls = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}
    assert yamls == set(registry.known(group))


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_a_yaml_holds_every_field_with_its_default(group: str, name: str) -> None:
    text = (ROOT / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert values.pop("name") == name
    cls = registry.component(group, name)
    assert list(values) == [field.name for field in dataclasses.fields(cls)]
    problems = Problems()
    built = section(cls, values, group, problems)
    assert problems.lines == []
    assert built == cls()


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_every_setting_is_explained(group: str, name: str) -> None:
    lines = (ROOT / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    settings = [line for line in lines[2:] if not line.startswith((" ", "-"))]
    assert [line for line in settings if "  # " not in line] == []


def test_building_every_loss_loads_no_torch() -> None:
    code = (
        "import sys\nfrom align import registry\n"
        f"for group, name in {COMPONENTS!r}: registry.component(group, name)()\n"
        "print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
