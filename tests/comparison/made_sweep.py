"""Run directories as a sweep leaves them, made in milliseconds: the numbers in them are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.report.files import write_results, write_samples
from align.types import Result

PROMPTS = 40


def made_run(
    directory: Path,
    config: Mapping[str, Any],
    results: Sequence[Result] = (),
    *,
    data: str | None = "d1",
    state: str = "completed",
    reference: str | None = None,
) -> Path:
    """A run directory with run.json and results.json."""
    directory.mkdir(parents=True)
    config = {**config, "run": {"dir": str(directory), "cache": "c"}, "resume": False}
    inputs: dict[str, Any] = {"data": {"path": None, "sha256": data}} if data else {}
    if reference:
        inputs["reference"] = {"path": None, "sha256": reference}
    record = {"stage": config["stage"]["name"], "state": state, "seed": config["seed"], "inputs": inputs}
    record |= {"config": config, "started": "2026-01-02T03:04:05+0000", "seconds": 12.5}
    (directory / "run.json").write_text(json.dumps(record))
    if state == "completed":
        write_results(directory / "results.json", results)
    return directory


def trained(directory: Path, beta: float, seed: int) -> Path:
    """A DPO run with a curve: loss 1/step, plus a tenth of its seed."""
    config = {"stage": {"name": "dpo"}, "seed": seed, "loss": {"name": "dpo", "beta": beta}}
    made_run(directory, config, [Result("dpo/alarms", 0.0, 5, None, None, "exact")])
    lines = [{"step": step, "loss": 1 / step + seed / 10, "time": 0.1} for step in range(1, 6)]
    (directory / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return directory


def evaluated(
    directory: Path,
    model: Path,
    scores: Sequence[float],
    *,
    kl: float = 4.0,
    data: str = "d1",
    label: str = "dpo",
) -> Path:
    """An evaluation of ``model`` whose replies have these scores; the reference's have 0."""
    config = {"stage": {"name": "evaluate"}, "seed": 0, "model": {"path": str(model), "max_length": 64}}
    gain, size = float(np.mean(scores)), len(scores)
    results = [
        Result(f"{label}/kl", kl, size, kl - 0.5, kl + 0.5, "bootstrap"),
        Result("sft/gold_reward", 0.0, size, 0.0, 0.0, "bootstrap"),
        Result(f"{label}/gold_gain", gain, size, gain - 0.2, gain + 0.2, "bootstrap"),
        Result("sft/length", 10.0, size, 9.0, 11.0, "bootstrap"),
        Result(f"{label}/length", 12.0, size, 11.0, 13.0, "bootstrap"),
    ]
    made_run(directory, config, results, data=data, reference="r1")
    rows = [
        {
            "prompt": [{"role": "user", "content": f"question {place}"}],
            "replies": {
                "sft": {"text": "a", "tokens": 10, "ended": True, "scores": {"gold": 0.0}},
                label: {"text": "b", "tokens": 8 + place % 5, "ended": True, "scores": {"gold": score}},
            },
        }
        for place, score in enumerate(scores)
    ]
    write_samples(directory / "samples.jsonl", rows)
    return directory


def scores(mean: float, seed: int, shift: float = 0.0) -> list[float]:
    """Scores of ``PROMPTS`` replies about ``mean``: noise of one, moved by ``shift``."""
    noise = np.random.default_rng(seed).normal(size=PROMPTS)
    return (noise - noise.mean() + mean + shift).tolist()


def sweep(folder: Path, betas: Sequence[float] = (0.1, 0.5), seeds: Sequence[int] = (1, 2, 3)) -> Path:
    """Evaluations of DPO runs over betas and seeds: a smaller beta gains 10 beta more, a seed moves 0.1."""
    for beta in betas:
        for seed in seeds:
            name = f"loss.beta={beta}_seed={seed}"
            model = trained(folder / "dpo" / name, beta, seed)
            mean = 1.0 + 10 * (max(betas) - beta)
            evaluated(
                folder / "evaluations" / name,
                model,
                scores(mean, int(100 * beta) + seed, (seed - 2) / 10),
                kl=1 / beta + seed / 10,
            )
    return folder / "evaluations"
