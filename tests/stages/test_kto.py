"""``stage=kto`` by its command: from pairs and from labelled replies, cut in many ways, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tiny_runs import SHAPE, STEPS, WORLD, align, lines, record, train

from align.__main__ import main
from align.pairs.store import TokenStore

pytestmark = pytest.mark.medium


def results(run: Path) -> dict[str, float]:
    """Metric -> value of results.json."""
    return {one["metric"]: one["value"] for one in json.loads((run / "results.json").read_text())}


def test_pairs_become_labelled_replies(kto_run: Path) -> None:
    """Of 160 pairs each makes two; the policy starts from the reference, where nothing is known yet."""
    kept = sum(json.loads((kto_run / "data_report.json").read_text())["splits"].values())
    assert kept == 2 * 160
    first, *_, last = lines(kto_run)
    assert (first["loss"], first["rewards/chosen"], first["rewards/rejected"]) == pytest.approx(
        (0.5, 0.0, 0.0), abs=1e-6
    )
    assert last["rewards/margin"] > 0
    found = results(kto_run)
    assert list(found) == [
        "kto/loss",
        "kto/accuracy",
        "kto/rewards_chosen",
        "kto/rewards_rejected",
        "kto/baseline",
        "kto/alarms",
    ]
    assert 0.4 < found["kto/loss"] < 0.5


def test_the_reference_is_asked_before_the_training_and_once(
    tmp_path: Path, sft_run: Path, kto_run: Path
) -> None:
    """Six batches of eight and the unseen replies, each with its mismatched one; the same cache: none."""
    cache = f"run.cache={tmp_path / 'cache'}"
    first = record(train("kto", tmp_path / "first", cache, start=sft_run))["reference"]
    unseen = sum(len(TokenStore(kto_run / "data" / f"{name}.arrow")) for name in ("validation", "test"))
    assert (first["replies"], first["computed"]) == (2 * (48 + unseen), 2 * (48 + unseen))
    again = train("kto", tmp_path / "again", cache, "unpaired_loss.beta=0.3", start=sft_run)
    assert record(again)["reference"]["computed"] == 0
    fewer = train("kto", tmp_path / "fewer", cache, "unpaired_loss.baseline=other_label", start=sft_run)
    assert record(fewer)["reference"]["replies"] == 48 + unseen


def test_labelled_replies_of_a_file(tmp_path: Path, sft_run: Path) -> None:
    """Three good ones to each bad one, some of them conversations."""
    rows: list[dict[str, object]] = [
        {"prompt": f"Name {n}.", "completion": f"It is {n}.", "label": bool(n % 4)} for n in range(60)
    ]
    rows += [
        {
            "messages": [{"role": "user", "content": f"Say {n}."}, {"role": "assistant", "content": "No."}],
            "label": 0,
        }
        for n in range(10)
    ]
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ("stage=kto", f"run.dir={tmp_path / 'run'}", f"model.path={sft_run}", WORLD[2], *STEPS)
    align(*words, "dataset=unpaired", f"dataset.path={file}", "unpaired_loss.undesirable_weight=2.0")
    assert len(lines(tmp_path / "run")) == 6
    assert json.loads((tmp_path / "run" / "data_report.json").read_text())["kept"] == 70


def test_without_a_baseline_the_cut_of_a_batch_changes_rounding_only(tmp_path: Path, sft_run: Path) -> None:
    runs = [
        train("kto", tmp_path / size, "unpaired_loss.baseline=none", *words, start=sft_run)
        for size, words in {"8": (), "2": ("training.micro_batch_size=2",)}.items()
    ]
    whole, cut = (load_file(run / "model" / "model.safetensors") for run in runs)
    assert all((whole[name] - cut[name]).abs().max() < 1e-4 for name in whole)


def test_a_smaller_micro_batch_is_another_estimate_which_is_said(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train("kto", tmp_path / "run", "training.micro_batch_size=2", start=sft_run)
    assert (
        "note: the drift (kl) is estimated from 2 replies, those of a micro-batch" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("dataset=demonstrations", "dataset.path=any.jsonl"),
            "dataset=demonstrations offers demonstrations, and this stage needs labelled replies or "
            "preference pairs. Datasets that offer labelled replies or preference pairs: "
            "alpaca_eval_annotations, argilla, chatbot_arena, hh_rlhf, label_studio, preference, records, "
            "summarize_from_feedback, toy, ultrafeedback, unpaired",
        ),
        (("training.micro_batch_size=1",), "training.micro_batch_size=1 leaves a prompt no other reply"),
        (("training.batch_size=1",), "training.batch_size=1 leaves a prompt no other reply"),
        (("loss=dpo",), "stage=kto does not use a loss; leave out loss=..."),
        (("unpaired_loss.beta=0",), "unpaired_loss.beta"),
    ],
)
def test_what_it_refuses(
    words: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(("stage=kto", f"run.dir={tmp_path / 'run'}", *SHAPE, *words)) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()


def test_labelled_replies_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"Say {n}.", "completion": f"{n}, as asked.", "label": False} for n in range(30)]
    file = tmp_path / "labelled.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    place = f"run.dir={tmp_path / 'show'}"
    align("stage=show", place, *SHAPE, "dataset=unpaired", f"dataset.path={file}", "show.examples=1")
    assert "undesirable reply: " in capsys.readouterr().out


def test_a_world_without_unseen_replies(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fractions = ("dataset.test_fraction=0", "dataset.validation_fraction=0")
    run = train("kto", tmp_path / "run", *fractions, start=sft_run)
    assert list(results(run)) == ["kto/alarms"]
    assert "the test split is empty" in capsys.readouterr().out


def test_the_world_is_the_one_that_dpo_has(kto_run: Path, dpo_run: Path) -> None:
    """The same prompts are held out, so that the policies compare."""
    ours, theirs = (TokenStore(run / "data" / "test.arrow") for run in (kto_run, dpo_run))
    assert {ours.text(i).prompt for i in range(len(ours))} == {
        theirs.text(i).prompt for i in range(len(theirs))
    }
