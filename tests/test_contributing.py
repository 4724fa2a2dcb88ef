"""CONTRIBUTING.md's examples work as they stand there: the blocks are taken from its text and run."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import make_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from align.config import build
from align.errors import ConfigError
from align.pairs.read import examples, report_for
from align.protocols import PairLoss
from align.settings import DatasetSettings
from align.tensors import PairLogps

ROOT = Path(__file__).resolve().parent.parent
GUIDE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = {
    match["path"]: match["body"]
    for match in re.finditer(r"```\w+\n(?P<body># (?P<path>\S+)\n.*?)```", GUIDE, flags=re.DOTALL)
}
TABLE = (
    "question,answer_a,answer_b,vote\n"
    "What is the sky?,Blue.,Green.,a\n"
    "What is grass?,Blue.,Green.,b\n"
    "What is fog?,White.,Grey.,tie\n"
    "What is tar?,Black.,White.,c\n"
)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package outside the tree that holds the guide's Python files; gives its name."""
    name = f"lab_{os.getpid()}"
    for path, body in BLOCKS.items():
        if path.endswith(".py"):
            place = tmp_path / name / Path(path).name
            place.parent.mkdir(exist_ok=True)
            place.write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [one for one in sys.modules if one.split(".")[0] == name]:
        del sys.modules[module]


def test_the_guide_shows_a_loss_and_a_dataset_with_their_yaml() -> None:
    assert list(BLOCKS) == [
        "align/losses/squared_hinge.py",
        "conf/loss/squared_hinge.yaml",
        "data/votes.py",
        "conf/dataset/votes.yaml",
    ]
    assert not [path for path in BLOCKS if (ROOT / path).exists()], "an example must not be there already"


def test_the_examples_are_in_the_projects_style(tmp_path: Path) -> None:
    for path, body in BLOCKS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(body)
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml"), "."]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_loss_takes_fifteen_lines() -> None:
    """Lines of code: blank ones, comments and docstrings do not count."""
    text = BLOCKS["align/losses/squared_hinge.py"]
    tree = ast.parse(text)
    prose = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = enumerate(text.splitlines(), start=1)
    code = [
        line for number, line in lines if line.strip() and not line.startswith("#") and number not in prose
    ]
    assert len(code) <= 15, code


def test_the_loss_is_what_it_says(lab: str) -> None:
    """beta 0.5, margins of the log-ratios 1, 2, 5: (1 - 0.5)^2, 0, 0; slope -2 * 0.5 * (1 - 0.5)."""
    loss: Any = build_loss(f"{lab}.squared_hinge", beta=0.5)
    policy_chosen = torch.tensor([-3.0, -2.0, -1.0], dtype=torch.float64, requires_grad=True)
    ones = torch.ones(3, dtype=torch.float64)
    logps = PairLogps(
        policy_chosen=policy_chosen,
        policy_rejected=torch.tensor([-5.0, -5.0, -7.0], dtype=torch.float64),
        reference_chosen=-2 * ones,
        reference_rejected=-3 * ones,
        chosen_lengths=ones,
        rejected_lengths=ones,
    )
    found = loss(logps)
    assert found.losses.tolist() == [0.25, 0.0, 0.0]
    assert found.chosen_rewards.tolist() == [-0.5, 0.0, 0.5]
    assert found.rejected_rewards.tolist() == [-1.0, -1.0, -2.0]
    found.losses.sum().backward()
    assert policy_chosen.grad is not None
    assert policy_chosen.grad.tolist() == [-0.5, 0.0, 0.0]


def test_its_options_are_checked_like_any_other(lab: str) -> None:
    with pytest.raises(ConfigError, match=r"beta: takes a number above 0, got -1"):
        build_loss(f"{lab}.squared_hinge", beta=-1)
    with pytest.raises(ConfigError, match=r"betta: there is no such option\. Did you mean 'beta'"):
        build_loss(f"{lab}.squared_hinge", betta=1)


def build_loss(name: str, **values: object) -> object:
    holder = make_dataclass("Holder", [("loss", PairLoss)], frozen=True)
    return build(holder, {"loss": {"name": name, **values}}).loss  # type: ignore[attr-defined]


def test_the_dataset_is_read_split_and_reported(lab: str, tmp_path: Path) -> None:
    """Four votes: two are pairs, a tie is no pair, and 'c' is named with its line."""
    (tmp_path / "votes.csv").write_text(TABLE)
    dataset = build(DatasetSettings, {"name": f"{lab}.votes", "path": str(tmp_path / "votes.csv")})
    report = report_for(dataset)
    pairs = {}
    for split, pair, _ in examples(dataset, report, "pairs"):
        report.keep(split)
        pairs[pair.prompt[0].content] = (pair.chosen, pair.rejected)
    assert pairs == {"What is the sky?": ("Blue.", "Green."), "What is grass?": ("Green.", "Blue.")}
    report.finish()
    report.write(tmp_path / "data_report.json")
    rows = json.loads((tmp_path / "data_report.json").read_text())["rows"]
    assert [(row["line"], row["reason"]) for row in rows] == [(4, "not_decisive"), (5, "unknown_vote")]


@pytest.mark.medium
def test_four_files_are_all_that_it_takes(tmp_path: Path) -> None:
    """In a copy of the tree, with the blocks where the guide puts them, one command trains with both."""
    for part in ("align", "data", "reward_models", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path, body in BLOCKS.items():
        (tmp_path / path).write_text(body)
    rows = [f"What is {n} and {n}?,It is {2 * n}.,I do not know.,a" for n in range(60)]
    (tmp_path / "votes.csv").write_text("question,answer_a,answer_b,vote\n" + "\n".join(rows) + "\n")
    options = "stage=dpo dataset=votes dataset.path=votes.csv loss=squared_hinge loss.beta=0.2 run.dir=run"
    small = "training.max_steps=1 training.batch_size=4 model.scratch.layers=1 model.scratch.vocab_size=300"
    done = subprocess.run(
        [sys.executable, "-m", "align", *options.split(), *small.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == pytest.approx(1.0, abs=1e-6)  # no margin yet: (1 - 0)^2
