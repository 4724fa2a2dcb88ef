"""Each importer on a small file in the layout that its source really has: what it makes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.config import build
from align.errors import ConfigError, DataError
from align.pairs.read import examples, records, report_for
from align.settings import DatasetSettings

FILES = Path(__file__).resolve().parents[1] / "fixtures" / "imports"


def read(name, tmp_path, file=None, **values):
    """Records, and (line, reason) of each row that made none."""
    path = FILES / (file or f"{name}.json")
    dataset = build(DatasetSettings, {"name": name, "path": str(path), **values}, "dataset")
    report = report_for(dataset)
    found = list(records(dataset, report))
    report.write(tmp_path / "report.json")
    written = json.loads((tmp_path / "report.json").read_text())
    assert {row["path"] for row in written["rows"]} <= {str(path)}
    assert written["read"] == len(found) + sum(written["refused"].values()) + written["combined"]
    return found, [(row["line"], row["reason"]) for row in written["rows"]]


def said(found):
    """Line, judge and verdict of each record."""
    return [(record.location.line, record.judge.name, record.preferred) for record in found]


def test_summaries(tmp_path):
    found, refused = read("summarize_from_feedback", tmp_path)
    assert said(found) == [(1, "w1", "second"), (2, "w2", "first"), (4, "w1", "first")]
    assert refused == [
        (3, "contradiction"),
        (5, "unknown_choice"),
        (6, "not_two_summaries"),
        (7, "missing_key"),
        (8, "missing_key"),
        (9, "missing_key"),
    ]
    post, again, article = found
    assert post.prompt[0].content == (
        "SUBREDDIT: r/Pets\n\nTITLE: Cat and keyboard\n\nPOST: My cat sits on the keyboard all day.\n\nTL;DR:"
    )
    assert article.prompt[0].content == "Article:\n\nIt rained.\n\nTL;DR:"
    assert [(reply.text, reply.model) for reply in post.replies] == [
        (" cat sits on keyboard", "sup1"),
        (" my cat types", "ref"),
    ]
    assert post.details == {
        "batch": "batch3", "split": "train", "confidence": 8, "notes": [None, "Short."], "id": "t3_aa1",
    }  # fmt: skip
    assert post.pair_id == again.pair_id != article.pair_id
    assert post.id != again.id


def test_battles(tmp_path):
    found, refused = read("chatbot_arena", tmp_path, "chatbot_arena.jsonl")
    assert said(found) == [
        (1, "arena_user_1", "second"),
        (2, "arena_user_2", "tie"),
        (3, "arena_user_1", "both_bad"),
        (4, "arena_user_1", "first"),
        (11, "arena_user_2", "second"),
    ]
    assert refused == [
        (5, "prompts_differ"),
        (6, "unknown_winner"),
        (7, "no_reply"),
        (8, "empty_reply"),
        (9, "not_a_time"),
        (10, "missing_key"),
        (12, "contradiction"),
    ]
    first, _, _, long, _ = found
    assert [(reply.text, reply.model) for reply in first.replies] == [
        ("No.", "alpaca-13b"),
        ("Hello!", "vicuna-13b"),
    ]
    assert (first.id, first.judge.kind, first.details["language"]) == ("q1", "human", "English")
    # date -u -d @1682351591
    assert first.judged_at == "2023-04-24T15:53:11+00:00"
    assert [message.role for message in long.prompt] == ["user", "assistant", "user"]


def test_a_number_of_a_question_is_no_id_of_a_judgement(tmp_path):
    """MT-bench's judgements: many rows of the same columns judge one question."""
    row = json.loads((FILES / "chatbot_arena.jsonl").read_text().splitlines()[0])
    rows = [row | {"question_id": 81, "judge": name} for name in ("author_1", "author_2")]
    (tmp_path / "mt.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    found, refused = read("chatbot_arena", tmp_path, tmp_path / "mt.jsonl")
    assert (len({record.id for record in found}), refused) == (2, [])


def test_argillas_first_version(tmp_path):
    found, refused = read("argilla", tmp_path, "argilla_v1.json")
    assert said(found) == [
        (2, "ann", "first"),
        (2, "bob", "second"),
        (2, "cy", "tie"),
        (3, "argilla", "first"),
        (3, "ann", "both_bad"),
    ]
    assert refused == [
        (2, "not_judged"),  # discarded
        (3, "unknown_option"),
        (3, "not_judged"),  # another question was answered
        (4, "not_judged"),  # no response
        (5, "not_a_ranking"),
        (5, "not_judged"),  # a draft
        (6, "missing_key"),
        (7, "not_a_list"),
    ]
    assert [record.id for record in found][:2] == ["sky:ann", "sky:bob"]
    assert found[3].id == "0000-2:argilla"


def test_argillas_suggestions_are_a_models_judgements_where_asked_for(tmp_path):
    found, _ = read("argilla", tmp_path, "argilla_v1.json", suggestions=True)
    (suggested,) = (record for record in found if record.judge.kind == "model")
    assert (suggested.location.line, suggested.judge.name, suggested.preferred) == (2, "judge-1", "second")
    found, _ = read("argilla", tmp_path, "argilla_v2.json", suggestions=True)
    assert ("suggestion", "first") in [(record.judge.name, record.preferred) for record in found]


def test_argillas_second_version(tmp_path):
    found, refused = read("argilla", tmp_path, "argilla_v2.json")
    assert said(found) == [(2, "ann", "second"), (2, "bob", "first")]
    assert refused == [(3, "not_judged"), (4, "not_a_ranking"), (5, "missing_key")]
    assert [(message.role, message.content) for message in found[0].prompt] == [
        ("system", "Be brief."),
        ("user", "Sky?"),
    ]
    assert found[0].details == {"metadata": {"topic": "x"}}


def test_argillas_ratings_of_two_replies(tmp_path):
    found, refused = read("argilla", tmp_path, "argilla_v2.json", questions=["rating_1", "rating_2"])
    assert said(found) == [(2, "ann", "first"), (2, "bob", "tie")]
    assert [record.margin for record in found] == [3, 0]
    assert refused == [(3, "not_judged"), (4, "not_a_number"), (5, "missing_key")]


def test_argillas_options_by_other_names(tmp_path):
    found, refused = read(
        "argilla",
        tmp_path,
        "argilla_v1.json",
        options=["response_2", "response_1", "neither"],
    )
    # turned round: the names of the replies are exchanged, and neither is a tie
    assert said(found)[:2] == [(2, "ann", "second"), (2, "bob", "first")]
    assert (3, "bob", "tie") in said(found)
    assert (3, "unknown_option") in refused


@pytest.mark.parametrize("values", [{"questions": []}, {"questions": ["a", "b", "c"]}, {"options": ["a"]}])
def test_argillas_settings_are_checked(values, tmp_path):
    with pytest.raises(ConfigError, match=r"dataset\.(questions|options) takes"):
        read("argilla", tmp_path, "argilla_v1.json", **values)


def test_label_studio(tmp_path):
    found, refused = read("label_studio", tmp_path)
    assert said(found) == [(2, "1", "first"), (2, "2", "second"), (2, "4", "first"), (7, "1", "second")]
    assert refused == [
        (2, "not_judged"),  # cancelled
        (3, "not_judged"),  # no side chosen
        (3, "several_answers"),
        (3, "unknown_choice"),
        (3, "missing_key"),  # by nobody
        (4, "not_judged"),  # no annotation
        (5, "missing_key"),
        (6, "missing_key"),  # JSON-MIN
        (7, "contradiction"),
    ]
    assert "example.org" not in repr(found)
    first = found[0]
    assert (first.id, first.judged_at) == ("11", "2024-05-02T10:00:00.000000Z")
    assert first.details == {"task": 1, "lead_time": 4.5, "ground_truth": False}


def test_label_studios_tag_by_name_and_its_predictions(tmp_path):
    found, _ = read("label_studio", tmp_path, control="style", predictions=True)
    assert said(found) == [(3, "2", "second")]
    found, _ = read("label_studio", tmp_path, predictions=True)
    assert [record.preferred for record in found if record.judge.kind == "model"] == ["second"]


def test_alpaca_evals_annotations(tmp_path):
    found, refused = read("alpaca_eval_annotations", tmp_path)
    assert [(record.location.line, record.preferred, record.margin) for record in found] == [
        (2, "first", None),
        (3, "second", None),
        (4, "tie", None),
        (5, "tie", None),
        (6, "first", 0.5),  # P(second) is 0.25: 0.75 - 0.25
        (7, "second", pytest.approx(0.8)),  # P(second) is 0.9: 0.9 - 0.1
        (11, "first", None),
    ]
    assert refused == [
        (8, "not_judged"),
        (9, "unknown_preference"),
        (10, "not_a_number"),
        (12, "missing_key"),
    ]
    assert found[-1].prompt[0].content == "Sum\n\n1+2"
    assert (found[0].judge.kind, [reply.model for reply in found[0].replies]) == ("model", ["m1", "m2"])


def test_alpaca_evals_outputs(tmp_path):
    path = FILES / "alpaca_eval_outputs.json"
    dataset = build(DatasetSettings, {"name": "alpaca_eval_outputs", "path": str(path)}, "dataset")
    report = report_for(dataset)
    found = [example for _, example, _ in examples(dataset, report, "demonstrations")]
    assert [(one.prompt[0].content, one.reply) for one in found] == [("Sky?", "Blue."), ("Sum\n\n1+2", "3")]
    assert report.refused == {"empty_reply": 1, "missing_key": 1}


def test_a_judgement_that_was_not_made_is_no_bad_row(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(json.loads((FILES / "label_studio.json").read_text())[:1]))
    found, refused = read("label_studio", tmp_path, path, bad_rows="error")
    assert (len(found), refused) == (3, [(1, "not_judged")])


def test_details_that_json_cannot_hold_are_refused_by_line(tmp_path):
    row = json.loads((FILES / "chatbot_arena.jsonl").read_text().splitlines()[0])
    path = tmp_path / "battles.jsonl"
    path.write_text("".join(json.dumps(row | {"question_id": f"{i}", "turn": turn, "judge": f"{i}"}) + "\n"
                            for i, turn in enumerate([1, float("nan")])))  # fmt: skip
    found, refused = read("chatbot_arena", tmp_path, path)
    assert (len(found), refused) == (1, [(2, "not_json")])
    path.write_text(path.read_text().splitlines()[1] + "\n")
    with pytest.raises(DataError, match="not_json 1, first at"):
        read("chatbot_arena", tmp_path, path)


def changed(value):
    """A row with one of its values, wherever it stands, replaced by another kind of value or left out."""
    yield from (None, 3, True, "x", [], {}, [3], [[]], {"x": 3}, float("inf"))
    if isinstance(value, dict):
        for key in value:
            yield {name: one for name, one in value.items() if name != key}
            yield from (value | {key: one} for one in changed(value[key]))
    elif isinstance(value, list):
        for place in range(len(value)):
            yield value[:place] + value[place + 1 :]
            yield from ([*value[:place], one, *value[place + 1 :]] for one in changed(value[place]))


@pytest.mark.parametrize(
    ("name", "file", "values"),
    [
        ("summarize_from_feedback", "summarize_from_feedback.json", {}),
        ("chatbot_arena", "chatbot_arena.jsonl", {}),
        ("argilla", "argilla_v1.json", {"suggestions": True}),
        ("argilla", "argilla_v2.json", {"suggestions": True}),
        ("argilla", "argilla_v2.json", {"questions": ["rating_1", "rating_2"]}),
        ("label_studio", "label_studio.json", {"predictions": True}),
        ("alpaca_eval_annotations", "alpaca_eval_annotations.json", {}),
        ("alpaca_eval_outputs", "alpaca_eval_outputs.json", {}),
    ],
)
def test_whatever_stands_in_a_row_it_is_read_or_refused(name, file, values, tmp_path):
    text = (FILES / file).read_text()
    row = json.loads(text)[0] if text.startswith("[") else json.loads(text.splitlines()[0])
    rows = [one for one in changed(row) if isinstance(one, dict)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in [row, *rows]))
    dataset = build(DatasetSettings, {"name": name, "path": str(path), **values}, "dataset")
    report = report_for(dataset)
    assert list(examples(dataset, report, "demonstrations"))
    lines = {row.location.line for row in dataset.source.rows()}
    assert lines == set(range(1, len(rows) + 2))
    assert report.refused.total() > len(rows) // 4


@pytest.mark.realdata
def test_the_real_annotations(shared_data, tmp_path):
    """761 for the second, 32 for the first, 12 draws coded 0, which are of equal replies.

    Of the 805 judged replies of text_davinci_003, 785 are others than those of its outputs file: no label may
    go to them.
    """
    folder = shared_data / "alpaca_eval"
    found, refused = read("alpaca_eval_annotations", tmp_path, folder / "gpt4" / "annotations.json")
    counts = {word: sum(record.preferred == word for record in found) for word in ("first", "second", "tie")}
    assert counts == {"first": 32, "second": 761, "tie": 12}
    assert refused == []
    ties = [record for record in found if record.preferred == "tie"]
    assert all(record.replies[0].text == record.replies[1].text for record in ties)
    raw = json.loads((folder / "gpt4" / "annotations.json").read_text())
    assert [[reply.text for reply in record.replies] for record in found] == [
        [row["output_1"], row["output_2"]] for row in raw
    ]
    outputs = json.loads((folder / "text_davinci_003" / "model_outputs.json").read_text())
    own = {row["instruction"]: row["output"] for row in outputs}
    assert sum(own[record.prompt[0].content] != record.replies[0].text for record in found) == 785
