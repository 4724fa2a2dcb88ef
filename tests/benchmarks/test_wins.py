"""Judged wins with everything that is no judgement, and win rates at equal length."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from stand_ins import ask, sampled, values

from align.benchmarks._wins import at_equal_length, judged_wins, score_outcomes
from align.collect._bench import Abstained, Candidates, Outcome, judged
from align.evaluation.compare import Answers
from align.types import Judge, PreferenceRecord

WHO = Judge("model", "m")
OURS = ("better", "worse", "alike", "torn", "mumbled", " ", "same")
THEIRS = ("w", "b", "a", "t", "m", "there", "same")


def asking(given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
    """What the first reply says of itself."""
    found: list[tuple[Outcome, ...]] = []
    for item in given:
        ours, theirs = item.replies
        if ours.text in ("better", "worse"):
            pair = (ours, theirs) if ours.text == "better" else (theirs, ours)
            found.append((judged(item.prompt, *pair, WHO, "judge"),))
        elif ours.text == "alike":
            found.append((PreferenceRecord("", item.prompt, (ours, theirs), "tie", WHO),))
        else:
            found.append((Abstained("unreadable" if ours.text == "mumbled" else "orders_disagree"),))
    return found


def test_only_judgements_are_wins_ties_and_losses() -> None:
    """Of seven prompts a win, a loss and a tie; four without a judgement, each for a reason of its own."""
    prompts = [ask(f"q{place}") for place in range(7)]
    ours, theirs = (
        Answers(label, [sampled(text) for text in texts]) for label, texts in (("dpo", OURS), ("sft", THEIRS))
    )
    found = values(judged_wins(asking, prompts, ours, theirs, 0))
    assert found["dpo/judge_win_rate"] == 0.5
    assert found["dpo/judge_ties"] == pytest.approx(1 / 3)
    for reason in ("orders_disagree", "unreadable", "empty_reply", "same_replies"):
        assert found[f"dpo/judge_{reason}"] == pytest.approx(1 / 7)
    assert found["dpo/judge_question_too_long"] == 0.0


def test_outcomes_leave_out_blank_replies() -> None:
    ours = Answers("a", [sampled(text) for text in ("x", "", "y", "z")], [1.0, 9.0, 2.0, 0.0])
    theirs = Answers("b", [sampled("w")] * 4, [0.0, 0.0, 2.0, 1.0])
    assert score_outcomes(ours, theirs) == {0: 1.0, 2: 0.5, 3: 0.0}


def test_a_fit_that_does_not_exist_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert at_equal_length("m", [1.0, 1.0], [2, 2], [1, 1], "ab") == []
    assert "note: m: " in capsys.readouterr().out
