"""Perplexity, overlap and diversity, against plain passes and the packages' own numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from stand_ins import Made, ask, sampled, tiny_policy, values

from align.benchmarks.diversity import Diversity
from align.benchmarks.overlap import Overlap
from align.benchmarks.perplexity import Perplexity
from align.collect._bench import Candidates
from align.errors import DataError
from align.types import Reply

TALKS = (
    ("Who could pay?", "The patient could pay."),
    ("Who could pay?", "She."),
    ("Are they poor?", "They are poor, but the nurse is not."),
)
RECORDS = [Candidates(ask(prompt), (Reply(reply),)) for prompt, reply in TALKS]


def one_pass(max_length: int) -> list[tuple[float, int]]:
    """Nats and tokens of each reply, from all logits of its unpadded text."""
    policy, found = tiny_policy(max_length), []
    for prompt, text in TALKS:
        reply = policy.chat.reply_ids(ask(prompt), text).tolist()
        start = policy.chat.prompt_ids(ask(prompt)).tolist()[-(max_length - len(reply)) :]
        ids = torch.tensor([start + reply])
        with torch.no_grad():
            logps = policy.model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)
        own = logps[0, :-1].gather(-1, ids[0, 1:, None])[:, 0][len(start) - 1 :]
        assert len(own) == len(reply)
        found.append((-float(own.sum()), len(reply)))
    return found


@pytest.mark.parametrize("cut", [False, True], ids=["whole prompts", "cut prompts"])
def test_perplexity_is_the_exponential_of_nats_a_token(cut: bool) -> None:
    """Token by token over all replies; with as little room that prompts lose their oldest tokens."""
    longest = max(tokens for _, tokens in one_pass(256))
    length = longest + 2 if cut else 256
    alone = one_pass(length)
    measured = Perplexity().measure("p", Made(policy=tiny_policy(length), records=RECORDS))
    nats, tokens = (sum(column) for column in zip(*alone, strict=True))
    found = values(measured.results)
    size = sum(len(reply.encode()) for _, reply in TALKS)
    assert found["p/nll"] == pytest.approx(nats / tokens, abs=1e-5)
    assert found["p/perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert found["p/bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert found["p/too_long"] == 0.0
    assert {one.n for one in measured.results[:3]} == {2}, "two prompts"


def test_a_reply_without_room_is_counted_and_in_no_mean() -> None:
    alone = one_pass(256)
    longest = max(tokens for _, tokens in alone)
    measured = Perplexity().measure("p", Made(policy=tiny_policy(longest), records=RECORDS))
    assert values(measured.results)["p/too_long"] == pytest.approx(1 / 3)
    assert len(measured.items) == 2
    with pytest.raises(DataError, match="every reply has 2 tokens or more"):
        Perplexity().measure("p", Made(policy=tiny_policy(2), records=RECORDS))


REPLIES = {
    "Who could pay?": "The patient could pay it.",
    "Are they poor?": "They are poor but not stupid",
    "Why?": " ",
}
PROMPTS = [ask(text) for text in REPLIES]
REFERENCES = [*RECORDS, Candidates(ask("Why?"), (Reply("Because."),))]


def replying(**more: Any) -> Made:
    return Made(reply=REPLIES.__getitem__, prompts=PROMPTS, records=REFERENCES, **more)


def test_bleu_and_rouge_are_the_packages() -> None:
    """Of the two replies that are there, the first with two references."""
    sacrebleu = pytest.importorskip("sacrebleu")
    scoring = pytest.importorskip("rouge_score.rouge_scorer")
    found = values(Overlap().measure("o", replying()).results)
    texts = [REPLIES["Who could pay?"], REPLIES["Are they poor?"]]
    references = [[TALKS[0][1], TALKS[2][1]], [TALKS[1][1], None]]
    assert found["o/bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, references).score, abs=1e-9)
    assert 0 < found["o/bleu"] < 100
    scorer = scoring.RougeScorer(["rouge1", "rouge2", "rougeL"])
    for kind in ("rouge1", "rouge2", "rougeL"):
        best = [
            max(scorer.score(one, text)[kind].fmeasure for one in own)
            for text, own in zip(texts, [[TALKS[0][1], TALKS[1][1]], [TALKS[2][1]]], strict=True)
        ]
        assert found[f"o/{kind}"] == pytest.approx(np.mean(best))
    assert (found["o/empty"], found["o/no_reference"]) == (pytest.approx(1 / 3), 0.0)


def test_a_prompt_without_a_reference_is_counted_and_in_no_mean() -> None:
    """The last prompt's blank reply and the second's missing reference leave one: of that alone."""
    pytest.importorskip("sacrebleu")
    made = Made(reply=REPLIES.__getitem__, prompts=PROMPTS, records=RECORDS[:2])
    results = Overlap().measure("o", made).results
    found = values(results)
    assert found["o/no_reference"] == pytest.approx(2 / 3)
    assert {one.n for one in results if "rouge" in one.metric or "bleu" in one.metric} == {1}


def test_bleus_interval_holds_it_and_the_rows_have_scores() -> None:
    pytest.importorskip("sacrebleu")
    measured = Overlap().measure("o", replying())
    bleu = measured.results[0]
    assert bleu.ci_low is not None
    assert bleu.ci_high is not None
    assert bleu.ci_low < bleu.value < bleu.ci_high
    scores = [row["replies"]["sft"].get("scores") for row in measured.samples]
    assert [one and sorted(one) for one in scores] == [["rouge1", "rouge2", "rougeL"]] * 2 + [None]


def test_blank_replies_alone_are_only_counted() -> None:
    pytest.importorskip("sacrebleu")
    made = Made(reply=lambda _text: "", prompts=PROMPTS, records=REFERENCES)
    assert values(Overlap().measure("o", made).results) == {"o/empty": 1.0, "o/no_reference": 0.0}


def test_distinct_n_by_hand() -> None:
    """Tokens 0..4 and 0..5 (a token a word): of 11 tokens 6 differ, of 9 pairs 5; the blank one is apart."""
    found = values(Diversity(most=2).measure("d", replying()).results)
    assert sampled(REPLIES["Who could pay?"]).token_ids == tuple(range(5))
    assert found == pytest.approx(
        {
            "d/distinct_1": 6 / 11,
            "d/distinct_2": 5 / 9,
            "d/reply_length": 11 / 3,
            "d/ended": 1.0,
            "d/empty": 1 / 3,
        }
    )
