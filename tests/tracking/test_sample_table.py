"""Tables of samples stand beside those of other runs."""

from __future__ import annotations

from align.tracking.samples import sample_table


def row(question: str, label: str, text: str) -> dict[str, object]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "replies": {label: {"text": text, "tokens": 2}},
    }


def test_rows_of_two_runs_join_on_the_prompt() -> None:
    one = sample_table([row("a?", "dpo", "x"), row("b?", "dpo", "y")])
    other = sample_table([row("a?", "ppo", "z"), row("c?", "ppo", "y")])
    assert list(one[0]) == ["prompt_id", "prompt", "replies.dpo.text", "replies.dpo.tokens"]
    assert one[0]["prompt_id"] == other[0]["prompt_id"]
    assert len({one[0]["prompt_id"], one[1]["prompt_id"], other[1]["prompt_id"]}) == 3
