"""One tiny run a stage, made once and only read: sft, then reward, dpo and kto from it, then evaluate."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_runs import evaluate, train


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the runs lie in."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def sft_run(runs: Path) -> Path:
    return train("sft", runs / "sft")


@pytest.fixture(scope="session")
def reward_run(runs: Path, sft_run: Path) -> Path:
    return train("reward", runs / "reward", start=sft_run)


@pytest.fixture(scope="session")
def dpo_run(runs: Path, sft_run: Path) -> Path:
    return train("dpo", runs / "dpo", start=sft_run)


@pytest.fixture(scope="session")
def kto_run(runs: Path, sft_run: Path) -> Path:
    return train("kto", runs / "kto", start=sft_run)


@pytest.fixture(scope="session")
def evaluate_run(runs: Path, dpo_run: Path, sft_run: Path, reward_run: Path) -> Path:
    reward = ("reward=bradley_terry", f"reward.path={reward_run}")
    return evaluate(runs / "evaluate", dpo_run, sft_run, *reward)
