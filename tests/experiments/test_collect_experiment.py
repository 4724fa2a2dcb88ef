"""Every method of collecting side by side: the whole command on a tiny world, and its tables' arithmetic."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from align.pairs.records import write_records
from align.report.files import write_samples
from align.types import Judge, Message, PreferenceRecord, Reply
from experiments.collect.__main__ import HERE, main
from experiments.collect.methods import CRITIC_ERROR, METHODS, TRAINED_ON, by_construction, echoes
from experiments.collect.runs import MODELS, Size
from experiments.collect.stand_in import REASON, critic, mended, spoilt
from experiments.collect.table import merged, tables
from experiments.page import END, begin, spliced
from reward_models.gold import Gold

TINY = Size(
    pairs=160,
    hidden=32,
    layers=1,
    heads=2,
    mlp=48,
    epochs=0.6,
    reward_epochs=0.2,
    limit=16,
    replies=2,
    chosen=4,
    steps=2,
    unseen=4,
)


def write_outputs(folder: Path) -> Path:
    """Replies of four models to three instructions, the stronger one's twice as long each time."""
    for rank, name in enumerate(reversed(MODELS)):
        (folder / name).mkdir(parents=True)
        said = [{"instruction": f"Say {n}.", "output": f"{n} " * 2**rank} for n in ("one", "two", "three")]
        (folder / name / "model_outputs.json").write_text(json.dumps(said))
    return folder


@pytest.mark.slow
def test_the_command_runs_every_method_and_its_tables_show_them(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text(f"before\n\n{begin('collect')}\nwhat stood there\n{END}\n\nafter\n")
    data = write_outputs(tmp_path / "data")
    assert main([f"--out={out}", f"--data={data}", f"--work={tmp_path / 'work'}"], TINY) == 0
    found = json.loads((out / "results.json").read_text())
    assert list(found["methods"]) == list(METHODS)
    made = {
        name: next(row["value"] for row in entry["results"] if row["metric"] == "collect/pairs")
        for name, entry in found["methods"].items()
    }
    trained = [name for name in TRAINED_ON if made[name]]
    assert list(found["policies"]) == trained
    # these need no policy, whose replies may not end after so short a training
    assert {"corrupt", "noise", "critique"} <= set(trained)
    readme = (out / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "what stood there" not in readme
    first, second, third = re.findall(r"(?:^\|.*\n)+", readme, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)`", first, re.MULTILINE) == list(METHODS)
    assert re.findall(r"^\| `(\w+)`", second, re.MULTILINE) == trained
    lines = third.splitlines()[2:]
    assert [re.split(r" *\| *", line)[1:3] for line in lines] == [
        ["`none`", "9"],
        ["`match`", "0"],
        ["`cap`", "0"],
    ]
    assert (out / "collect.png").read_bytes().startswith(b"\x89PNG")
    # again: nothing is run anew but one method, whose run is gone, and all else stays
    before = (tmp_path / "work" / "noise" / "run.json").read_bytes()
    (tmp_path / "work" / "corrupt" / "results.json").unlink()
    assert main([f"--out={out}", "--only=corrupt,noise", f"--work={tmp_path / 'work'}"], TINY) == 0
    assert (tmp_path / "work" / "noise" / "run.json").read_bytes() == before
    again = json.loads((out / "results.json").read_text())
    assert {**again, "circumstances": None} == {**found, "circumstances": None}


def test_other_sizes_do_not_stand_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    assert main(["--only=", f"--out={tmp_path}", f"--work={work}"], TINY) == 0
    assert main(["--only=", f"--out={tmp_path}", f"--work={work}"]) != 0
    assert "holds runs of another size" in capsys.readouterr().err
    assert main(["--only=", f"--out={tmp_path}"]) != 0
    assert "results of another size" in capsys.readouterr().err


def test_what_was_measured_before_stays_beside_what_is_new() -> None:
    before = {
        "size": 1,
        "methods": {"judge": "old", "noise": "old"},
        "policies": {},
        "outputs": {"cap": "old"},
    }
    found = {"size": 1, "methods": {"judge": "new"}, "policies": {"judge": "new"}, "outputs": {}}
    assert merged(before, found) == {
        "size": 1,
        "methods": {"judge": "new", "noise": "old"},
        "policies": {"judge": "new"},
        "outputs": {"cap": "old"},
    }
    assert merged({}, found) == found


def test_the_judges_error_by_hand(tmp_path: Path) -> None:
    """Each order errs with 0.2: both right 0.64, both wrong 0.04, else they disagree."""
    assert by_construction("judge", tmp_path) == pytest.approx(0.64 / 0.68)


def test_the_critics_error_by_hand(tmp_path: Path) -> None:
    """One reply is the better for mending and the worse for spoiling; the other is the worse for both: its
    only sentence has a rude word, and goes with all that was asked for.
    """
    question = (Message("user", "How do I wash the goat?"),)
    replies = (
        "Wash the goat with a soft cloth and take your time over it",
        "Thanks, I hope you wash the goat because it is silly and so on and on and on.",
    )
    for place, reply in enumerate(replies):
        before, better, worse = Gold().score([question] * 3, [reply, mended(reply), spoilt(reply)])
        assert (better > before) == (place == 0)
        assert worse < before
    records = [
        PreferenceRecord(
            "", question, (Reply(f"revised {reply}"), Reply(reply)), "first", Judge("model", "m")
        )
        for reply in replies
    ]
    write_records(tmp_path, records)
    assert by_construction("critique", tmp_path) == pytest.approx((1 - CRITIC_ERROR) / 2)
    assert by_construction("noise", tmp_path) is None


def test_the_critics_words_are_counted_before_and_after(tmp_path: Path) -> None:
    said = [("No.", f"Glad you asked. {REASON}"), ("Yes.", REASON), (REASON, REASON), ("No.", "No.")]
    write_samples(
        tmp_path / "samples.jsonl",
        [{"replies": {"sft": {"text": before}, "dpo": {"text": after}}} for before, after in said],
    )
    counted = {one.metric: (one.value, one.n) for one in echoes(tmp_path)}
    assert counted == {"sft/critics_words": (0.25, 4), "dpo/critics_words": (0.75, 4)}


def test_a_critic_spoils_as_often_as_it_is_told() -> None:
    """Of 2,000 replies that it could mend; what needs no mending is given back."""

    def said(reply: str) -> Any:
        text = f"[Conversation]\nUser: x\n\n[Reply]\n{reply}\n\n[Critique]\nc\n\n[Task]\n"
        return answer({"messages": [{"content": text}]}, 1).body["choices"][0]["message"]["content"]

    answer = critic(error=0.1)
    spoils = sum(said(f"Reply {n}") == spoilt(f"Reply {n}") for n in range(2000))
    assert abs(spoils - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5
    assert said("Thanks, because.") == "Thanks, because."


def test_the_page_shows_what_results_json_holds() -> None:
    found = json.loads((HERE / "results.json").read_text(encoding="utf-8"))
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    assert spliced(readme, "collect", tables(found)) == readme
