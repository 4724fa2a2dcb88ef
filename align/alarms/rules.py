"""The alarms: which condition raises each, what is usually behind it, and what to try.

A rule judges one line; the watch asks for several such lines in a row. The metrics that a rule reads decide
which runs it watches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from align.alarms import conditions
from align.alarms.conditions import Line
from align.alarms.settings import AlarmName, AlarmSettings


@dataclass(frozen=True)
class Rule:
    """One alarm."""

    name: AlarmName
    when: str
    """The condition in one line."""
    cause: str
    """What is usually behind it."""
    attempt: str
    """Settings to try; options are written as they are typed."""
    why: str
    """Where the thresholds come from."""
    reads: tuple[str, ...]
    """Metrics that a line must have to be judged."""
    sees: Callable[[Line, Line, AlarmSettings], str | None]
    """(line, start, settings) -> what was seen, with its numbers; None where the condition does not hold."""
    thresholds: tuple[str, ...]
    """Fields of ``AlarmSettings`` that it looks at, ``window`` or ``patience`` among them."""
    from_start: tuple[str, ...] = ()
    """Metrics of which it needs the mean over the first lines; it says nothing before there are enough."""

    def lines_needed(self, settings: AlarmSettings) -> int:
        """Lines in a row on which the condition holds before the alarm is raised."""
        return settings.patience if "patience" in self.thresholds else settings.window


_SCORE = ("rollout/score", "rollout/score_std")
_PAIR = ("logps/chosen", "rewards/chosen", "rewards/margin")

RULES = (
    Rule(
        name="kl_high",
        when="the KL to the reference lies above a limit",
        cause=(
            "the penalty is too weak for this reward, or the learning rate too high: the policy "
            "leaves the text that the reward model was trained on"
        ),
        attempt=("a larger kl.coef or kl.controller=adaptive, a lower training.learning_rate, fewer steps"),
        why=(
            "gold reward peaks at some tens of nats and falls beyond while the proxy's still "
            "rises (Gao et al. 2022, figure 1). Nats add up over a reply: raise it for replies of "
            "many hundred tokens"
        ),
        reads=("rollout/kl",),
        sees=conditions.kl_high,
        thresholds=("kl_limit", "window"),
    ),
    Rule(
        name="kl_negative",
        when="the KL to the reference lies below zero for long",
        cause=(
            "no KL is negative: replies are not drawn from the distribution whose log-probabilities "
            "are compared (a temperature on one side, dropout, a suppressed end, padding that "
            "counts), and the policy is paid for widening the gap"
        ),
        attempt=(
            "rollout.old_logps=recomputed; rollout/logps_gap shows whether the pass that samples and the "
            "one that trains agree, and lies near 0 where they do"
        ),
        why=(
            "the mean over a batch of replies is an unbiased estimate and may fall below zero by "
            "chance, most of all near the start; many times in a row and by more than rounding it "
            "does not"
        ),
        reads=("rollout/kl",),
        sees=conditions.kl_negative,
        thresholds=("kl_noise", "patience"),
    ),
    Rule(
        name="length_explosion",
        when="the score rises while replies become much longer than they were",
        cause="the reward model prefers long replies whatever they say",
        attempt=(
            "a larger kl.coef, score.missing_end=subtract, a lower sampling.max_new_tokens, a "
            "reward model from pairs of like length"
        ),
        why=(
            "some growth is usual, and most of what RLHF gains in reward can be length (Singhal "
            "et al. 2023); a doubling on the same prompts should be looked at"
        ),
        reads=("rollout/length", *_SCORE),
        sees=conditions.length_explosion,
        thresholds=("length_growth", "score_rise", "window"),
        from_start=("rollout/length", *_SCORE),
    ),
    Rule(
        name="repetition",
        when="the score rises while replies repeat much more than they did",
        cause=(
            "the policy has found a phrase that the reward model overrates, and says it again or to everybody"
        ),
        attempt=(
            "a larger kl.coef, a lower training.learning_rate, objective.entropy_coef above 0, a "
            "reward model that was shown such replies as rejected ones"
        ),
        why=(
            "a policy that improves becomes more alike by itself (in the embedded world DPO takes "
            "a fifth off), and longer replies hold fewer distinct pairs a token; half is beyond "
            "both"
        ),
        reads=("rollout/distinct_2", *_SCORE),
        sees=conditions.repetition,
        thresholds=("distinct_share", "score_rise", "window"),
        from_start=("rollout/distinct_2", *_SCORE),
    ),
    Rule(
        name="entropy_collapse",
        when="the policy's entropy falls to a small part of what it was",
        cause=(
            "too large steps on too little signal: the policy is nearly deterministic, tries "
            "nothing new, and the replies of a group become the same"
        ),
        attempt=(
            "a lower training.learning_rate, a larger kl.coef, objective.entropy_coef above 0, "
            "sampling.temperature=1"
        ),
        why=(
            "entropy falls in every run that learns; at a tenth of it, next to nothing is left to choose from"
        ),
        reads=("rollout/entropy",),
        sees=conditions.entropy_collapse,
        thresholds=("entropy_share", "window"),
        from_start=("rollout/entropy",),
    ),
    Rule(
        name="clip_fraction_high",
        when="nearly all ratios lie outside the clip range",
        cause=(
            "steps are too large, one rollout is used too often, or the old log-probabilities are "
            "another policy's (dropout, temperature, precision)"
        ),
        attempt=(
            "a lower training.learning_rate, fewer objective.epochs, objective.target_kl, "
            "rollout.old_logps=recomputed: there the first minibatch has a ratio of 1 and clips "
            "nothing (Huang et al. 2024)"
        ),
        why=(
            "a sound run clips up to about thirty per cent; tokens beyond the clip have no "
            "gradient, so that near 1 nothing is learnt"
        ),
        reads=("policy/clip_fraction",),
        sees=conditions.clip_fraction_high,
        thresholds=("clip_limit", "window"),
    ),
    Rule(
        name="critic_useless",
        when="the critic predicts returns worse than their own mean does, for long",
        cause=(
            "a critic from scratch with too few updates, scores whose scale moves, or values "
            "clipped too tightly: the baseline adds noise to the advantages instead of removing "
            "it"
        ),
        attempt=(
            "critic.kind=separate with a reward model's run as critic.path, "
            "score.normalise=standard, a larger critic.value_clip or critic.value_coef; or "
            "stage=rloo, which needs no critic"
        ),
        why=(
            "an explained variance of 0 is what a constant reaches; a fresh critic lies below it "
            "for some iterations"
        ),
        reads=("value/explained_variance",),
        sees=conditions.critic_useless,
        thresholds=("value_floor", "patience"),
    ),
    Rule(
        name="equal_scores",
        when="all replies score the same, or those of nearly every prompt do",
        cause=(
            "a rule or judge that always answers alike, a reward model whose head was not loaded; "
            "in groups, prompts that are all too easy or too hard: the advantages are zero"
        ),
        attempt=(
            "score a few replies by hand; other prompts, more rollout.replies, a higher sampling.temperature"
        ),
        why=(
            "scores of different replies differ by more than rounding; of groups, a share of 0.95 "
            "leaves one prompt in twenty to learn from"
        ),
        reads=_SCORE,
        sees=conditions.equal_scores,
        thresholds=("equal_limit", "window"),
    ),
    Rule(
        name="no_reply_ends",
        when="hardly any reply ends by itself",
        cause=(
            "replies are cut before they can end, or the end was never learnt (another chat "
            "template, an end that is padding in the loss), so that a score judges half a reply"
        ),
        attempt=(
            "a larger sampling.max_new_tokens, stage=sft with the same template first, "
            "score.missing_end=subtract; where replies are cut on purpose, "
            "alarms.ignored=[no_reply_ends]"
        ),
        why="a policy that can end does so more often than once in fifty",
        reads=("rollout/ended",),
        sees=conditions.no_reply_ends,
        thresholds=("ended_limit", "window"),
    ),
    Rule(
        name="score_out_of_range",
        when="many scores lie outside those that the reward model gave unseen pairs",
        cause="the policy writes what the reward model has never seen, and its scores there are guesses",
        attempt=(
            "a larger kl.coef, score.clip, reward=ensemble, fresh pairs from this policy to train "
            "the reward model on"
        ),
        why=(
            "of unseen pairs two replies in a thousand lie outside, and more are improvement; where a "
            "fifth does, the optimum lies outside the data (over-optimisation, Gao et al. 2022)"
        ),
        reads=("rollout/score_outside",),
        sees=conditions.score_out_of_range,
        thresholds=("outside_limit", "window"),
    ),
    Rule(
        name="chosen_displaced",
        when="chosen replies become much less likely while the margin grows",
        cause=(
            "the margin is made by pushing both replies down, the rejected one further: usual in "
            "DPO and no fault by itself, but the probability may go to replies that nobody has "
            "judged, most of all where the two replies are alike"
        ),
        attempt=(
            "a larger loss.beta, loss=mixture with a share of sft, loss=apo_zero, a lower "
            "training.learning_rate; leave out pairs whose replies are nearly the same"
        ),
        why=(
            "likelihood displacement (Razin et al. 2024). Twice the nats is the perplexity squared, "
            "whatever the reply's length; sound DPO runs in the embedded world get to 1.6 times"
        ),
        reads=_PAIR,
        sees=conditions.chosen_displaced,
        thresholds=("displacement", "window"),
        from_start=_PAIR,
    ),
    Rule(
        name="server_far",
        when="the policy lies far from the server that writes its replies",
        cause=(
            "the server has other weights than the policy: it loads none or too seldom, it said that it had "
            "loaded them and did not, it keeps prompts that older weights read, or it serves another model"
        ),
        attempt=(
            "serving.reload=vllm or another that the server knows, a lower serving.refresh_every; right "
            "after a hand-over (server/age 0) server/kl is what the server's arithmetic makes, so that a "
            "large one there says that nothing was loaded"
        ),
        why=(
            "the same weights under another kernel or in bfloat16 lie some thousandths of a nat a token "
            "apart; at a tenth, a reply of fifty tokens is e to the fifth less likely to the policy than to "
            "the server, and the bounded weights (rollout.importance_cap) no longer make up for it"
        ),
        reads=("server/kl", "server/effective"),
        sees=conditions.server_far,
        thresholds=("server_limit", "window"),
    ),
)
"""Every alarm, in the order of the page."""
