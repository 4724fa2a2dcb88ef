"""The benchmark beside trl: on tiny models its command gives every figure; its page shows its results."""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from align.errors import ConfigError
from align.models.policy import load_policy, save_policy
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from experiments.page import spliced
from experiments.speed import memory, table, work
from experiments.speed.__main__ import HERE, main
from experiments.speed.figures import FIGURES, PPO_SIDES, values
from experiments.speed.ours import overall_mfu
from experiments.speed.ppo_prepare import never_end
from experiments.speed.rounds import PARTS
from experiments.speed.work import PPO_PARTS, TRL_PPO, Job, Work

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--rows=16", "--model=llama-tiny", "--threads=1", "--rounds=1", "--sets", "64", "256", "--steps=3")
WORDS = [
    "the",
    "cat",
    "sees",
    "a",
    "red",
    "house",
    "why",
    "how",
    "because",
    "never",
    "always",
    "likes",
    "blue",
    "trees",
]


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pairs as HH writes them, of two turns."""
    rng = random.Random(0)

    def said(most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(2, most)))

    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    with path.open("w") as file:
        for number in range(20):
            prompt = (
                f"\n\nHuman: {said(8)} {number}?\n\nAssistant: {said(9)}\n\nHuman: {said(6)}?\n\nAssistant: "
            )
            file.write(json.dumps({"chosen": prompt + said(12), "rejected": prompt + said(12)}) + "\n")
    return path


def benchmark(data: Path, out: Path, *more: str) -> dict[str, Any]:
    """Runs the command into a folder that holds a copy of the page; returns the entry of results.json."""
    out.mkdir(exist_ok=True)
    shutil.copy(HERE / "README.md", out / "README.md")
    command = [sys.executable, "-m", "experiments.speed", f"--data={data}", f"--out={out}", *TINY, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = table.read(out / "results.json")
    assert table.render(results) in done.stdout
    assert (
        spliced((out / "README.md").read_text(), "speed", table.render(results))
        == (out / "README.md").read_text()
    )
    assert list(out.glob("*.png"))
    for figure in out.glob("*.png"):
        assert min(struct.unpack(">II", figure.read_bytes()[16:24])) > 300
    entry: dict[str, Any] = results["cpu float32"]
    assert_sound(entry)
    return entry


def assert_sound(entry: dict[str, Any]) -> None:
    """Every figure of the parts that were run is finite, and both sides had the same losses."""
    expected = {name for name, figure in FIGURES.items() if figure.part in entry["parts"]}
    assert entry["figures"].keys() == expected
    for name, value in entry["figures"].items():
        assert all(math.isfinite(number) for number in value.values()), name
    for part in {"dpo", "precomputed", "reward"} & entry["parts"].keys():
        (one,) = entry["parts"][part]["rounds"]
        assert one["loss_difference"] < 1e-4
        assert one["ours"]["pairs"] == one["theirs"]["pairs"] == 16
        assert one["ours"]["threads"] == one["theirs"]["threads"] == 1


@pytest.mark.medium
def test_a_part_is_measured_beside_trl(transcripts: Path, tmp_path: Path) -> None:
    entry = benchmark(transcripts, tmp_path / "out", "--only=dpo")
    assert list(entry["parts"]) == ["dpo"]


needs_trl_ppo = pytest.mark.skipif(
    not TRL_PPO.is_dir(), reason="trl 1.12.0 is not beside the environment: make trl-ppo"
)


@needs_trl_ppo
@pytest.mark.medium
def test_ppo_is_measured_beside_trl(transcripts: Path, tmp_path: Path) -> None:
    """Eight prompts in two iterations; both sides count what they did."""
    out = tmp_path / "out"
    entry = benchmark(transcripts, out, "--only=ppo_short", "--episodes=8", "--rollout=4")
    (one,) = entry["parts"]["ppo_short"]["rounds"]
    assert one.keys() == {"theirs", *PPO_SIDES}
    for side in one.values():
        assert side["episodes"] == 8
        assert side["sampled_tokens"] == 8 * 53
        assert side["optimiser_steps"] == 2 * 4 * 4
        assert side["prompt_tokens"] == one["theirs"]["prompt_tokens"] > 8
        assert side["threads"] == 1
    assert one["theirs"]["trl"] == "1.12.0"
    assert one["separate"]["score"] == pytest.approx(one["recomputed"]["score"], rel=1e-3)
    page = (out / "README.md").read_text()
    assert "samples 424 tokens and takes 32 optimiser steps over 8 episodes" in page
    assert [figure.name for figure in out.glob("*.png")] == ["ppo.png"]


@pytest.mark.slow
def test_the_whole_benchmark(transcripts: Path, tmp_path: Path) -> None:
    parts = [part for part in PARTS if part not in PPO_PARTS]
    entry = benchmark(transcripts, tmp_path / "out", f"--only={','.join(parts)}")
    assert entry["parts"].keys() == set(parts)
    (drawn,) = entry["parts"]["sets"]["rounds"]
    assert drawn["loss_difference"] == 0.0  # the same texts in the same order
    (precomputed,) = entry["parts"]["precomputed"]["rounds"]
    assert precomputed["theirs"]["reference_seconds"] > 0
    assert precomputed["ours"]["reference_computed"] == 0
    assert entry["parts"]["dpo"]["rounds"][0]["ours"]["reference_computed"] == 16
    again = benchmark(transcripts, tmp_path / "out", "--only=reward")
    assert again["parts"]["dpo"] == entry["parts"]["dpo"]
    assert again["parts"]["reward"] != entry["parts"]["reward"]


def test_the_page_shows_what_was_measured() -> None:
    page = (HERE / "README.md").read_text(encoding="utf-8")
    assert spliced(page, "speed", table.render(table.read(HERE / "results.json"))) == page


def side(seconds: float, megabytes: float, **more: float) -> dict[str, float]:
    return {
        "pairs": 100,
        "seconds": seconds,
        "peak_mb": megabytes,
        "mfu": 0.5,
        "reference_seconds": 0.0,
        **more,
    }


def round_of(ours: float, theirs: float) -> dict[str, Any]:
    return {"ours": side(ours, 70), "theirs": side(theirs, 100), "loss_difference": 2e-6}


WORK = {"data": "pairs.jsonl", "model": "llama-12m", "threads": 2, "batch_size": 8}
FACTS = {
    "date": "2026-01-02",
    "device": "a CPU",
    "torch": "2",
    "transformers": "5",
    "trl": "1",
    "commit": "c",
}
FACTS |= {"pairs": 100, "weights": 12_200_000}  # type: ignore[dict-item]


def test_figures_are_ratios_of_medians() -> None:
    """Ours 10, 20, 50 s and trl's 40, 100, 60 s: medians 20 and 60, so 3; single rounds 4, 5, 1.2."""
    rounds = [round_of(10, 40), round_of(20, 100), round_of(50, 60)]
    entry = table.merged({}, "cpu float32", WORK, FACTS, {"dpo": rounds})["cpu float32"]
    found = values(entry)
    assert vars(found["dpo"]) == pytest.approx({"value": 3.0, "low": 1.2, "high": 5.0})
    assert entry["figures"]["memory"]["value"] == pytest.approx(0.7)
    assert entry["figures"]["loss_difference"] == {"value": 2e-6, "low": 2e-6, "high": 2e-6}


def test_the_sweep_is_measured_against_as_many_single_runs() -> None:
    """66 s for four betas, 20 s for one: 66 / (4 * 20)."""
    rounds = [{"one": {"seconds": 20.0, "runs": 1}, "all": {"seconds": 66.0, "runs": 4}}]
    entry = table.merged({}, "cpu float32", WORK, FACTS, {"sweep": rounds})["cpu float32"]
    assert entry["figures"]["sweep"]["value"] == pytest.approx(0.825)


def test_eight_tiny_runs_are_measured_against_their_sum() -> None:
    """80 s alone, 30 s as a sweep: 0.375; what one spends is told in words."""
    one = {"config": 0.2, "imports": 3.9, "work": 3.0}
    rounds = [{"alone": {"seconds": 80.0}, "sweep": {"seconds": 30.0}, "one": one}]
    entry = table.merged({}, "cpu float32", WORK, FACTS, {"jobs": rounds})["cpu float32"]
    assert entry["figures"]["jobs"]["value"] == pytest.approx(0.375)
    block = table.render({"cpu float32": entry})
    assert "| 0.5 at most | 0.375 | 0.375 to 0.375 |" in block
    assert "0.2 s for Hydra and the config, 3.9 s of imports, 3.0 s of work" in block
    assert (
        "`stage=dpo model=tiny dataset=toy training.max_steps=20` by 4 loss.beta x 2 seed; 1 round" in block
    )


def test_a_missed_target_is_marked() -> None:
    results = table.merged({}, "cpu float32", WORK, FACTS, {"dpo": [round_of(10, 41)]})
    block = table.render(results)
    assert "| DPO pairs/s over `trl.DPOTrainer` | 4.2 | 4.1 (missed) | 4.1 to 4.1 |" in block
    assert (
        "| peak memory in DPO above the level after imports, over trl's | 0.7 at most | 0.7 | 0.7 to 0.7 |"
        in block
    )
    assert (
        "2026-01-02, a CPU, 2 threads; torch 2, transformers 5, trl 1, commit c; 100 pairs of `pairs.jsonl`"
        in block
    )
    assert "| DPO | 10 | 2.44 | 70 | 100 |" in block


def test_parts_are_merged_unless_the_work_is_another() -> None:
    dpo = table.merged({}, "cpu float32", WORK, FACTS, {"dpo": [round_of(10, 50)]})
    both = table.merged(dpo, "cpu float32", WORK, FACTS | {"commit": "d"}, {"reward": [round_of(10, 40)]})
    assert list(both["cpu float32"]["parts"]) == ["dpo", "reward"]
    assert "dpo: 2026-01-02" in table.render(both)
    other = WORK | {"threads": 4}
    with pytest.raises(ConfigError, match="threads: 2 -> 4"):
        table.merged(both, "cpu float32", other, FACTS, {"dpo": [round_of(10, 50)]})
    whole = {"dpo": [round_of(10, 50)], "reward": [round_of(10, 40)]}
    assert table.merged(both, "cpu float32", other, FACTS, whole)["cpu float32"]["work"] == other
    assert list(table.merged(both, "cpu bfloat16", other, FACTS, whole)) == ["cpu float32", "cpu bfloat16"]


def test_the_share_of_the_peak_is_over_the_whole_time() -> None:
    """A step of 1 s at 0.6 and one of 3 s at 0.2: (0.6 + 0.6) / 4 s."""
    lines = [{"mfu": 0.6, "examples_per_second": 8.0}, {"mfu": 0.2, "examples_per_second": 8 / 3}]
    assert overall_mfu(lines) == pytest.approx(0.3)


def test_memory_is_counted_above_the_level() -> None:
    """80 MB, touched and let go of: the peak has them, and a new level begins without."""
    before = memory.level()
    bytes(bytearray(40_000_000))
    assert 75 < memory.peak() - before < 95
    after = memory.level()
    assert memory.peak() - after < 5


def test_a_job_survives_the_command_line(transcripts: Path, tmp_path: Path) -> None:
    job = Job("ours", "dpo", Work(str(transcripts), sets=(64, 256)), tmp_path / "world", tmp_path / "run")
    assert Job.of(job.text()) == job


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--data=nowhere.jsonl"], "nowhere.jsonl: there is no such file"),
        (["--model=llama-13m"], "no model named 'llama-13m'. Did you mean 'llama-12m'"),
        (["--rows=4"], "--rows 4 is less than one batch of 8 pairs"),
        (["--episodes=96"], "--episodes 96 must be whole rollouts of 64"),
        (["--episodes=6", "--rollout=6"], "a rollout whole minibatches, 4 of them"),
    ],
    ids=["file", "model", "rows", "episodes", "rollout"],
)
def test_what_cannot_be_measured_is_refused_at_once(
    words: list[str], told: str, transcripts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--data={transcripts}", f"--out={tmp_path}", *words]) == ConfigError.exit_code
    assert told in capsys.readouterr().err


def test_ppo_without_its_trl_says_what_to_type(
    transcripts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "TRL_PPO", tmp_path / "nothing")
    words = [f"--data={transcripts}", f"--out={tmp_path}", "--rows=16", "--only=ppo_long"]
    assert main(words) == ConfigError.exit_code
    assert "make trl-ppo" in capsys.readouterr().err


def ppo_side(seconds: float, megabytes: float) -> dict[str, Any]:
    return {
        "episodes": 128,
        "seconds": seconds,
        "peak_mb": megabytes,
        "prompt_tokens": 8960,
        "sampled_tokens": 6784,
        "trained_tokens": 62976,
        "optimiser_steps": 32,
        "score": -0.25,
        "value_loss": 0.3,
        "phases": {
            "sample": 10.0, "score": 4.0, "judge": 6.0, "forward": 20.0, "backward": 38.0, "optimiser": 2.0,
        },
        "trl": "1.12.0",
    }  # fmt: skip


def test_ppo_has_tables_of_its_own() -> None:
    """trl's 128 episodes take 100 s, ours 50, 64 and 25 s; a quarter of ours is spent before the update."""
    one = {
        "separate": ppo_side(50, 800),
        "recomputed": ppo_side(64, 800),
        "shared": ppo_side(25, 600),
        "theirs": ppo_side(100, 1000),
    }
    done = WORK | {"episodes": 128, "rollout": 64}
    results = table.merged({}, "cpu float32", done, FACTS, {"ppo_short": [one]})
    figures = results["cpu float32"]["figures"]
    assert figures["ppo_short_separate"]["value"] == 2.0
    assert figures["ppo_short_recomputed"]["value"] == 1.5625
    assert figures["ppo_short_shared"]["value"] == 4.0
    assert figures["ppo_short_memory"]["value"] == 0.6
    block = table.render(results)
    assert "trl 1.12.0, commit c; 128 prompts of `pairs.jsonl`" in block
    assert (
        "| PPO, short prompts: ours, value head on the trunk, `old_logps=sampled` | 5.12 | 4 | 600 | 0.6 |"
        in block
    )
    # 6784 tokens in 10 s; 62976 in 20 + 38 + 2 s
    assert "| 678 | 1.05e+03 | 12% | 5% | 8% | 25% | 48% | 2% |" in block
    assert "samples 6,784 tokens and takes 32 optimiser steps over 128 episodes" in block


def test_a_policy_is_made_that_never_ends_its_replies(transcripts: Path, tmp_path: Path) -> None:
    """Whatever it has read: special tokens come out far below all others."""
    settings = ModelSettings(
        scratch=ScratchSettings(hidden_size=32, layers=2, heads=2, mlp_size=48, vocab_size=300)
    )
    made = load_policy(
        settings, AdapterSettings(), texts=lambda: iter(transcripts.read_text().splitlines()), seed=0
    )
    save_policy(made, tmp_path / "policy")
    special = made.tokenizer.all_special_ids
    never_end(tmp_path / "policy", special)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    ids = torch.randperm(model.config.vocab_size, generator=torch.Generator().manual_seed(0))[None, :100]
    ids[0, ::7] = special[0]
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[0]
    assert float(logps[:, special].max()) < -15
    words = [token for token in range(model.config.vocab_size) if token not in special]
    assert float(logps[:, words].exp().sum(-1).min()) > 0.999


def test_a_setting_that_is_new_does_not_bar_old_measurements() -> None:
    before = table.merged({}, "cpu float32", WORK, FACTS, {"dpo": [round_of(10, 50)]})
    newer = WORK | {"episodes": 128}
    after = table.merged(before, "cpu float32", newer, FACTS, {"reward": [round_of(10, 40)]})
    assert list(after["cpu float32"]["parts"]) == ["dpo", "reward"]
    with pytest.raises(ConfigError, match="episodes: 128 -> 64"):
        table.merged(after, "cpu float32", newer | {"episodes": 64}, FACTS, {"reward": [round_of(10, 40)]})
