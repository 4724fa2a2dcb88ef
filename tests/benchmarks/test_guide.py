"""The benchmark that the guide shows works as it stands there."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest
import yaml
from stand_ins import Made, ask, values

from align.compose import run_from

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "align" / "benchmarks" / "README.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(python|yaml)\n(.*?)```", GUIDE, flags=re.DOTALL))


def test_it_measures_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of two letters, none of three, and a reply without letters."""
    (tmp_path / "guide_lab").mkdir()
    (tmp_path / "guide_lab" / "shouting.py").write_text(BLOCKS["python"])
    monkeypatch.syspath_prepend(tmp_path)
    shouting = importlib.import_module("guide_lab.shouting").Shouting()
    made = Made(reply={"a": "NO", "b": "yes", "c": "1 2"}.__getitem__, prompts=[ask(one) for one in "abc"])
    assert values(shouting.measure("s", made).results) == pytest.approx({"s/capitals": 0.5, "s/empty": 1 / 3})
    run = run_from(["stage=evaluate", "benchmark=guide_lab.shouting", "model.path=m", "run.dir=r"], [])
    assert run.config["benchmark"] == {"shouting": {"name": "guide_lab.shouting"}}
    assert yaml.safe_load(BLOCKS["yaml"]) == {"shouting": {"name": "shouting"}}
    del sys.modules["guide_lab.shouting"]
