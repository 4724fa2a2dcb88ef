"""What ``stage=best_of_n`` makes of pools of replies: the best of each, and what choosing among n brings.

The first n replies of a pool are chosen among; the last one stands apart, as the single sample that they are
compared with.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from align.distributed.world import led
from align.errors import CheckpointError
from align.evaluation.best_of_n import best_of_n_kl, chances, expected_best
from align.evaluation.compare import Answers, sample_rows
from align.evaluation.policies import prompt_tokens, scores_of
from align.evaluation.statistics import finite, mean
from align.files import written_aside
from align.generation.local import sample_tokens
from align.generation.pools import Draw, Pool, finished_places, prompt_messages
from align.models.policy import Policy
from align.protocols import Scorer
from align.settings import SamplingSettings
from align.types import Prompt, Result


def drawer(
    policy: Policy,
    scorers: Mapping[str, Scorer],
    sampling: SamplingSettings,
    per_prompt: int,
    advance: Callable[[int], None],
) -> Draw:
    """What samples and scores a chunk: ``per_prompt`` replies to each of its prompts."""
    room = policy.max_length - sampling.max_new_tokens

    def draw(prompts: Sequence[Prompt], seed: int) -> list[Pool]:
        each = [prompt for prompt in prompts for _ in range(per_prompt)]
        ids = [one for one in prompt_tokens(policy, prompts, room) for _ in range(per_prompt)]
        replies = sample_tokens(policy, ids, sampling, seed, advance)
        texts = [reply.text for reply in replies]
        scores = {
            name: finite(scores_of(scorer, each, texts), f"the scores of {name}").tolist()
            for name, scorer in scorers.items()
        }
        return [
            Pool(
                prompt,
                tuple(replies[start : start + per_prompt]),
                {name: tuple(values[start : start + per_prompt]) for name, values in scores.items()},
            )
            for start, prompt in zip(range(0, len(each), per_prompt), prompts, strict=True)
        ]

    return draw


def best(pool: Pool, chooser: str) -> int | None:
    """Place of the highest score among a pool's finished replies, the first of equals; None without one."""
    scores = pool.scores[chooser][:-1]
    finished = finished_places([(reply.text, reply.ended) for reply in pool.replies[:-1]])
    return max(finished, key=lambda place: (scores[place], -place), default=None)


def write_best(path: Path, pools: Sequence[Pool], chooser: str) -> int:
    """Writes each prompt's best reply in trl's prompt-completion format; returns how many there are."""
    count = 0
    with written_aside(path) as file:
        for pool in pools:
            place = best(pool, chooser)
            if place is None:
                continue
            count += 1
            row = {
                "prompt": prompt_messages(pool.prompt),
                "completion": [{"role": "assistant", "content": pool.replies[place].text}],
                "score": pool.scores[chooser][place],
                "of": len(pool.replies) - 1,
            }
            file.write(json.dumps(row).encode() + b"\n")
    return count


def pool_results(pools: Sequence[Pool], chooser: str) -> list[Result]:
    """For n = 1, 2, 4 ... and all: what the best of n by ``chooser`` is worth, and how far it lies.

    ``best_of_<n>/<who>_reward`` by each that scored, ``<who>_win_rate`` against the single sample, ties half,
    ``length`` in tokens, and ``kl``, the bound log n - (n-1)/n in nats (``align.evaluation.best_of_n``). Each
    is a mean over prompts of an estimate from the whole pool that has no bias (Nakano et al. 2021).
    """
    most = len(pools[0].replies) - 1
    sizes = sorted({*(1 << power for power in range(most.bit_length()) if 1 << power <= most), most})
    results: list[Result] = []
    for n in sizes:
        label = f"best_of_{n}"
        for who in pools[0].scores:
            results.append(mean(f"{label}/{who}_reward", [_worth(one, chooser, n, who) for one in pools]))
        for who in pools[0].scores:
            results.append(mean(f"{label}/{who}_win_rate", [_wins(one, chooser, n, who) for one in pools]))
        results.append(mean(f"{label}/length", [_length(one, chooser, n) for one in pools]))
        results.append(Result(f"{label}/kl", best_of_n_kl(n), len(pools), None, None, "exact"))
    return results


def pool_samples(pools: Sequence[Pool], chooser: str) -> list[dict[str, Any]]:
    """Rows of ``samples.jsonl``: the single sample beside the best of all, cut replies among them."""
    prompts = [pool.prompt for pool in pools]
    places = [int(np.argmax(pool.scores[chooser][:-1])) for pool in pools]
    answers = []
    for label, chosen in (("single", [-1] * len(pools)), (f"best_of_{len(pools[0].replies) - 1}", places)):
        replies = [pool.replies[place] for pool, place in zip(pools, chosen, strict=True)]
        scores = [pool.scores[chooser][place] for pool, place in zip(pools, chosen, strict=True)]
        answers.append(Answers(label, replies, scores))
    return sample_rows(prompts, answers, chooser)


def refuse_others(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises ``CheckpointError`` where replies lie at ``path`` that another policy or reward has made.

    On rank 0, which writes them; another rank that looked might find what rank 0 has begun just now.
    """
    led(lambda: _refuse_others(path, before, now))


def _refuse_others(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if not path.exists():
        return
    for role in sorted(before.keys() | now.keys()):
        one, other = (inputs.get(role, {}).get("sha256") for inputs in (before, now))
        # the data are held against the file prompt by prompt
        if one != other and role != "data":
            raise CheckpointError(
                f"{path} was made with another {role}, which has changed since: give another run.dir"
            )


def _worth(pool: Pool, chooser: str, n: int, who: str) -> float:
    return expected_best(pool.scores[chooser][:-1], n, pool.scores[who][:-1])


def _wins(pool: Pool, chooser: str, n: int, who: str) -> float:
    """P(the best of n scores above the single sample), a tie counted half."""
    *mine, single = pool.scores[who]
    ahead = (np.sign(np.array(mine) - single) + 1) / 2
    return float(chances(pool.scores[chooser][:-1], n) @ ahead)


def _length(pool: Pool, chooser: str, n: int) -> float:
    lengths = [len(reply.token_ids) for reply in pool.replies[:-1]]
    return expected_best(pool.scores[chooser][:-1], n, lengths)
