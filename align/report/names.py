"""What a metric's name says: ``dpo/gold_win_rate`` is about dpo, and reads ``win rate by gold``."""

from __future__ import annotations

import re
from collections.abc import Sequence

from align.types import Result

WORDS = (
    (r"accuracy", "accuracy"),
    (r"expected_accuracy", "accuracy to be expected"),
    (r"claimed_accuracy", "accuracy that the scores claim"),
    (r"prompt_agreement", "ordered by the reward as by the prompt"),
    (r"bayes_accuracy", "best possible (Bayes)"),
    (r"ties", "pairs scored alike"),
    (r"margin", "score of chosen less rejected"),
    (r"nll", "loss on unseen text (nats a token)"),
    (r"(.+)_reward", r"\1 reward"),
    (r"(.+)_gain", r"\1 reward gained"),
    (r"(.+)_win_rate", r"win rate by \1"),
    (r"(.+)_win_rate_at_equal_length", r"win rate by \1, at equal length"),
    (r"longer_rate", "is the longer reply"),
    (r"score_before", "reward it optimised, before"),
    (r"score_after", "reward it optimised, after"),
    (r"score_gained", "reward it optimised, gained"),
    (r"kl", "drift (KL, nats a reply)"),
    (r"kl_k3", "drift, k3 estimate"),
    (r"length", "length (tokens)"),
    (r"ended", "ended by itself"),
    (r"empty", "empty replies"),
    (r"distinct_2", "distinct token pairs"),
    (r"implicit/accuracy", "pairs ordered right by its own logps"),
    (r"implicit/ties", "pairs it holds alike"),
    (r"implicit/margin", "its implicit reward margin"),
    (r"chosen_longer", "chosen reply is longer"),
    (r"longer_wins", "'longer is better' is right"),
    (r"chosen_characters", "characters of chosen"),
    (r"rejected_characters", "characters of rejected"),
    (r"gap", "log (chosen / rejected length)"),
    (r"gold_accuracy", "the same with gold's labels"),
    (r"score", "score over all sections"),
    (r"section/(.+)", r"section \1"),
    (r"accuracy/(.+)", r"accuracy on \1"),
    (r"ties/(.+)", r"pairs scored alike: \1"),
    (r"tied/(.+)", r"several score highest: \1"),
    (r"win_rate", "win rate"),
    (r"win_rate_at_equal_length", "win rate at equal length"),
    (r"standard_error", "standard error of the win rate"),
    (r"win_rate/(.+)", r"win rate on \1"),
    (r"over_refusal", "safe prompts refused"),
    (r"over_partial_refusal", "safe prompts refused in part"),
    (r"refusal", "unsafe prompts refused"),
    (r"partial_refusal", "unsafe prompts refused in part"),
    (r"over_refusal/(.+)", r"safe prompts refused: \1"),
    (r"refusal/(?:contrast_)?(.+)", r"unsafe prompts refused: \1"),
    (r"prefers_stereotype", "more stereotyping sentence is likelier"),
    (r"prefers_stereotype/(.+)", r"more stereotyping sentence is likelier: \1"),
    (r"prefers_male", "male sentence is likelier"),
    (r"log_likelihood_gap", "by how much (nats)"),
    (r"perplexity", "perplexity (a token)"),
    (r"bits_per_byte", "bits a byte"),
    (r"bleu", "BLEU"),
    (r"reply_length", "length (tokens)"),
    (r"characters", "length (characters)"),
    (r"plain_accuracy", "accuracy on pairs as they are"),
    (r"plain_ties", "pairs scored alike, as they are"),
    (r"(typos|paraphrase)_accuracy", r"accuracy with \1"),
    (r"(typos|paraphrase)_accuracy_drop", r"accuracy lost to \1"),
    (r"(typos|paraphrase)_flips", r"decisions turned round by \1"),
    (r"(typos|paraphrase)_undecided", r"scored alike before or after \1"),
    (r"(typos|paraphrase)_unchanged", r"pairs that \1 cannot change"),
    (r"judge_ties", "judge sees a tie"),
    (r"judge_orders_disagree", "judge: orders disagree"),
    (r"judge_unreadable", "judge: answer cannot be read"),
    (r"judge_question_too_long", "judge: question too long"),
    (r"judge_empty_reply", "judge: a reply is empty"),
    (r"judge_same_replies", "judge: replies are the same"),
    (r"alarms", "alarms raised"),
    (r"alarms/(.+)", r"alarms raised: \1"),
)
"""The part of a metric's name after the slash, and what a person reads, in the order of the table.

Names that are not here stand as they are, at the end of their group.
"""


def subject(result: Result) -> str:
    """What a result is about: the part of its name before the slash (``dpo``), or nothing."""
    return result.metric.split("/", maxsplit=1)[0] if "/" in result.metric else ""


def measure(result: Result) -> str:
    """What was measured: the part of its name after the slash."""
    return result.metric.split("/", maxsplit=1)[-1]


def in_words(result: Result) -> str:
    """What was measured as a person reads it; a name without words stands as it is."""
    for pattern, words in WORDS:
        match = re.fullmatch(pattern, measure(result))
        if match:
            return match.expand(words)
    return measure(result)


def rank(result: Result) -> int:
    """The result's place within its group."""
    ranks = (place for place, (pattern, _) in enumerate(WORDS) if re.fullmatch(pattern, measure(result)))
    return next(ranks, len(WORDS))


def compares(result: Result) -> bool:
    """Whether it sets a policy against a reference."""
    return measure(result).endswith(("_win_rate", "_gain")) or measure(result) == "kl"


def reference_of(results: Sequence[Result]) -> str | None:
    """The one policy that is measured but compared with nothing; None where that is not one."""
    measured = {subject(result) for result in results if measure(result) == "length"}
    alone = measured - {subject(result) for result in results if compares(result)}
    return alone.pop() if len(alone) == 1 else None
