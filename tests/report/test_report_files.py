"""Files that reports are made from: what is written comes back, and what is damaged is named."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align.errors import DataError, NonFiniteError
from align.report.files import (
    merged_samples,
    read_metrics,
    read_results,
    read_samples,
    write_results,
    write_samples,
)
from align.types import Result

RESULTS = [
    Result("reward/accuracy", 0.75, 400, 0.7, 0.8, "wilson"),
    Result("dpo/distinct_2", 0.9, 300, None, None, "exact"),
]


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.json"
    write_results(path, RESULTS)
    assert read_results(path) == RESULTS
    assert json.loads(path.read_text())[1] == {
        "metric": "dpo/distinct_2",
        "value": 0.9,
        "n": 300,
        "ci_low": None,
        "ci_high": None,
        "method": "exact",
    }


def test_a_refused_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(path, RESULTS)
    with pytest.raises(NonFiniteError, match="dpo/kl"):
        write_results(path, [Result("dpo/kl", math.inf, 3, None, None, "exact")])
    with pytest.raises(NonFiniteError, match="dpo/kl"):
        write_results(path, [Result("dpo/kl", 1.0, 3, 0.0, math.nan, "bootstrap")])
    with pytest.raises(DataError, match="more than one result is called reward/accuracy"):
        write_results(path, [RESULTS[0], RESULTS[0]])
    assert read_results(path) == RESULTS
    assert [file.name for file in tmp_path.iterdir()] == ["results.json"]


def test_a_refused_sample_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_samples(path, [{"a": 1}])
    with pytest.raises(NonFiniteError, match=r"samples\.jsonl:2"):
        write_samples(path, [{"a": 1}, {"a": math.nan}])
    assert read_samples(path) == [{"a": 1}]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text())
def test_any_reply_comes_back(tmp_path: Path, text: str) -> None:
    """Line separators of every kind, quotes, null bytes; a file read line by line keeps its rows."""
    path = tmp_path / "samples.jsonl"
    write_samples(path, [{"text": text}, {"text": "next"}])
    assert read_samples(path) == [{"text": text}, {"text": "next"}]


def test_half_a_character_is_replaced_not_fatal(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    write_samples(path, [{"text": "half \ud83d"}])
    assert read_samples(path) == [{"text": "half ?"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{]", r"results\.json:1: not JSON"),
        ("{}", "holds a list"),
        ('[{"metric": "a", "value": 1}]', "result 0 .*got metric, value"),
        ("[3]", "got int"),
        (
            '[{"metric": "a", "value": "x", "n": 1, "ci_low": null, "ci_high": null, "method": "m"}]',
            "value of 'a'",
        ),
        ('[{"metric": "a", "value": NaN, "n": 1, "ci_low": null, "ci_high": null, "method": "m"}]', "finite"),
        (
            '[{"metric": "a", "value": null, "n": 1, "ci_low": null, "ci_high": null, "method": "m"}]',
            "value and n",
        ),
    ],
)
def test_damaged_results_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_results(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_results(tmp_path / "results.json")


def test_metrics_are_merged_by_step(tmp_path: Path) -> None:
    """A resumed run repeats step 20 and writes its validation on a line of its own."""
    path = tmp_path / "metrics.jsonl"
    rows = [
        {"step": 10, "loss": 3.0},
        {"step": 20, "loss": 2.0},
        {"step": 20, "loss": 1.5},
        {"step": 20, "validation/loss": 2.5},
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert read_metrics(path) == [
        {"step": 10, "loss": 3.0},
        {"step": 20, "loss": 1.5, "validation/loss": 2.5},
    ]


def test_a_line_that_a_kill_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]


def test_a_damaged_line_before_the_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not JSON"):
        read_metrics(path)
    path.write_text('{"loss": 1}\n')
    with pytest.raises(DataError, match="called 'step', got None"):
        read_metrics(path)
    path.write_text("[1]\n")
    with pytest.raises(DataError, match="one JSON object a line, got list"):
        read_metrics(path)


def test_evaluations_of_the_same_prompts_stand_side_by_side() -> None:
    """The later one adds its policy, keeps the first word on the reference, and changes nothing else."""

    def rows(*prompts: str, **replies: tuple[int, int]) -> list[dict[str, Any]]:
        return [
            {"prompt": prompt, "replies": {name: both[place] for name, both in replies.items()}}
            for place, prompt in enumerate(prompts)
        ]

    first, second = rows("a", "b", sft=(1, 3), dpo=(2, 4)), rows("a", "b", sft=(9, 9), ppo=(5, 6))
    assert merged_samples([first, second]) == rows("a", "b", sft=(1, 3), dpo=(2, 4), ppo=(5, 6))
    assert first == rows("a", "b", sft=(1, 3), dpo=(2, 4))
    assert merged_samples([first, rows("c", "b", ppo=(5, 6))]) == first
    assert merged_samples([]) == []


def test_a_long_run_is_read_at_every_few_lines_with_its_end_and_its_events(tmp_path: Path) -> None:
    """1,001 lines at most 100: every 16th (a power of two), the last, the validated and the alarmed one."""
    events = {500: {"validation": 0.5}, 702: {"alarms/kl_high": 1.0}}
    rows = [
        {"step": step, "loss": 1.0, "alarms/raised": 0.0} | events.get(step, {}) for step in range(1, 1002)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl", most=100)]
    assert found == sorted({*range(1, 1002, 16), 1001, 500, 702})
    assert len(read_metrics(tmp_path / "metrics.jsonl", most=2000)) == 1001
