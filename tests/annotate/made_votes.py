"""Votes as the desk tells them, written by hand: only what a test is about has to be said."""

from __future__ import annotations

from typing import Any

from align.annotate.types import AnnotatorStatus, ProjectStatus, Vote


def vote(pair_id: str, annotator: str, said: str, **more: Any) -> Vote:
    """An ordinary vote; the first reply stood on the left."""
    values: dict[str, Any] = {
        "assignment": f"{pair_id}-{annotator}-{more.get('number', 1)}",
        "pair_id": pair_id,
        "annotator": annotator,
        "kind": "ordinary",
        "repeat": False,
        "surplus": False,
        "said": said,
        "left": "first",
        "right_answer": None,
        "strength": None,
        "criteria": {},
        "reason": "",
        "flag": None,
        "seconds": None,
        "asked_at": "2026-01-05T09:00:00.000Z",
        "judged_at": "2026-01-05T09:01:00.000Z",
        "revision": 1,
        "number": 1,
    }
    return Vote(**{**values, **more})


def annotator(name: str, paused: str | None = None) -> AnnotatorStatus:
    """Somebody of whom the desk has counted nothing."""
    return AnnotatorStatus(name, paused, "2026-01-05T08:00:00.000Z", 0, 0, 0, 0, 0, 0, 0)


def project(votes: int = 0, wanted: int = 0) -> ProjectStatus:
    """A project with so many votes."""
    return ProjectStatus({"ordinary": wanted, "gold": 0, "attention": 0}, 0, votes, wanted, 0, None)
