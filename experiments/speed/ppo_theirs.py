"""trl's side of PPO: the trainer of 1.12.0, its last one, on the same prompts in the same order.

It is installed beside the environment (``make trl-ppo``), and found first in this process alone. Its best
settings for this work: SDPA attention, fused AdamW, no gradient checkpointing, a whole minibatch at a time,
all of a rollout sampled and judged at once, no samples shown, nothing saved. Told to accumulate gradients, it
takes one optimiser step an epoch where four are meant, so it accumulates none.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from datasets import Dataset
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    TrainerCallback,
)

from align.errors import DataError
from experiments.speed.work import TRL_PPO, Job, Work, prompts_of, require_trl_ppo


def _trl() -> Any:
    """Its module, from the folder beside the environment."""
    require_trl_ppo()
    sys.path.insert(0, str(TRL_PPO))
    return importlib.import_module("trl.experimental.ppo.ppo_trainer")


trl_ppo = _trl()


def measure(job: Job) -> dict[str, Any]:
    """Trains by ``PPOTrainer``; ``seconds`` are those of its loop.

    Raises:
        DataError: it did not sample from all of the prompts.
    """
    rows = prompts_of(job.world, job.what)
    expected = sum(map(len, rows))
    watch = _Watch()
    trainer = _trainer(job, rows, watch)
    with watch.sampling():
        trainer.train()
    if watch.prompt_tokens != expected:
        raise DataError(f"trl sampled from {watch.prompt_tokens} tokens of prompts, not {expected}")
    lines = [line for line in trainer.state.log_history if "loss/value_avg" in line]
    return {
        "episodes": len(lines) * job.work.rollout,
        "seconds": watch.seconds,
        "prompt_tokens": watch.prompt_tokens,
        "sampled_tokens": watch.sampled_tokens,
        "optimiser_steps": watch.optimiser_steps,
        "score": sum(line["objective/scores"] for line in lines) / len(lines),
        "value_loss": sum(line["loss/value_avg"] for line in lines) / len(lines),
        "phases": {"sample": watch.sampling_seconds},
        "attention": trainer.policy_model.config._attn_implementation,
        "trl": importlib.import_module("trl").__version__,
    }


class _Watch(TrainerCallback):  # type: ignore[misc]
    """The clock of the loop, as ours counts; and what was done in it."""

    def __init__(self) -> None:
        self.began = self.seconds = self.sampling_seconds = 0.0
        self.prompt_tokens = self.sampled_tokens = self.optimiser_steps = 0

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.began = _now()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds = _now() - self.began

    def count_step(self, *args: Any, **kwargs: Any) -> None:
        """A hook of the optimiser."""
        self.optimiser_steps += 1

    def sampling(self) -> Any:
        """Inside, the function that samples a rollout is timed, and its tokens are counted."""
        inner = trl_ppo.batch_generation

        def batch_generation(model: Any, queries: Any, size: int, pad: int, config: Any) -> Any:
            began = _now()
            found = inner(model, queries, size, pad, config)
            self.sampling_seconds += _now() - began
            self.prompt_tokens += int((queries != pad).sum())
            self.sampled_tokens += int((found[0][:, queries.shape[1] :] != pad).sum())
            return found

        return patch.object(trl_ppo, "batch_generation", batch_generation)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _trainer(job: Job, rows: list[list[int]], watch: _Watch) -> Any:
    work, start, scalar = job.work, job.world / "ppo_policy", job.world / job.what / "scalar"
    # what is not trained needs no weights in float32
    frozen = torch.bfloat16 if work.precision == "bfloat16" else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(start, padding_side="left")
    collate = DataCollatorWithPadding(tokenizer)
    prompts = Dataset.from_list([{"input_ids": row} for row in rows])
    trainer = trl_ppo.PPOTrainer(
        args=trl_ppo.PPOConfig(**_arguments(work, job.directory)),
        processing_class=tokenizer,
        model=_opened(AutoModelForCausalLM, start, torch.float32),
        ref_model=_opened(AutoModelForCausalLM, start, frozen),
        reward_model=_opened(AutoModelForSequenceClassification, scalar, frozen),
        value_model=_opened(AutoModelForSequenceClassification, scalar, torch.float32),
        train_dataset=prompts,
        data_collator=collate,
        # it makes a loader of it, and asks for nothing: no sample is generated
        eval_dataset=prompts,
        callbacks=[watch],
    )
    trainer.optimizer.optimizer.register_step_post_hook(watch.count_step)
    # its own loader shuffles; this one draws what we draw
    loader = DataLoader(prompts, batch_size=work.rollout, shuffle=False, collate_fn=collate)
    trainer.dataloader = trainer.accelerator.prepare(loader)
    return trainer


def _opened(auto: Any, folder: Path, dtype: torch.dtype) -> Any:
    return auto.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")


def _arguments(work: Work, directory: Path) -> dict[str, Any]:
    return {
        "output_dir": str(directory),
        "total_episodes": work.episodes,
        "per_device_train_batch_size": work.rollout,
        "gradient_accumulation_steps": 1,
        "local_rollout_forward_batch_size": work.rollout,
        "num_mini_batches": work.minibatches,
        "num_ppo_epochs": work.epochs,
        "response_length": work.reply,
        "stop_token": None,
        "temperature": 1.0,
        "missing_eos_penalty": None,
        "whiten_rewards": False,
        "kl_coef": 0.05,
        "kl_estimator": "k1",
        "cliprange": 0.2,
        "vf_coef": 0.1,
        "cliprange_value": 0.2,
        "gamma": 1.0,
        "lam": 0.95,
        "num_sample_generations": 0,
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "weight_decay": 0.0,
        "gradient_checkpointing": False,
        "bf16": work.precision == "bfloat16",
        "use_cpu": work.device == "cpu",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": work.seed,
    }
