"""The annotators' page and what its script asks: the item, an answer, taking one back.

The guard lets only accounts that annotate reach ``/api/``.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from align.annotate.desk import Desk
from align.annotate.study import Study
from align.annotate.types import Finished, Paused, Task
from align.annotate.views import page
from align.annotate.wire import read_answer, view
from align.errors import Refused


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]

router = APIRouter()


@router.get("/")
def start(request: Request) -> Response:
    """The page with the annotator's item in it; an admin has pages of their own."""
    visitor = request.state.visitor
    if visitor.account.annotator is None:
        return RedirectResponse("/admin", status_code=303)
    study: Study = request.app.state.study
    return page(
        request,
        "annotate.html",
        question=study.question,
        guidelines=study.guidelines,
        version=study.guideline_version() or "",
        completion_url=study.annotate.completion_url,
        # the browser keeps what it could not send under this name, one account's apart from another's
        owner=request.app.state.seals.pseudonym("browser", visitor.account.id),
        shown=json.dumps(_current(request)),
    )


@router.get("/api/task")
def task(request: Request) -> dict[str, Any]:
    """What the annotator has open, and the token of this session."""
    return {"next": _current(request), "csrf": request.state.visitor.csrf}


@router.post("/api/answer")
def answer(request: Request, body: Body) -> dict[str, Any]:
    """Keeps an answer; this returns once it is on disk, with the next item."""
    given = read_answer(body, request.app.state.study.question)
    desk, name = _desk(request), _annotator(request)
    receipt, found = desk.exchange(name, given)
    saved = {"item": receipt.assignment, "revision": receipt.revision}
    return {"saved": saved, "next": view(found, desk.progress(name))}


@router.post("/api/undo")
def undo(request: Request, body: Body) -> dict[str, Any]:
    """Takes the last answer back, seen from the item that the page shows: a repeated request is one undo."""
    try:
        seen = json.loads(body)["item"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(
            "bad_answer", 'the body is {"item": the id of the item that is shown, or null}'
        ) from None
    desk, name = _desk(request), _annotator(request)
    found: Task | Finished | Paused = desk.serve(name)
    if seen == (found.assignment if isinstance(found, Task) else None):
        found = desk.undo(name)
    return {"next": view(found, desk.progress(name))}


def _current(request: Request) -> dict[str, Any]:
    desk, name = _desk(request), _annotator(request)
    return view(desk.serve(name), desk.progress(name))


def _desk(request: Request) -> Desk:
    found: Desk = request.app.state.desk
    return found


def _annotator(request: Request) -> str:
    name: str = request.state.visitor.account.annotator
    return name
