"""``stage=dpo`` asks its reference about each pair once, whoever asked before: run.json says how often."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_runs import align, losses, record, train

from align.training import checkpoints

pytestmark = pytest.mark.medium


@pytest.fixture
def cache(tmp_path: Path) -> tuple[str, ...]:
    """The word that gives a run a cache of this test's own."""
    return (f"run.cache={tmp_path / 'cache'}",)


def asked(run: Path) -> tuple[int, int]:
    """Pairs that a run needed, and those of them that it had to compute."""
    found = record(run)["reference"]
    return found["pairs"], found["computed"]


def test_a_sweep_pays_once(tmp_path: Path, sft_run: Path, cache: tuple[str, ...]) -> None:
    """Other betas, other losses, an adapter on the same base, a later resume: nothing is computed again."""
    first = train("dpo", tmp_path / "first", *cache, start=sft_run)
    needed, computed = asked(first)
    assert computed == needed > 0
    # 6 steps of 8 of about 136 pairs, and all unseen ones
    assert needed < 48 + 40
    for name, words in {
        "beta": ("loss.beta=0.5",),
        "loss": ("loss=ipo",),
        "tokens": ("loss=length_desensitised",),
        "lora": ("adapter=lora", "adapter.rank=4"),
        "plain": ("training.attention=padded", "training.length_window=1"),
        "micro": ("training.micro_batch_size=2",),
    }.items():
        assert asked(train("dpo", tmp_path / name, *cache, *words, start=sft_run)) == (needed, 0), name
    again = train("dpo", tmp_path / "again", *cache, start=sft_run)
    assert losses(again) == losses(first)


def test_only_new_pairs_are_computed(tmp_path: Path, sft_run: Path, cache: tuple[str, ...]) -> None:
    """Two steps, then six of the same order: the pairs of the first two are known."""
    few = asked(train("dpo", tmp_path / "few", *cache, "training.max_steps=2", start=sft_run))
    more = asked(train("dpo", tmp_path / "more", *cache, start=sft_run))
    assert few[0] == few[1]
    assert more == (few[0] + 4 * 8, 4 * 8)


def test_a_loss_without_a_reference_asks_for_none(
    tmp_path: Path, sft_run: Path, cache: tuple[str, ...]
) -> None:
    run = train("dpo", tmp_path / "simpo", *cache, "loss=simpo", start=sft_run)
    assert "reference" not in record(run)
    assert not (tmp_path / "cache" / "reference").exists()


def test_a_changed_byte_in_the_key_recomputes(tmp_path: Path, sft_run: Path, cache: tuple[str, ...]) -> None:
    """One bit of one weight; one line of the chat template; a number of the config; the precision."""
    needed, _ = asked(train("dpo", tmp_path / "first", *cache, start=sft_run))

    def changed(name: str) -> Path:
        return Path(shutil.copytree(sft_run / "model", tmp_path / name))

    nudged = changed("nudged")
    weights = load_file(nudged / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    weights[name][0, 0] = torch.nextafter(weights[name][0, 0], torch.tensor(10.0))
    save_file(weights, nudged / "model.safetensors", metadata={"format": "pt"})

    shaped = changed("shaped")
    config = json.loads((shaped / "config.json").read_text())
    (shaped / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 2e-6}))

    worded = changed("worded")
    template = (worded / "chat_template.jinja").read_text()
    (worded / "chat_template.jinja").write_text(template + "{# the same words, another byte #}")

    for model in (nudged, shaped, worded):
        run = train("dpo", tmp_path / f"{model.name} run", *cache, start=model)
        assert asked(run) == (needed, needed), model.name
    rough = train("dpo", tmp_path / "rough", *cache, "training.precision=bfloat16", start=sft_run)
    assert asked(rough) == (needed, needed)


def test_the_cached_reference_is_the_model_that_training_starts_from(
    tmp_path: Path, sft_run: Path, cache: tuple[str, ...]
) -> None:
    """At the first step every log-ratio is 0, up to rounding; after it the policy moves away."""
    run = train("dpo", tmp_path / "run", *cache, start=sft_run)
    first, second = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:2])
    assert first["rewards/chosen"] == pytest.approx(0, abs=1e-5)
    assert abs(second["rewards/chosen"]) > 1e-3


def test_a_run_that_is_resumed_asks_the_model_that_it_began_with(
    tmp_path: Path, sft_run: Path, cache: tuple[str, ...]
) -> None:
    """Stopped after two of six steps, and its cache lost: the reference is not the half-trained policy."""
    whole = train("dpo", tmp_path / "whole", *cache, start=sft_run)
    part = train("dpo", tmp_path / "part", *cache, "training.keep_checkpoints=3", start=sft_run)
    for step in (4, 6):
        shutil.rmtree(checkpoints.folder_of(part / "checkpoints", step))
    shutil.rmtree(tmp_path / "cache")
    align("stage=dpo", f"run.dir={part}", "resume=true", *_words(part))
    assert losses(part) == pytest.approx(losses(whole), abs=1e-6)


def _words(run: Path) -> list[str]:
    """The settings of a run's command."""
    return [
        word for word in record(run)["command"] if "=" in word and not word.startswith(("run.dir", "stage"))
    ]
