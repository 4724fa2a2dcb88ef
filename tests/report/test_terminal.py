"""The table that a person reads: 80 columns, plain without a terminal, safe whatever a reply holds."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from rich.console import Console

from align.report.terminal import clipped, number, print_summary
from align.types import Result

RESULTS = [
    Result("reward/margin", 1.25, 400, 1.0, 1.5, "bootstrap"),
    Result("reward/accuracy", 0.8, 400, 0.757, 0.836, "wilson"),
    Result("reward/bayes_accuracy", 0.85, 400, 0.84, 0.86, "bootstrap"),
    Result("sft/gold_reward", 1.5, 200, 1.25, 1.75, "bootstrap"),
    Result("sft/length", 17.3611, 200, 16.5, 18.15, "bootstrap"),
    Result("dpo/gold_reward", 2.5, 200, 2.25, 2.75, "bootstrap"),
    Result("dpo/gold_win_rate", 0.75, 200, 0.686, 0.805, "wilson"),
    Result("dpo/length", 21.8211, 200, 20.6, 23.0, "bootstrap"),
    Result("dpo/kl", 7.0625, 200, 6.5, 7.75, "bootstrap"),
    Result("dpo/refusals", 0.125, 200, None, None, "exact"),
]
SAMPLE: dict[str, Any] = {
    "prompt": [{"role": "user", "content": "How do I wash a goat?"}],
    "replies": {
        "sft": {"text": "With water.", "tokens": 4, "ended": True, "scores": {"gold": 0.5}},
        "dpo": {
            "text": "[bold]Gladly[/bold]: \x1b[31mwith water",
            "tokens": 9,
            "ended": False,
            "scores": {"gold": 2},
        },
    },
}


def _printed(*arguments: Any, encoding: str = "utf-8", width: int = 80, **keywords: Any) -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, newline="")
    print_summary(*arguments, console=Console(file=file, width=width), **keywords)
    file.flush()
    return raw.getvalue().decode(encoding)


def _rows(text: str) -> dict[str, str]:
    """First column -> the rest of its line, blanks squeezed."""
    lines = [line for line in text.splitlines() if line.strip()]
    return {line[:32].strip(): " ".join(line[32:].split()) for line in lines}


def test_every_result_stands_in_the_table_in_words() -> None:
    text = _printed(RESULTS)
    rows = _rows(text.replace("─", ""))
    assert rows["accuracy"] == "0.800 0.757 to 0.836 400"
    assert rows["best possible (Bayes)"] == "0.850 0.840 to 0.860 400"
    assert rows["share of the best possible"] == "94.1%"  # 0.80 / 0.85
    assert rows["win rate by gold"] == "0.750 0.686 to 0.805 200"
    assert rows["drift (KL, nats a reply)"] == "7.062 6.500 to 7.750 200"
    assert rows["length (tokens)"] == "21.82 20.60 to 23.00 200"  # the later group's
    assert rows["refusals"] == "0.125 200"  # a name that has no words stands as it is
    assert {"reward model on unseen pairs", "sft", "dpo against sft"} <= set(rows)


def test_accuracy_stands_beside_its_limit_whatever_the_order_given() -> None:
    lines = [line.split("  ")[1] for line in _printed(RESULTS).splitlines() if line.startswith("  ")][1:]
    assert lines[:4] == [
        "accuracy",
        "best possible (Bayes)",
        "share of the best possible",
        "score of chosen less rejected",
    ]


def test_without_gold_or_bayes_the_rest_still_prints() -> None:
    text = _printed([Result("reward/accuracy", 0.62, 190, 0.55, 0.69, "wilson")])
    assert "0.620" in text
    assert "best possible" not in text


def test_samples_stand_side_by_side_with_scores() -> None:
    text = _printed([], [SAMPLE] * 5, shown=3)
    assert [f"Sample {n} of 5" in text for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert "How do I wash a goat?" in text
    header = next(line for line in text.splitlines() if line.startswith("sft:"))
    assert header.split("dpo:") == [
        "sft: gold 0.500, 4 tokens".ljust(header.index("dpo:")),
        " gold 2.000, 9 tokens, cut",
    ]


def test_markup_and_escape_codes_in_a_reply_are_shown_not_obeyed() -> None:
    text = _printed([], [SAMPLE])
    assert "[bold]Gladly[/bold]:" in text
    assert "\x1b" not in text
    assert r"\x1b[31m" in text


def test_a_terminal_without_unicode_gets_escapes_and_no_crash() -> None:
    replies = {"sft": {"text": "Grüße ☃", "tokens": 3, "ended": True}}
    text = _printed(RESULTS, [{"prompt": SAMPLE["prompt"], "replies": replies}], encoding="ascii")
    assert r"Gr\xfc\xdfe \u2603" in text
    assert "accuracy" in text


def test_nothing_is_wider_than_the_terminal_and_long_paths_stay_whole() -> None:
    long = Path("/runs") / ("a" * 100) / "figures" / "pipeline.png"
    text = _printed(RESULTS, [SAMPLE], {"figure": long})
    assert max(map(len, text.splitlines())) <= 80
    assert str(long) in "".join(line.removeprefix("  figure").strip() for line in text.splitlines())


def test_a_terminal_gets_colour_or_weight_and_a_pipe_does_not() -> None:
    assert "\x1b" not in _printed(RESULTS)
    raw = io.StringIO()
    print_summary(RESULTS, console=Console(file=raw, width=80, force_terminal=True, color_system="standard"))
    assert "\x1b[1m" in raw.getvalue()


def test_a_conversation_shows_its_last_turn_and_counts_the_others() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    row = SAMPLE | {"prompt": [*turns, {"role": "user", "content": "And a sheep?"}]}
    assert "(2 earlier turns) And a sheep?" in _printed([], [row])


def test_long_text_says_how_much_is_left_out() -> None:
    assert clipped("x" * 12, limit=10) == "x" * 10 + " ... (2 more characters)"
    assert clipped("x" * 10, limit=10) == "x" * 10


def test_numbers_keep_about_four_digits() -> None:
    assert [number(value) for value in (0.84166, 3.14159, 27.1828, 314.159, -12.3456)] == [
        "0.842",
        "3.142",
        "27.18",
        "314.2",
        "-12.35",
    ]
