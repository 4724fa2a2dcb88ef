"""The page says what the code does, and every setting that an alarm tells to try can be typed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from align import registry
from align.alarms.page import PAGE, explained, options, written
from align.alarms.rules import RULES
from align.alarms.settings import AlarmSettings
from align.compose import run_from
from align.config import field_types
from align.errors import ConfigError
from align.overrides import choices, conf_folder, groups

ROOT = Path(__file__).resolve().parents[2]
ROLLS = ("ppo", "rloo", "grpo")
"""Stages that learn from replies of their own, and need a reward named."""


def test_the_page_is_what_the_rules_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert explained() in page
    assert written(page) == page, "python -m align.alarms.page writes it anew"


def test_the_page_has_every_alarm_with_its_limits() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for rule in RULES:
        assert f"### {rule.name}\n" in page
        for name in rule.thresholds:
            assert f"`alarms.{name}={getattr(AlarmSettings(), name):g}`" in page


def test_the_readme_leads_to_the_page() -> None:
    assert "(align/alarms/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_limit_belongs_to_an_alarm() -> None:
    limits = {field.name for field in dataclasses.fields(AlarmSettings)}
    used = {name for rule in RULES for name in rule.thresholds}
    assert limits - used == {"action", "only_warn", "ignored", "baseline"}


def test_options_are_found_in_a_sentence() -> None:
    assert options("a larger loss.beta, sampling.top_p=1, loss=mixture; alarms.ignored=[kl_high].") == [
        "loss.beta",
        "sampling.top_p=1",
        "loss=mixture",
        "alarms.ignored=[kl_high]",
    ]


def test_what_is_to_be_tried_can_be_typed() -> None:
    known = set(stage_options())
    named = {option for rule in RULES for option in options(rule.attempt)}
    assert len(named) > 15
    for option in named:
        key, _, value = option.partition("=")
        assert value in choices(key) if key in groups() else key in known, option


def stage_options() -> Iterator[str]:
    """Every ``section.option`` of every stage that is there."""
    for stage in registry.known("stage"):
        for section, hint in field_types(registry.component("stage", stage)).items():
            if dataclasses.is_dataclass(hint):
                yield from (f"{section}.{name}" for name in field_types(hint))  # type: ignore[arg-type]
            elif section == "loss":
                yield "loss.beta"


def test_the_yaml_has_every_limit_with_its_default() -> None:
    values = yaml.safe_load((conf_folder() / "alarms" / "warn.yaml").read_text(encoding="utf-8"))
    own = {key: list(one) if isinstance(one, tuple) else one for key, one in vars(AlarmSettings()).items()}
    assert values == own
    assert list(values) == list(own)


def alarms_of(*words: str) -> Any:
    return run_from(["run.dir=unused", *words], []).stage.alarms  # type: ignore[attr-defined]


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "kto", *ROLLS])
def test_every_training_takes_them_by_one_word(stage: str) -> None:
    words = [f"stage={stage}", *(["reward=gold"] if stage in ROLLS else [])]
    assert alarms_of(*words) == AlarmSettings()
    assert alarms_of(*words, "alarms=stop", "alarms.kl_limit=20") == AlarmSettings(
        action="stop", kl_limit=20.0
    )


def test_a_pipeline_hands_them_to_the_steps_that_train() -> None:
    words = ("stage=pipeline", "run.dir=unused", "alarms=stop", "steps.dpo.alarms.only_warn=[]")
    sft, reward, dpo, *_ = run_from(words, []).steps
    assert sft.stage.alarms == reward.stage.alarms == AlarmSettings(action="stop")  # type: ignore[attr-defined]
    assert dpo.stage.alarms == AlarmSettings(action="stop", only_warn=())  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["stage=dpo", "alarms=stopp"], "no alarms named 'stopp'. Did you mean 'stop'? Known: stop, warn"),
        (["stage=dpo", "alarms.ignored=[kl_hihg]"], "alarms.ignored[0]: takes one of kl_high, kl_negative"),
        (["stage=dpo", "alarms.ignored=[kl_hihg]"], "Did you mean 'kl_high'?"),
        (["stage=dpo", "alarms.length_growth=1"], "alarms.length_growth: takes a number above 1, got 1"),
        (
            ["stage=dpo", "alarms.kl_limt=9"],
            "alarms.kl_limt: there is no such option. Did you mean 'kl_limit'?",
        ),
        (["stage=show", "alarms=stop"], "alarms: stage=show does not use"),
    ],
)
def test_mistakes_are_answered(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        run_from([*words, "run.dir=unused"], [])
    assert said in str(caught.value)
