"""How a reward model scores unseen pairs: written beside its weights, read from whatever path names it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import ModelError
from align.models.unseen import UnseenScores, read_unseen, unseen_scores, write_unseen


def model_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_summary_by_hand():
    """0 ... 1000: mean 500, variance (1001^2 - 1) / 12, quantile 0.001 is 1 of them in."""
    found = unseen_scores([float(i) for i in range(1001)])
    assert found == UnseenScores(1001, 500.0, pytest.approx(((1001**2 - 1) / 12) ** 0.5), 1.0, 999.0)


def test_it_is_found_by_the_run_and_by_the_folder(tmp_path: Path):
    folder = model_folder(tmp_path / "run" / "model")
    assert read_unseen(str(folder)) is None
    write_unseen(folder, [])
    assert not (folder / "scores.json").exists()
    write_unseen(folder, [1.0, 3.0])
    assert read_unseen(str(folder)) == read_unseen(str(tmp_path / "run")) == unseen_scores([1.0, 3.0])


def test_an_adapter_and_a_hub_name_have_none(tmp_path: Path):
    base = model_folder(tmp_path / "base")
    write_unseen(base, [1.0])
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert read_unseen(str(adapter)) is None
    assert read_unseen("somebody/reward") is None


@pytest.mark.parametrize("content", ["{", "[]", '{"mean": 1}', '{"count": 1, "other": 2}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: str):
    folder = model_folder(tmp_path / "model")
    (folder / "scores.json").write_text(content)
    with pytest.raises(ModelError, match=r"scores\.json is damaged"):
        read_unseen(str(folder))
