"""Several judges of one pair: who may judge it, and what they say together, worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from byte_chat import settings

from align.agreement.dawid_skene import dawid_skene
from align.errors import ConfigError, DataError
from align.pairs.check import pair_id, record_id
from align.pairs.read import examples, records, report_for
from align.pairs.records import write_records
from align.pairs.votes import by_majority, by_posterior
from align.types import Judge, Message, PreferenceRecord, Reply, Strength

ONE = PreferenceRecord(
    id="",
    prompt=(Message("user", "Sky?"),),
    replies=(Reply("Blue.", "m1"), Reply("Green.", "m2")),
    preferred="first",
    judge=Judge("human", "ann"),
)


def vote(name, preferred, *, turned=False, prompt="Sky?", **more):
    """A vote; ``turned``: with the replies the other way round (what is preferred is still a place)."""
    replies = ONE.replies[::-1] if turned else ONE.replies
    judge, asked = Judge("human", name), (Message("user", prompt),)
    record = replace(ONE, prompt=asked, replies=replies, preferred=preferred, judge=judge, **more)
    return replace(record, id=f"{prompt}{name}", pair_id=pair_id(record))


def read(folder, cast, /, **values):
    """What reading gives, and (line, reason) of what it refused."""
    write_records(folder, cast)
    dataset = settings("records", path=str(folder), **values)
    report = report_for(dataset)
    found = list(records(dataset, report))
    report.write(folder / "report.json")
    written = json.loads((folder / "report.json").read_text())
    assert written["read"] == len(found) + written["combined"] + sum(written["refused"].values())
    return found, [(row["line"], row["reason"]) for row in written["rows"]], written


def test_a_judge_judges_a_pair_once_and_others_may_judge_it_too(tmp_path):
    votes = [
        vote("ann", "first"),
        vote("bob", "second"),
        vote("ann", "first", turned=True),
        vote("bob", "second"),
    ]
    votes = [replace(one, id=str(i)) for i, one in enumerate(votes)]
    found, refused, _ = read(tmp_path, votes)
    assert [record.judge.name for record in found] == ["ann", "bob"]
    assert refused == [(3, "contradiction"), (4, "duplicate")]


def test_another_version_of_a_judge_is_another_judge(tmp_path):
    votes = [replace(ONE, judge=Judge("model", "gpt", version)) for version in ("1", "2")]
    found, refused, _ = read(tmp_path, votes)
    assert (len({record.id for record in found}), refused) == (2, [])


MAJORITIES = {
    "two of three": ("first first second", "first"),
    "half is no majority": ("first second", "tie"),
    "most, but not more than half": ("first first second tie", "tie"),
    "three of five": ("second second second tie both_bad", "second"),
    "ties": ("tie tie first", "tie"),
    "both bad": ("both_bad both_bad first", "both_bad"),
    "both bad without a majority": ("both_bad both_bad first second", "tie"),
    "all": ("second second", "second"),
}


@pytest.mark.parametrize(("said", "verdict"), MAJORITIES.values(), ids=MAJORITIES)
def test_a_majority_is_more_than_half_of_all_votes(said, verdict):
    found = by_majority([vote(str(i), one) for i, one in enumerate(said.split())])
    assert found.preferred == verdict
    counts = {word: said.split().count(word) for word in ("first", "second", "tie", "both_bad")}
    assert found.details == {"votes": counts, "records": [f"Sky?{i}" for i in range(len(said.split()))]}
    assert found.judge == Judge("function", "majority")
    assert found.id == record_id(found) != record_id(ONE)


def test_a_vote_counts_for_its_reply_wherever_it_stood():
    """Ann and bob prefer Blue, which stands first and second; cy prefers Green, which stands second."""
    found = by_majority([vote("ann", "first"), vote("bob", "second", turned=True), vote("cy", "second")])
    assert found.preferred == "first"
    assert found.replies == ONE.replies
    assert found.details["votes"] == {"first": 2, "second": 1, "tie": 0, "both_bad": 0}


def test_a_single_vote_is_its_own_majority():
    assert by_majority([ONE]) is ONE


@pytest.mark.parametrize(
    ("said", "margins", "expected"),
    [
        ("first first second", (3, 2, 1), 4 / 3),  # (3 + 2 - 1) / 3
        ("first first second", (1, 1, 5), 0),  # (1 + 1 - 5) / 3 is below 0
        ("second second first", (3, 2, 1), 4 / 3),
        ("first first tie", (3, 3, None), 2),  # a tie is 0, whether it says so or not
        ("first first second", (3, None, 1), None),
        ("first second", (3, 1), 0),  # no majority: a tie, whose margin is 0
        ("tie tie", (None, None), None),
    ],
)
def test_a_margin_is_the_mean_towards_the_verdict(said, margins, expected):
    votes = [
        vote(str(i), one, margin=margin)
        for i, (one, margin) in enumerate(zip(said.split(), margins, strict=True))
    ]
    assert by_majority(votes).margin == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("said", "steps", "expected"),
    [
        ("first first first", (3, 3, 2), Strength(3, 3)),  # 8 / 3 = 2.67
        ("first first second", (3, 2, 2), Strength(1, 3)),  # 3 / 3
        ("first first second", (1, 1, 3), Strength(1, 3)),  # -1 / 3: at least 1
        ("first first", (1, 2), Strength(2, 3)),  # 1.5: half up
        ("first second", (1, 2), None),
        ("first first", (1, None), None),
    ],
)
def test_a_strength_is_the_mean_step(said, steps, expected):
    votes = [
        vote(str(i), one, strength=step and Strength(step, 3))
        for i, (one, step) in enumerate(zip(said.split(), steps, strict=True))
    ]
    assert by_majority(votes).strength == expected


def test_steps_of_two_scales_have_no_mean():
    votes = [vote(name, "first", strength=Strength(1, of)) for name, of in (("a", 2), ("b", 3))]
    assert by_majority(votes).strength is None


def test_only_what_all_votes_share_is_the_records():
    votes = [
        vote("a", "first", method="annotate", guideline="1", asked_at="x", judged_at="y", details={"a": 1}),
        vote("b", "first", method="annotate", guideline="2", asked_at="x", judged_at="y"),
    ]
    found = by_majority(votes)
    assert (found.method, found.guideline, found.asked_at, found.judged_at) == ("annotate", None, None, None)


def test_a_posterior_decides_by_more_than_half():
    votes = [vote("a", "first"), vote("b", "second")]
    posterior = {"first": 0.2, "second": 0.7, "tie": 0.1, "both_bad": 0.0}
    found = by_posterior(votes, posterior)
    assert (found.preferred, found.details["posterior"]) == ("second", posterior)
    assert found.judge == Judge("function", "dawid_skene")
    even = {"first": 0.5, "second": 0.5, "tie": 0.0, "both_bad": 0.0}
    assert by_posterior(votes, even).preferred == "tie"


def test_majority_over_a_file(tmp_path):
    """Three pairs in turn: their order is that of the first votes, and every row is accounted for."""
    votes = [
        vote("ann", "first", prompt="p"),
        vote("ann", "second", prompt="q"),
        vote("bob", "second", prompt="p", turned=True),
        vote("cy", "second", prompt="p"),
        vote("bob", "first", prompt="q"),
        vote("ann", "tie", prompt="p"),
        vote("ann", "first", prompt="r"),
    ]
    votes = [replace(one, id=str(i)) for i, one in enumerate(votes, 1)]
    found, refused, written = read(tmp_path, votes, votes="majority")
    assert [(one.prompt[0].content, one.preferred) for one in found] == [
        ("p", "first"),
        ("q", "tie"),
        ("r", "first"),
    ]
    assert [one.location.line for one in found] == [1, 2, 7]
    assert refused == [(6, "contradiction")]  # ann has said something else of p
    assert (written["combined"], written["kept"]) == (3, 3)
    assert found[2].judge.name == "ann"
    assert any("3 more votes on the same pairs" in line for line in report_lines(tmp_path))


def report_lines(folder):
    dataset = settings("records", path=str(folder), votes="majority")
    report = report_for(dataset)
    list(records(dataset, report))
    return report.summary()


def test_two_votes_of_one_row_and_one_judge_are_told_apart_by_more_than_their_place(tmp_path):
    """One annotator, two verdicts of different kinds in one task: the second is refused at the row's line."""
    pairwise = {"prompt": "Sky?", "response_1": "Blue.", "response_2": "Green."}
    responses = [{"value": "response_1", "user_id": "ann"}, {"value": "tie", "user_id": "ann"}]
    rows = [{"external_id": None, "id": None, "fields": pairwise, "responses": [
        {"user_id": one["user_id"], "status": "submitted", "values": {"preference": {"value": one["value"]}}}
        for one in responses]}]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = settings("argilla", path=str(tmp_path / "a.jsonl"), votes="majority")
    report = report_for(dataset)
    (found,) = records(dataset, report)
    assert (found.preferred, report.refused) == ("first", {"contradiction": 1})


def test_the_reliable_outvote_a_careless_majority(tmp_path):
    """Two experts agree on 30 pairs; three others say 'first' always, which is right on half of them.

    By majority every pair is 'first'; the experts' second is what the model of Dawid and Skene finds.
    """
    truth = ["first", "second"] * 15
    votes = []
    for i, right in enumerate(truth):
        for name in ("e1", "e2"):
            votes.append(vote(name, right, prompt=f"q{i}"))
        for name in ("l1", "l2", "l3"):
            votes.append(vote(name, "first", prompt=f"q{i}"))
        # some stand the other way round, which must not matter
        if i % 3 == 0:
            side = {"first": "second", "second": "first"}[votes[-5].preferred]
            votes[-5] = vote("e1", side, prompt=f"q{i}", turned=True)
    majority, _, _ = read(tmp_path / "a", votes, votes="majority")
    assert all(record.pair().chosen == "Blue." for record in majority)
    reliable, _, written = read(tmp_path / "b", votes, votes="reliable")
    texts = {"first": "Blue.", "second": "Green."}
    assert [record.pair().chosen for record in reliable] == [texts[right] for right in truth]
    assert written["combined"] == 4 * 30
    # the same numbers from the model itself, asked by the reply's text
    cast = [
        (record.prompt, record.judge.name, record.replies[record.preferred == "second"].text)
        for record in votes
    ]
    fitted = dawid_skene(cast, ("Blue.", "Green."))
    blue = fitted.posteriors_IJ[:, 0]
    for record, share in zip(reliable, blue, strict=True):
        place = "first" if record.replies[0].text == "Blue." else "second"
        assert record.details["posterior"][place] == pytest.approx(float(share), abs=1e-5)


def test_a_file_without_votes_in_common_reads_the_same_by_majority(tmp_path):
    votes = [vote("ann", "first", prompt=f"q{i}") for i in range(5)]
    assert read(tmp_path, votes)[0] == read(tmp_path, votes, votes="majority")[0]


def test_splits_are_those_of_the_prompts(tmp_path):
    votes = [vote(name, "first", prompt=f"q{i}") for i in range(40) for name in ("ann", "bob")]
    write_records(tmp_path, votes)
    sides = {}
    for policy in ("each", "majority"):
        dataset = settings("records", path=str(tmp_path), votes=policy)
        found = list(examples(dataset, report_for(dataset), "pairs"))
        sides[policy] = {(split, pair.prompt) for split, pair, _ in found}
        assert len(found) == (80 if policy == "each" else 40)
    assert sides["each"] == sides["majority"]
    assert len({split for split, _ in sides["each"]}) > 1


def test_bad_rows_still_stop(tmp_path):
    write_records(tmp_path, [vote("ann", "first"), replace(vote("ann", "tie"), id="2")])
    dataset = settings("records", path=str(tmp_path), votes="majority", bad_rows="error")
    with pytest.raises(DataError, match="contradiction: the same judge as"):
        list(records(dataset, report_for(dataset)))


@pytest.mark.parametrize("values", [{"votes": "majority"}, {"ties": "half"}])
def test_only_pairs_have_votes_and_ties(values):
    with pytest.raises(ConfigError, match="votes and ties are for datasets of pairs"):
        settings("demonstrations", path="x", **values)
