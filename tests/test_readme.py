"""Every command that the README and the guide show is parsed out of them and composed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from align.compose import run_from
from align.compose_sweep import combinations, is_own, sweep_settings, swept
from align.overrides import in_our_words

REPO = Path(__file__).resolve().parent.parent
PAGES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "experiments").rglob("*.md"))]
PAGES += sorted((REPO / "align").rglob("*.md"))
NAME = ["-m", "align"]
"""How every launcher names the project: ``python -m align``, ``torchrun -m align``."""


def commands() -> list[list[str]]:
    """The words after ``-m align`` of each command within a bash block."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                place = next((i for i in range(len(words)) if words[i : i + 2] == NAME), None)
                if place is not None:
                    found.append(in_our_words(words[place + 2 :]))
    return found


def jobs_of(words: list[str]) -> list[list[str]]:
    """Every job of a sweep, whose own settings are typed too; of a search the one with the first values."""
    sweep_settings([word for word in words if is_own(word)])
    own = [word for word in words if not is_own(word)]
    if "sweep=optuna" not in words:
        return combinations(own)
    axes = swept(own)
    first = [axis.word(axis.values[0] if axis.span is None else str(axis.span.low)) for axis in axes.axes]
    return [list(axes.job(first))]


def test_the_readme_has_a_recipe_for_each_thing_a_newcomer_asks() -> None:
    typed = [" ".join(words) for words in commands()]
    for part in (
        "stage=pipeline",
        "dataset.path=",
        "model=hf",
        "adapter=lora",
        "-m stage=",
        "sweep=optuna",
        "launch.parallel=",
        "stage=reproduce",
        "tracking=wandb",
        "resume=true",
    ):
        assert any(part in one for one in typed), part


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_shown_command_composes(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    is_swept = "-m" in words
    overrides = [word for word in words if word != "-m"]
    jobs = jobs_of(overrides) if is_swept else [overrides]
    assert len(jobs) > 1 or not is_swept or "sweep=optuna" in words
    for job in jobs:
        run = run_from(job, [])
        assert run.stage_name == next(word.split("=")[1] for word in job if word.startswith("stage="))


def test_make_targets_that_are_shown_exist() -> None:
    makefile = (REPO / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(
            r"^make ([a-z-]+)", (REPO / page).read_text(encoding="utf-8"), flags=re.MULTILINE
        ):
            assert f"\n{target}:" in makefile, target
