"""What the alarms see: conditions over one line of metrics, each a pure function that says it in words.

Each takes (line, start, settings): the line's metrics, their means over the run's first lines, the limits. It
returns what was seen, with its numbers, or None where its condition does not hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from align.alarms.settings import AlarmSettings

Line = Mapping[str, float]
"""Metric -> value, of one line or, as a start, the mean of the first lines."""

FEWEST_TOKENS_MORE = 10.0
"""Replies of a few tokens double by chance (2 to 4): only a growth of this many tokens more is one."""

FEWEST_NATS_LESS = 1.0
"""A reply that was nearly certain doubles its log-probability by rounding: a fall is at least this large."""

ALIKE = 1e-6
"""Standard deviation of scores, relative to their size, that is rounding in float32."""


def kl_high(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Drift to the reference (nats a reply) above the limit."""
    kl = line["rollout/kl"]
    if kl <= settings.kl_limit:
        return None
    return f"the KL to the reference is {kl:.4g} nats a reply, above {settings.kl_limit:g}"


def kl_negative(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """An estimated KL further below zero than rounding takes it."""
    kl = line["rollout/kl"]
    if kl >= -settings.kl_noise:
        return None
    return f"the KL to the reference is {kl:.4g} nats a reply, below {-settings.kl_noise:g}"


def _score_rose(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """How the mean score rose, where it did by more than noise."""
    before, now = start["rollout/score"], line["rollout/score"]
    if now <= before + settings.score_rise * start["rollout/score_std"]:
        return None
    return f"while the score rose from {before:.4g} to {now:.4g}"


def length_explosion(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """A score that rose while replies grew by a factor."""
    before, now = start["rollout/length"], line["rollout/length"]
    rose = _score_rose(line, start, settings)
    if rose is None or now < max(settings.length_growth * before, before + FEWEST_TOKENS_MORE):
        return None
    return f"replies grew from {before:.4g} to {now:.4g} tokens {rose}"


def repetition(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """A score that rose while distinct token pairs became few (distinct-2, Li et al. 2016)."""
    before, now = start["rollout/distinct_2"], line["rollout/distinct_2"]
    rose = _score_rose(line, start, settings)
    if rose is None or now >= settings.distinct_share * before:
        return None
    return f"the share of distinct token pairs fell from {before:.4g} to {now:.4g} {rose}"


def entropy_collapse(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Entropy (nats a token) at a small part of its start."""
    before, now = start["rollout/entropy"], line["rollout/entropy"]
    if now >= settings.entropy_share * before:
        return None
    return f"entropy fell from {before:.4g} to {now:.4g} nats a token"


def clip_fraction_high(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Ratios outside the clip range, nearly all of them."""
    share = line["policy/clip_fraction"]
    if share <= settings.clip_limit:
        return None
    return f"{share:.1%} of the ratios are clipped, more than {settings.clip_limit:.4g}"


def critic_useless(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Returns that their own mean predicts better than the critic does."""
    explained = line["value/explained_variance"]
    if explained >= settings.value_floor:
        return None
    return f"the values explain {explained:.4g} of the returns' variance, below {settings.value_floor:g}"


def equal_scores(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """No spread between scores, of the iteration or within nearly every prompt."""
    score, spread = line["rollout/score"], line["rollout/score_std"]
    if spread <= ALIKE * max(1.0, abs(score)):
        return f"all replies of an iteration score {score:.4g}"
    groups = line.get("rollout/equal_groups", 0.0)
    if groups > settings.equal_limit:
        return f"{groups:.1%} of the prompts have replies that all score the same"
    return None


def no_reply_ends(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Replies that are cut, nearly all of them."""
    ended = line["rollout/ended"]
    if ended > settings.ended_limit:
        return None
    return f"{ended:.1%} of the replies end by themselves"


def score_out_of_range(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Scores beyond those that the reward model gave pairs it was not trained on."""
    share = line["rollout/score_outside"]
    if share <= settings.outside_limit:
        return None
    return f"{share:.1%} of the scores lie outside what the reward model gave unseen pairs"


def chosen_displaced(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """Chosen log-probabilities (nats a reply) that fell, the implicit reward too, under a larger margin."""
    before, now = start["logps/chosen"], line["logps/chosen"]
    reward_fell = line["rewards/chosen"] < start["rewards/chosen"]
    margin, margin_now = start["rewards/margin"], line["rewards/margin"]
    limit = max(settings.displacement * abs(before), FEWEST_NATS_LESS)
    if before - now <= limit or not reward_fell or margin_now <= margin:
        return None
    return (
        f"log-probabilities of chosen replies fell from {before:.4g} to {now:.4g} nats "
        f"while the margin grew from {margin:.4g} to {margin_now:.4g}"
    )


def server_far(line: Line, start: Line, settings: AlarmSettings) -> str | None:
    """KL of the server that writes the replies to the policy (nats a token) above the limit."""
    far = line["server/kl"]
    if far <= settings.server_limit:
        return None
    left = line["server/effective"]
    return (
        f"the policy lies {far:.4g} nats a token from the server that writes its replies, above "
        f"{settings.server_limit:g}, and unbounded weights would leave {left:.1%} of the tokens"
    )
