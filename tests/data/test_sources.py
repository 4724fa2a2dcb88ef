"""Each source: one row of each of its formats becomes the record that it says."""

from __future__ import annotations

import pytest

from align.errors import BadRow
from align.types import Demonstration, Message, UnpairedExample
from data.demonstrations import Demonstrations
from data.hh_rlhf import HhRlhf
from data.preference import Preference
from data.ultrafeedback import UltraFeedback
from data.unpaired import Unpaired


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


SYSTEM = {"role": "system", "content": "Be kind."}


def pair_of(source, values):
    pair = source.record(values).pair()
    return [(message.role, message.content) for message in pair.prompt], pair.chosen, pair.rejected


def test_hh_transcripts_of_many_turns():
    start = "\n\nHuman: Hello\n\nthere.\n\nAssistant: Hi!\n\nHuman: Who?"
    values = {"chosen": start + "\n\nAssistant: Me.", "rejected": start + "\n\nAssistant:  You.\n"}
    prompt, chosen, rejected = pair_of(HhRlhf("x"), values)
    assert prompt == [("user", "Hello\n\nthere."), ("assistant", "Hi!"), ("user", "Who?")]
    assert (chosen, rejected) == ("Me.", "You.")


def test_hh_turns_in_a_row_are_one_message():
    start = "\n\nHuman: A joke?\n\nAssistant: Here:\n\nAssistant: Knock.\n\nHuman: Who?"
    values = {"chosen": start + "\n\nAssistant: Me.", "rejected": start + "\n\nAssistant: You."}
    prompt, _, _ = pair_of(HhRlhf("x"), values)
    assert prompt == [("user", "A joke?"), ("assistant", "Here:\n\nKnock."), ("user", "Who?")]


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ("Hello", "not_a_transcript"),
        ("Hello\n\nHuman: a\n\nAssistant: b", "not_a_transcript"),
        ("\n\nHuman: a\n\nAssistant: b\n\nHuman: c", "no_reply"),
        ("\n\nHuman: other\n\nAssistant: b", "prompts_differ"),
        ("\n\nHuman: a\n\nAssistant: b\n\nAssistant: c", "prompts_differ"),
    ],
)
def test_hh_rows_that_make_no_pair(chosen, reason):
    with pytest.raises(BadRow) as bad:
        HhRlhf("x").record({"chosen": chosen, "rejected": "\n\nHuman: a\n\nAssistant: d"})
    assert bad.value.reason == reason


PREFERENCES = {
    "explicit text": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        ([("user", "The sky is")], " blue.", " green."),
    ),
    "implicit text": (
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        ([("user", "The sky is")], " blue.", " green."),
    ),
    "explicit messages": (
        {"prompt": [SYSTEM, user("Sky?")], "chosen": [assistant("Blue.")], "rejected": [assistant("Green.")]},
        ([("system", "Be kind."), ("user", "Sky?")], "Blue.", "Green."),
    ),
    "implicit messages": (
        {"chosen": [user("Sky?"), assistant("Blue.")], "rejected": [user("Sky?"), assistant("Green.")]},
        ([("user", "Sky?")], "Blue.", "Green."),
    ),
    "turns that both replies share": (
        {
            "prompt": [user("Sky?")],
            "chosen": [assistant("Hm."), user("Well?"), assistant("Blue.")],
            "rejected": [assistant("Hm."), user("Well?"), assistant("Green.")],
        },
        ([("user", "Sky?"), ("assistant", "Hm."), ("user", "Well?")], "Blue.", "Green."),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("values", "expected"), PREFERENCES.values(), ids=PREFERENCES)
def test_trls_preference_formats(values, expected):
    assert pair_of(Preference("x"), values) == expected


@pytest.mark.parametrize(
    ("columns", "margin"),
    [
        ({}, None),
        ({"margin": 2}, 2.0),
        ({"margin": "0.5"}, 0.5),
        ({"score_chosen": 8.5, "score_rejected": 6}, 2.5),
        ({"score_chosen": 3, "score_rejected": 3}, 0.0),
    ],
)
def test_margins(columns, margin):
    values = {"prompt": "a", "chosen": "b", "rejected": "c", **columns}
    assert Preference("x").record(values).margin == margin


@pytest.mark.medium
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("The sky is blue.", "The sky is green."),
        ("It is blue.", "It is black."),
        ("a b", "a c"),
        ("ab", "ac"),
        ("a  b", "a  c"),
    ],
)
def test_implicit_text_prompts_are_trls(chosen, rejected):
    from trl import extract_prompt

    theirs = extract_prompt({"chosen": chosen, "rejected": rejected})
    ours = pair_of(Preference("x"), {"chosen": chosen, "rejected": rejected})
    assert ours == ([("user", theirs["prompt"])], theirs["chosen"], theirs["rejected"])


def test_ultrafeedback():
    values = {
        "prompt": "Sky?",
        "prompt_id": "0a",
        "messages": [user("Sky?"), assistant("Blue.")],
        "chosen": [user("Sky?"), assistant("Blue.")],
        "rejected": [user("Sky?"), assistant("Green.")],
        "score_chosen": 8.0,
        "score_rejected": 5.5,
    }
    source = UltraFeedback()
    assert pair_of(source, values) == ([("user", "Sky?")], "Blue.", "Green.")
    assert source.record(values).margin == 2.5
    with pytest.raises(BadRow, match="prompts_differ"):
        source.record(values | {"prompt": "Grass?"})


DEMONSTRATIONS = {
    "text": ({"prompt": "Sky?", "completion": " Blue."}, ([user("Sky?")], " Blue.")),
    "messages": (
        {"prompt": [SYSTEM, user("Sky?")], "completion": [assistant("Blue.")]},
        ([SYSTEM, user("Sky?")], "Blue."),
    ),
    "chat": (
        {"messages": [user("Sky?"), assistant("Blue."), user("Sea?"), assistant("Too.")]},
        ([user("Sky?"), assistant("Blue."), user("Sea?")], "Too."),
    ),
}


@pytest.mark.parametrize(("values", "expected"), DEMONSTRATIONS.values(), ids=DEMONSTRATIONS)
def test_demonstrations(values, expected):
    prompt, reply = expected
    messages = tuple(Message(**message) for message in prompt)
    assert Demonstrations("x").record(values) == Demonstration("", messages, reply)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"text": "Sky?"}, "missing_key"),
        ({"prompt": "Sky?"}, "missing_key"),
        ({"completion": "Blue."}, "missing_key"),
        ({"prompt": "Sky?", "completion": [assistant("Blue.")]}, "mixed_formats"),
        ({"prompt": "Sky?", "completion": None}, "null"),
        ({"messages": [user("Sky?")]}, "no_reply"),
        ({"messages": []}, "no_reply"),
        ({"messages": "Sky?"}, "not_messages"),
    ],
)
def test_rows_that_are_no_demonstration(values, reason):
    with pytest.raises(BadRow) as bad:
        Demonstrations("x").record(values)
    assert bad.value.reason == reason


@pytest.mark.parametrize(("values", "expected"), DEMONSTRATIONS.values(), ids=DEMONSTRATIONS)
@pytest.mark.parametrize("desirable", [True, False])
def test_labelled_replies_are_demonstrations_with_a_label(values, expected, desirable):
    prompt, reply = expected
    messages = tuple(Message(**message) for message in prompt)
    found = Unpaired("x").record({**values, "label": desirable, "id": 7})
    assert found == UnpairedExample("7", messages, reply, desirable)


@pytest.mark.parametrize(
    ("label", "expected"), [(1, True), (0, False), ("True", True), ("false", False), (" 1 ", True)]
)
def test_labels_that_a_table_may_hold(label, expected):
    assert (
        Unpaired("x").record({"prompt": "Sky?", "completion": "Blue.", "label": label}).desirable is expected
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "Sky?", "completion": "Blue."}, "missing_key"),
        ({"prompt": "Sky?", "completion": "Blue.", "label": None}, "null"),
        ({"prompt": "Sky?", "completion": "Blue.", "label": "good"}, "not_a_label"),
        ({"prompt": "Sky?", "completion": "Blue.", "label": 0.5}, "not_a_label"),
        ({"prompt": "Sky?", "completion": "Blue.", "label": 2}, "not_a_label"),
        ({"label": True}, "missing_key"),
    ],
)
def test_rows_that_are_no_labelled_reply(values, reason):
    with pytest.raises(BadRow) as bad:
        Unpaired("x").record(values)
    assert bad.value.reason == reason
