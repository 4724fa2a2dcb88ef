"""The method that the guide of ``align/collect/`` adds works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from scribes import Desk, Scribe, draft, given

from align.collect._bench import Abstained
from align.config import build
from align.stages.collect import Collect
from align.types import PreferenceRecord

GUIDE = Path(__file__).parents[2] / "align" / "collect" / "README.md"


def test_the_guides_method_collects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of A's samples the second is longer, of B's the first; one of C's is cut. Its yaml is a dotted name."""
    found = re.search(r"```python\n# align/collect/longest.py\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert found is not None
    (tmp_path / "guided_lab").mkdir()
    (tmp_path / "guided_lab" / "longest.py").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    section = {"name": "guided_lab.longest"}
    stage = build(Collect, {"collect": section, "dataset": {"name": "toy"}, "model": {"path": "runs/sft"}})
    lengths = [1, 4, 3, 2, 5, 6]
    desk = Desk(Scribe(lambda _prompt, _seed, place: draft("x" * lengths[place], ended=place != 5)))
    outcomes = [one for (one,) in stage.collect.open(desk.bench())(given(*"ABC"), 0)]
    pairs = [one.pair() for one in outcomes if isinstance(one, PreferenceRecord)]
    assert [(len(one.chosen), len(one.rejected)) for one in pairs if one is not None] == [(4, 1), (3, 2)]
    assert outcomes[2] == Abstained("not_ended")
