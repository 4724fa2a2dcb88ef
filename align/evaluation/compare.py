"""Two policies on the same prompts: scores, wins, lengths, endings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from align.errors import DataError
from align.evaluation.statistics import finite, mean, paired_difference, paired_win_rate, proportion
from align.tensors import SampledReply
from align.types import Prompt, Result


@dataclass(frozen=True)
class Answers:
    """One policy's replies to a list of prompts, one a prompt, in their order.

    ``label`` names the policy in metrics (``sft``, ``dpo``); ``scores`` (B,) are a reward model's, or None
    where there is nothing to score with.
    """

    label: str
    replies: Sequence[SampledReply]
    scores: Sequence[float] | None = None


def compare(prompts: Sequence[Prompt], policy: Answers, reference: Answers, reward: str) -> list[Result]:
    """A policy against a reference; ``reward`` names who scored (``gold``).

    * ``<label>/<reward>_reward`` of each: mean score.
    * ``<policy>/<reward>_gain``: mean score difference, prompt by prompt.
    * ``<policy>/<reward>_win_rate``: share of prompts on which the policy's reply scores higher, ties half;
      prompts with an empty reply of either are left out, and counted in ``<label>/empty``.
    * ``<policy>/longer_rate``: share on which its reply is longer in tokens, ties half: the control beside
      the win rate, since many judges are won by length.
    * ``<label>/length`` (tokens), ``<label>/ended`` (share that ended by themselves), ``<label>/empty``
      (share of blank replies) and ``<label>/distinct_2`` of each.

    The first four are left out where neither has scores, and the win rate where no prompt has two replies.
    Intervals treat each distinct prompt as one unit.

    Raises:
        DataError: labels alike, numbers of replies or scores that differ, scores of one side only.
        NonFiniteError: a score is NaN or infinite.
    """
    _check(prompts, policy, reference)
    by_prompt = None if len(set(prompts)) == len(prompts) else list(prompts)
    results = []
    if policy.scores is not None and reference.scores is not None:
        ours, theirs = policy.scores, reference.scores
        results = [
            mean(f"{reference.label}/{reward}_reward", theirs, by_prompt),
            mean(f"{policy.label}/{reward}_reward", ours, by_prompt),
            paired_difference(f"{policy.label}/{reward}_gain", ours, theirs, by_prompt),
            *_win_rate(f"{policy.label}/{reward}_win_rate", prompts, policy, reference),
        ]
    results.append(
        paired_win_rate(f"{policy.label}/longer_rate", _lengths(policy), _lengths(reference), by_prompt)
    )
    return results + describe(prompts, reference) + describe(prompts, policy)


def _win_rate(metric: str, prompts: Sequence[Prompt], policy: Answers, reference: Answers) -> list[Result]:
    """Over the prompts to which both replied; nothing where there is none."""
    assert policy.scores is not None, "unscored answers"
    assert reference.scores is not None, "unscored answers"
    columns = zip(prompts, policy.replies, reference.replies, policy.scores, reference.scores, strict=True)
    kept = [
        (prompt, ours, theirs)
        for prompt, one, other, ours, theirs in columns
        if one.text.strip() and other.text.strip()
    ]
    if not kept:
        return []
    asked, ours, theirs = (list(column) for column in zip(*kept, strict=True))
    by_prompt = None if len(set(asked)) == len(asked) else asked
    return [paired_win_rate(metric, ours, theirs, by_prompt)]


def describe(prompts: Sequence[Prompt], answers: Answers) -> list[Result]:
    """What needs no second policy: ``<label>/length``, ``ended``, ``empty`` and ``distinct_2``."""
    by_prompt = None if len(set(prompts)) == len(prompts) else list(prompts)
    return [
        mean(f"{answers.label}/length", _lengths(answers), by_prompt),
        proportion(f"{answers.label}/ended", [reply.ended for reply in answers.replies], by_prompt),
        proportion(
            f"{answers.label}/empty", [not reply.text.strip() for reply in answers.replies], by_prompt
        ),
        distinct(f"{answers.label}/distinct_2", [reply.token_ids for reply in answers.replies], size=2),
    ]


def distinct(metric: str, replies: Sequence[Sequence[int]], size: int) -> Result:
    """Distinct over all runs of ``size`` tokens (Li et al. 2016): low where replies say the same again.

    It falls as replies are added, so it compares only between equal numbers of replies; it has no
    interval. 1 where no reply is that long.
    """
    runs = [tuple(ids[i : i + size]) for ids in replies for i in range(len(ids) - size + 1)]
    return Result(metric, len(set(runs)) / len(runs) if runs else 1.0, len(replies), None, None, "exact")


def sample_rows(prompts: Sequence[Prompt], answers: Sequence[Answers], reward: str) -> list[dict[str, Any]]:
    """One row of ``samples.jsonl`` a prompt: its messages and each policy's reply, side by side."""
    return [
        {
            "prompt": [{"role": message.role, "content": message.content} for message in prompt],
            "replies": {one.label: _reply_row(one, index, reward) for one in answers},
        }
        for index, prompt in enumerate(prompts)
    ]


def _reply_row(answers: Answers, index: int, reward: str) -> Mapping[str, Any]:
    reply = answers.replies[index]
    row = {"text": reply.text, "tokens": len(reply.token_ids), "ended": reply.ended}
    return row if answers.scores is None else row | {"scores": {reward: answers.scores[index]}}


def _lengths(answers: Answers) -> list[int]:
    return [len(reply.token_ids) for reply in answers.replies]


def _check(prompts: Sequence[Prompt], policy: Answers, reference: Answers) -> None:
    if policy.label == reference.label:
        raise DataError(f"both policies are called '{policy.label}': give them labels that differ")
    for one in (policy, reference):
        if len(one.replies) != len(prompts):
            raise DataError(f"{one.label}: {len(one.replies)} replies to {len(prompts)} prompts")
        if one.scores is not None and len(finite(one.scores, f"{one.label} scores")) != len(prompts):
            raise DataError(f"{one.label}: {len(one.scores)} scores of {len(prompts)} replies")
    if (policy.scores is None) != (reference.scores is None):
        raise DataError(f"'{policy.label}' and '{reference.label}': score both or neither")
