"""Best of n: sample replies, score them, keep the best of each prompt as a set to fine-tune on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from align.errors import ConfigError
from align.models.settings import ModelSettings
from align.protocols import RewardModel
from align.settings import BestOfNSettings, DatasetSettings, SamplingSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["BestOfN"]


@dataclass(frozen=True)
class BestOfN:
    """``stage=best_of_n``: rejection sampling from a policy by a reward (Stiennon et al. 2020)."""

    many_ranks: ClassVar[bool] = True
    model: ModelSettings
    dataset: DatasetSettings
    reward: RewardModel
    best_of_n: BestOfNSettings = field(default_factory=BestOfNSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)

    def __post_init__(self) -> None:
        if self.sampling.max_new_tokens >= self.model.max_length:
            raise ConfigError(
                f"sampling.max_new_tokens={self.sampling.max_new_tokens} leaves no room for a prompt in "
                f"model.max_length={self.model.max_length}: lower the one or raise the other"
            )
        if self.sampling.temperature == 0:
            raise ConfigError("sampling.temperature=0 draws n times the same reply: give more than 0")

    def execute(self, run: Run) -> None:
        """Writes pools.jsonl (every reply), demonstrations.jsonl (the best), samples.jsonl and results.json.

        ``demonstrations.jsonl`` is what ``stage=sft dataset=demonstrations dataset.path=...`` trains on.
        """
        from align.distributed.world import led
        from align.evaluation.policies import rewards
        from align.generation.pools import drawn_pools
        from align.pairs.prompts import read_prompts
        from align.report.console import Progress, say
        from align.report.files import write_samples
        from align.report.terminal import print_summary
        from align.stages._common import open_reward, open_to_sample
        from align.stages._pools import drawer, pool_results, pool_samples, refuse_others, write_best

        settings, before = self.best_of_n, dict(run.inputs())
        policy = open_to_sample(run, "model", self.model)
        judges = rewards(self.dataset.source, self.reward)
        scorers = {name: open_reward(run, reward) for name, reward in judges.items()}
        chooser = next(name for name, reward in judges.items() if reward is self.reward)
        asked = led(lambda: read_prompts(self.dataset, settings.split, run.directory, settings.prompts))
        run.note_input("data", getattr(self.dataset.source, "path", None), asked.fingerprint)
        path = run.directory / "pools.jsonl"
        refuse_others(path, before, run.inputs())
        say(f"{len(asked.prompts)} prompts, {settings.n} replies to each and one to compare with")
        replies = len(asked.prompts) * (settings.n + 1)
        with Progress("sampling", replies) as bar:
            draw = drawer(policy, scorers, self.sampling, settings.n + 1, bar.advance)
            pools = drawn_pools(path, asked.prompts, settings.chunk, run.seed, draw)
        kept = run.directory / "demonstrations.jsonl"
        count = led(lambda: write_best(kept, pools, chooser))
        say(f"{count} of {len(pools)} prompts have a best reply that ended by itself: {kept}")
        run.note(best_of_n={"prompts": len(pools), "without_a_finished_reply": len(pools) - count})
        run.offer("demonstrations", kept, f"best-of-{settings.n}", prompts=count)
        results = pool_results(pools, chooser)
        rows: list[dict[str, Any]] = pool_samples(pools, chooser)
        write_samples(run.directory / "samples.jsonl", rows)
        run.write_results(results)
        if not run.is_step:
            print_summary(results, rows, {"demonstrations": kept, "results": run.directory / "results.json"})
