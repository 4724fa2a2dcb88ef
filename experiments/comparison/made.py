"""Run directories as a large sweep leaves them, with lines as PPO writes them; the numbers are noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from align.report.files import write_results, write_samples
from align.types import Result

_METRICS = (
    "loss",
    "grad_norm",
    "policy/loss",
    "policy/approx_kl",
    "policy/clip_fraction",
    "policy/ratio",
    "value/loss",
    "value/clip_fraction",
    "value/explained_variance",
    "value/mean",
    "rollout/score",
    "rollout/score_std",
    "rollout/reward",
    "rollout/entropy",
    "rollout/length",
    "rollout/ended",
    "rollout/distinct_2",
    "rollout/kl",
    "advantages/mean",
    "advantages/std",
    "examples_per_second",
    "tokens_per_second",
    "time",
    "memory_peak_mb",
)
PROMPTS = 256
_RUNS_OF_A_GROUP = 4


def sweep(folder: Path, runs: int, lines: int) -> tuple[Path, Path]:
    """Trainings and their evaluations: ``runs`` of each, four seeds a setting; the two folders."""
    trained, evaluated = folder / "ppo", folder / "evaluations"
    for number in range(runs):
        coef, seed = 0.001 * (1 + number // _RUNS_OF_A_GROUP), number % _RUNS_OF_A_GROUP
        name = f"kl.coef={coef:g}_seed={seed}"
        _training(trained / name, coef, seed, lines, np.random.default_rng(number))
        _evaluation(evaluated / name, trained / name, coef, np.random.default_rng(runs + number))
    return trained, evaluated


def _training(place: Path, coef: float, seed: int, lines: int, rng: np.random.Generator) -> None:
    config = {"stage": {"name": "ppo"}, "kl": {"coef": coef}}
    _run(place, config, seed, [Result("ppo/score_gained", 1 / (1 + coef), 64, None, None, "exact")])
    with (place / "metrics.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(_lines(lines, rng))


def _lines(count: int, rng: np.random.Generator) -> Iterator[str]:
    """Lines of a long training, an alarm among the last of every other one."""
    alarmed = int(rng.integers(count)) if rng.random() < 0.5 else -1
    values = np.cumsum(rng.normal(size=(count, len(_METRICS))), axis=0) / np.sqrt(count)
    keys = [f'"{name}": ' for name in _METRICS]
    for step, row in enumerate(values.tolist(), start=1):
        told = ", ".join([key + repr(value) for key, value in zip(keys, row, strict=True)])
        alarm = ', "alarms/kl_high": 1.0' if step == alarmed else ""
        raised = float(0 <= alarmed <= step)
        yield f'{{"step": {step}, "epoch": {step / count}, {told}, "alarms/raised": {raised}{alarm}}}\n'


def _evaluation(place: Path, model: Path, coef: float, rng: np.random.Generator) -> None:
    scores = rng.normal(1 / (1 + 100 * coef), 1.0, size=PROMPTS)
    gain, kl = float(scores.mean()), 1 / (0.01 + coef)
    results = [
        Result("ppo/kl", kl, PROMPTS, kl - 0.5, kl + 0.5, "bootstrap"),
        Result("sft/gold_reward", 0.0, PROMPTS, 0.0, 0.0, "bootstrap"),
        Result("ppo/gold_gain", gain, PROMPTS, gain - 0.2, gain + 0.2, "bootstrap"),
        Result("ppo/proxy_gain", gain + coef, PROMPTS, gain - 0.2, gain + 0.2, "bootstrap"),
        Result("sft/length", 10.0, PROMPTS, 9.0, 11.0, "bootstrap"),
        Result("ppo/length", 12.0, PROMPTS, 11.0, 13.0, "bootstrap"),
    ]
    _run(place, {"stage": {"name": "evaluate"}, "model": {"path": str(model)}}, 0, results)
    rows: list[dict[str, Any]] = []
    for number, score in enumerate(scores.tolist()):
        replies = {"sft": (0.0, 10), "ppo": (score, 8 + number % 5)}
        rows.append(
            {
                "prompt": [{"role": "user", "content": f"question {number}"}],
                "replies": {
                    name: {"text": "word " * 60, "tokens": tokens, "ended": True, "scores": {"gold": one}}
                    for name, (one, tokens) in replies.items()
                },
            }
        )
    write_samples(place / "samples.jsonl", rows)


def _run(place: Path, config: dict[str, Any], seed: int, results: list[Result]) -> None:
    place.mkdir(parents=True)
    inputs = {"data": {"path": None, "sha256": "d"}, "reference": {"path": None, "sha256": "r"}}
    whole = {**config, "seed": seed, "run": {"dir": str(place), "cache": "c"}, "resume": False}
    record = {"stage": config["stage"]["name"], "state": "completed", "seed": seed, "inputs": inputs}
    (place / "run.json").write_text(json.dumps({**record, "config": whole}), encoding="utf-8")
    write_results(place / "results.json", results)
