"""Typing errors are what they are said to be, and a reward's changes of mind are counted by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given as examples
from hypothesis import strategies as st
from stand_ins import Answering, Made, Scoring, pairs_of, values

from align.benchmarks._asked import Asked
from align.benchmarks._paraphrases import read_paraphrases
from align.benchmarks._typos import NEIGHBOURS, with_typos
from align.benchmarks.robustness import Robustness
from align.errors import ConfigError, DataError

TEXT = "The quick brown fox jumps over the lazy dog, and nobody minds."


def edits(one: str, other: str) -> int:
    """Edits between two words, a swap of neighbours counted once (Damerau 1964, restricted)."""
    table = [[i + j if not i * j else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            same = one[i - 1] == other[j - 1]
            options = [table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (not same)]
            if i > 1 and j > 1 and one[i - 1] == other[j - 2] and one[i - 2] == other[j - 1]:
                options.append(table[i - 2][j - 2] + 1)
            table[i][j] = min(options)
    return table[-1][-1]


def test_keys_lie_beside_each_other() -> None:
    """Whoever is a neighbour has that neighbour too; corners and the middle, from a keyboard."""
    assert all(key in NEIGHBOURS[other] for key, near in NEIGHBOURS.items() for other in near)
    assert set(NEIGHBOURS["g"]) == set("fhtyvb")
    assert set(NEIGHBOURS["q"]) == set("wa")


@examples(st.integers(0, 10_000), st.floats(0.01, 0.99))
def test_each_word_has_one_edit_at_most_and_keeps_its_first_letter(seed: int, rate: float) -> None:
    changed = with_typos(TEXT, rate, seed)
    assert changed is not None
    before, after = (re.findall(r"\w+", one) for one in (TEXT, changed))
    distances = [edits(one, other) for one, other in zip(before, after, strict=True)]
    assert set(distances) <= {0, 1}
    assert sum(distances) >= 1
    assert [one[0] for one in before] == [one[0] for one in after]
    assert re.sub(r"\w", "", changed) == re.sub(r"\w", "", TEXT), "punctuation and spaces stay"


def test_the_share_of_words_is_what_was_asked_for() -> None:
    text = " ".join(["something"] * 4000)
    changed = with_typos(text, 0.25, 1)
    assert changed is not None
    wrong = sum(word != "something" for word in changed.split())
    assert wrong / 4000 == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


def test_a_seed_draws_the_same_again() -> None:
    assert with_typos(TEXT, 0.3, 5) == with_typos(TEXT, 0.3, 5)
    assert len({with_typos(TEXT, 0.3, seed) for seed in range(10)}) > 5


@pytest.mark.parametrize("text", ["", "12 + 30 = 42", "I am it", "…"])
def test_without_words_nothing_is_misspelt(text: str) -> None:
    assert with_typos(text, 0.5, 0) is None


PAIRS = pairs_of(
    ("a", "good one", "bad one"),  # stays right
    ("b", "good two", "bad two"),  # flips
    ("c", "bad three", "good three"),  # stays wrong
    ("d", "good four", "bad four"),  # becomes undecided
    ("e", "good five", "bad five"),  # has no paraphrase
)
OTHERS = {
    "good one": "fine 3",
    "bad one": "poor 1",
    "good two": "fine 1",
    "bad two": "poor 2",
    "bad three": "poor 0",
    "good three": "fine 1",
    "good four": "fine 1",
    "bad four": "poor 1",
    "good five": "fine 1",
}
WORTH = Scoring(lambda _prompt, reply: float(reply[5:]) if reply[:4] in ("fine", "poor") else reply[0] == "g")


def test_flips_drops_and_what_has_no_paraphrase(tmp_path: Path) -> None:
    """As they are 4 of 5 are right. Of four changed: right, wrong, wrong, tie; 3 of them were right."""
    path = tmp_path / "others.jsonl"
    path.write_text("".join(json.dumps({"text": a, "paraphrase": b}) + "\n" for a, b in OTHERS.items()))
    measured = Robustness(typos=0.0, paraphrases=str(path)).measure("r", Made(scorer=WORTH, records=PAIRS))
    assert values(measured.results) == pytest.approx(
        {
            "r/plain_accuracy": 0.8,
            "r/plain_ties": 0.0,
            "r/paraphrase_accuracy": 1.5 / 4,
            "r/paraphrase_accuracy_drop": (0 + 1 + 0 + 0.5) / 4,
            "r/paraphrase_flips": 1 / 3,
            "r/paraphrase_undecided": 1 / 4,
            "r/paraphrase_unchanged": 1 / 5,
        }
    )
    assert [one.get("paraphrase_margin") for one in measured.items] == [2.0, -1.0, -1.0, 0.0, None]


def test_a_reward_that_spells_is_shaken_by_typos_and_one_that_measures_is_not() -> None:
    words = [f"{one} word" for one in ("Alpha", "Bravo", "Charlie", "Delta", "Foxtrot")]
    records = pairs_of(*((f"prompt {i}", f"{one} is spelt right", "no") for i, one in enumerate(words)))
    spelling = Scoring(lambda _prompt, reply: 1.0 if "is spelt right" in reply else 0.5)
    lengths = Scoring(lambda _prompt, reply: float(len(reply) > 6))
    found = values(Robustness(typos=0.99).measure("r", Made(scorer=spelling, records=records)).results)
    assert found["r/typos_unchanged"] == 1.0, "'no' has no word of three letters: none of the pairs counts"
    assert "r/typos_accuracy" not in found
    spelt = ((f"other {i}", f"{one} is spelt right", "never") for i, one in enumerate(words))
    records = [*records, *pairs_of(*spelt)]
    shaken, calm = (
        values(Robustness(typos=0.99).measure("r", Made(scorer=one, records=records)).results)
        for one in (spelling, lengths)
    )
    assert shaken["r/typos_accuracy_drop"] > 0.3
    assert (calm["r/typos_accuracy_drop"], calm["r/typos_flips"], calm["r/typos_unchanged"]) == (
        0.0,
        0.0,
        0.5,
    )


@pytest.mark.parametrize(("change", "expected"), [("prompt", "pr"), ("replies", "r"), ("both", "prr")])
def test_what_is_changed(change: Any, expected: str, tmp_path: Path) -> None:
    """The prompt's last turn, both replies, or all of them; equal texts apart."""
    asked: list[tuple[str, str]] = []

    def note(prompt: str, reply: str) -> float:
        asked.append((prompt, reply))
        return float(len(reply))

    path = tmp_path / "others.jsonl"
    path.write_text("".join(json.dumps({"text": t, "paraphrase": t.upper()}) + "\n" for t in ("same", "two")))
    made = Made(scorer=Scoring(note), records=pairs_of(("same", "same", "two")))
    Robustness(0.0, str(path), change=change).measure("r", made)
    (prompt, chosen), (other, rejected) = asked[2:]
    assert prompt == other == ("SAME" if "p" in expected else "same")
    assert (chosen, rejected) == (("SAME", "TWO") if change != "prompt" else ("same", "two"))


def test_a_writer_paraphrases_once_what_it_is_asked_and_it_is_kept(tmp_path: Path) -> None:
    """A blank answer is no paraphrase; what was written can be given as a file."""
    writer = Answering(lambda question: OTHERS.get(question.split("[Text]\n")[1].strip(), " "))
    made = Made(
        scorer=WORTH, records=PAIRS + PAIRS[:1], model=writer, run=SimpleNamespace(directory=tmp_path)
    )
    settings = Robustness(0.0, writer=Asked(path="m", max_new_tokens=9))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("align.collect._sources.room_of", lambda _path, most: most)
        found = values(settings.measure("r", made).results)
    assert len(writer.asked) == 10, "each distinct text once"
    kept, _ = read_paraphrases(str(tmp_path / "paraphrases.jsonl"))
    assert kept == OTHERS
    again = Robustness(0.0, str(tmp_path / "paraphrases.jsonl"))
    assert values(again.measure("r", Made(scorer=WORTH, records=made.records)).results) == found


@pytest.mark.parametrize(
    "settings",
    [{"typos": 0.0}, {"paraphrases": "a", "writer": Asked(path="b")}],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Robustness(**settings)


def test_without_pairs_there_is_nothing_to_keep_its_mind_about() -> None:
    with pytest.raises(DataError, match="r: the test split holds no decisive pair"):
        Robustness().measure("r", Made(scorer=WORTH))
