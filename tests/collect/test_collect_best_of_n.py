"""Best of n on written replies: which two make the pair, and when there is none."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from scribes import Desk, Scribe, ask, draft, given

from align.collect._bench import Abstained, Collected, Outcome, Truth
from align.collect.best_of_n import BestOfN
from align.errors import DataError
from align.types import Judge, PreferenceRecord
from data.toy import Toy
from reward_models.gold import Gold

ME = Judge("function", "lengths")


def chosen_of(scores: Sequence[float], **settings: Any) -> tuple[str, str] | str:
    """Chosen and rejected of replies r0, r1 ... with these scores, or the reason why there is no pair."""
    ranked = [(draft(f"r{place}"), score) for place, score in enumerate(scores)]
    return told(BestOfN(n=len(scores) or 2, **settings).outcome(ask("Which?"), ranked, ME, Random(0)))


def told(outcome: Outcome) -> tuple[str, str] | str:
    if isinstance(outcome, Abstained):
        return outcome.reason
    assert isinstance(outcome, PreferenceRecord)
    pair = outcome.pair()
    assert pair is not None
    return pair.chosen, pair.rejected


@pytest.mark.parametrize(
    ("scores", "settings", "expected"),
    [
        ([1.0, 4.0, 2.0, -3.0], {}, ("r1", "r3")),
        ([4.0, 4.0, -3.0, -3.0], {}, ("r0", "r2")),  # the first of equals
        ([2.0, 2.0], {}, "tie"),
        ([2.0], {}, "not_ended"),
        ([], {}, "not_ended"),
        ([0.0, 0.9, 1.5, 1.0], {"pair": "margin", "margin": 1.0}, ("r2", "r0")),
        ([1.5, 0.9, 0.5, 9.0], {"pair": "margin", "margin": 1.0}, ("r0", "r2")),
        ([0.0, 0.9, 1.5], {"pair": "margin", "margin": 2.0}, "margin_not_reached"),
    ],
)
def test_which_two(scores: list[float], settings: dict[str, Any], expected: tuple[str, str] | str) -> None:
    assert chosen_of(scores, **settings) == expected


def test_the_random_one_is_any_of_the_others() -> None:
    ranked = [(draft(f"r{place}"), score) for place, score in enumerate([1.0, 7.0, 3.0, 5.0])]
    drawn = Counter(
        told(BestOfN(pair="best_random").outcome(ask("Which?"), ranked, ME, Random(seed)))
        for seed in range(300)
    )
    assert set(drawn) == {("r1", "r0"), ("r1", "r2"), ("r1", "r3")}
    assert min(drawn.values()) > 100 - 4 * math.sqrt(300 * 2 / 9)


def test_margin_scores_and_what_ended_are_kept() -> None:
    outcome = BestOfN(n=3).outcome(ask("?"), [(draft("a"), 1.5), (draft("b"), -0.5)], ME, Random(0))
    assert isinstance(outcome, PreferenceRecord)
    assert outcome.margin == 2.0
    assert outcome.details == {"scores": {"chosen": 1.5, "rejected": -0.5}, "ended": 2}


def test_a_prompts_own_replies_are_ranked_and_cut_or_blank_ones_take_no_part() -> None:
    """Reply i of each prompt is i + 1 letters; of the second prompt the longest is cut, and one is blank."""

    def say(prompt: Any, seed: int, place: int) -> Any:
        if place == 4:
            return draft(" ")
        return draft("x" * (place % 4 + 1) + prompt[0].content, ended=place != 7)

    desk = Desk(Scribe(say))
    found = BestOfN(n=4).open(desk.bench())(given("A", "B"), seed=3)
    assert [told(one) for (one,) in found] == [("xxxxA", "xA"), ("xxxB", "xxB")]
    assert desk.writer is not None
    assert [prompt[0].content for prompt in desk.writer.asked] == ["A"] * 4 + ["B"] * 4
    assert desk.writer.seeds == [3]


def written_pools(path: Path) -> Path:
    """What stage=best_of_n leaves: n replies and one that stands apart, by gold and by a proxy."""
    rows = [
        {
            "prompt": [{"role": "user", "content": name}],
            "replies": [
                {"text": text, "token_ids": [1], "ended": ended, "scores": {"gold": -proxy, "proxy": proxy}}
                for text, proxy, ended in (
                    ("a", 1.0, True),
                    ("b", 3.0, True),
                    ("c", 4.0, False),
                    ("d", 9.0, True),
                )
            ],
        }
        for name in ("A", "B")
    ]
    (path / "pools.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pools_are_taken_as_they_are(tmp_path: Path) -> None:
    """The cut c takes no part, nor does d, the single sample; the proxy ranks, not the gold."""
    method, desk = BestOfN(pools=str(written_pools(tmp_path))), Desk()
    assert method.needs == ()
    found = method.open(desk.bench())(given("B", "Other"), seed=0)
    assert [told(one) for (one,) in found] == [("b", "a"), "not_in_pools"]
    assert desk.noted == {"pools": str(tmp_path / "pools.jsonl")}


def test_what_is_no_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file .*pools\.jsonl: give a run of stage=best_of_n"):
        BestOfN(pools=str(tmp_path)).open(Desk().bench())
    (tmp_path / "pools.jsonl").write_text('{"prompt": []}\n')
    with pytest.raises(DataError, match=r"pools\.jsonl:1: no pool of replies"):
        BestOfN(pools=str(tmp_path)).open(Desk().bench())


def test_what_scores_say_of_themselves() -> None:
    """Differences of 0 and ln 3 are right half and three quarters of the time; the truth is always right."""
    records = []
    for number, margin in enumerate((1e-9, math.log(3))):
        ranked = [(draft("a"), margin), (draft("b"), 0.0)]
        records.append(BestOfN().outcome(ask(f"{number}"), ranked, ME, Random(0)))
    kept = [one for one in records if isinstance(one, PreferenceRecord)]
    found = Collected(kept, [], Counter(), [])
    (claimed,) = BestOfN().report(found, None)
    assert claimed.metric == "labels/claimed_accuracy"
    assert claimed.value == pytest.approx((0.5 + 0.75) / 2)
    gold = BestOfN().outcome(
        ask("2"), [(draft("a"), 1.0), (draft("b"), 0.0)], Judge("function", "gold"), Random(0)
    )
    assert isinstance(gold, PreferenceRecord)
    (expected,) = BestOfN().report(Collected([gold], [], Counter(), []), Truth(Toy(), Gold()))
    assert (expected.metric, expected.value) == ("labels/expected_accuracy", 1.0)
    assert BestOfN().report(Collected([], [], Counter(), []), None) == []
