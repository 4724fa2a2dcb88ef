"""trl's side: its trainer on the same batches in the same order, with the settings that serve it best.

No padding is avoidable in trl 1.16: ``padding_free`` is switched off for DPO and ``group_by_length`` raises.
What helps is taken: SDPA attention, the fused head (its own default), fused AdamW, no gradient checkpointing
(its default costs a fifth), collation in this process (workers would take the cores from the products).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl import DPOConfig, DPOTrainer, RewardConfig, RewardTrainer

from align.errors import DataError
from experiments.speed.work import Job, Work


def measure(job: Job) -> dict[str, Any]:
    """Trains by ``DPOTrainer`` (``dpo``, or ``precomputed`` reference) or ``RewardTrainer`` (``reward``).

    ``seconds`` are those of the training loop alone; ``reference_seconds`` those of the forward passes of the
    precomputation before it, 0 where the reference is asked in every step.
    """
    rows = [
        json.loads(line) for line in (job.world / "batches.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    clock = _Clock()
    trainer = _reward_trainer(job, rows, clock) if job.what == "reward" else _dpo_trainer(job, rows, clock)
    _require_our_tokens(trainer.train_dataset, rows, whole=job.what == "reward")
    trainer.train()
    return {
        "pairs": len(rows),
        "seconds": clock.seconds,
        "reference_seconds": getattr(trainer, "reference_seconds", 0.0),
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "attention": trainer.model.config._attn_implementation,
    }


class _Clock(TrainerCallback):  # type: ignore[misc]
    """From before the first batch is drawn until after the last step, as our own loop counts."""

    began = 0.0
    seconds = 0.0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = time.perf_counter()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.began


class _TimedDpoTrainer(DPOTrainer):  # type: ignore[misc]
    """Counts the seconds of the precomputation's forward passes."""

    reference_seconds = 0.0

    def compute_ref_log_probs(self, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = super().compute_ref_log_probs(*args, **kwargs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.reference_seconds += time.perf_counter() - began
        return found


def _dpo_trainer(job: Job, rows: list[dict[str, Any]], clock: _Clock) -> Any:
    start = job.world / "policy"
    return _TimedDpoTrainer(
        model=AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32, attn_implementation="sdpa"),
        args=DPOConfig(
            beta=job.work.beta,
            loss_type="sigmoid",
            precompute_ref_log_probs=job.what == "precomputed",
            **_arguments(job.work, job.directory, len(rows)),
        ),
        train_dataset=_conversations(rows),
        processing_class=AutoTokenizer.from_pretrained(start),
        callbacks=[clock],
    )


def _reward_trainer(job: Job, rows: list[dict[str, Any]], clock: _Clock) -> Any:
    start = job.world / "scalar"
    return RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(
            start, dtype=torch.float32, attn_implementation="sdpa"
        ),
        args=RewardConfig(**_arguments(job.work, job.directory, len(rows))),
        train_dataset=_conversations(rows),
        processing_class=AutoTokenizer.from_pretrained(start),
        callbacks=[clock],
    )


def _arguments(work: Work, directory: Path, pairs: int) -> dict[str, Any]:
    return {
        "output_dir": str(directory),
        "max_steps": pairs // work.batch_size,
        "per_device_train_batch_size": work.batch_size,
        "train_sampling_strategy": "sequential",
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "gradient_checkpointing": False,
        "bf16": work.precision == "bfloat16",
        "use_cpu": work.device == "cpu",
        "max_length": None,  # no row is longer than ours may be: nothing is cut on either side
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": work.seed,
    }


def _conversations(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])


def _require_our_tokens(made: Any, rows: list[dict[str, Any]], *, whole: bool) -> None:
    """trl renders and tokenises by itself; the work is the same only where the tokens are.

    Raises:
        DataError: names the first pair whose tokens differ.
    """
    if len(made) != len(rows):
        raise DataError(f"trl keeps {len(made)} of {len(rows)} pairs")
    for number, (theirs, ours) in enumerate(zip(made, rows, strict=True)):
        prompt = ours["prompt_ids"] if whole else []
        expected = {name: [*prompt, *ours[name]] for name in ("chosen_ids", "rejected_ids")}
        if not whole:
            expected["prompt_ids"] = ours["prompt_ids"]
        different = [name for name, ids in expected.items() if list(theirs[name]) != ids]
        if different:
            raise DataError(f"pair {number}: trl makes other tokens than we do ({', '.join(different)})")
