"""The annotators' page and what its script asks: the item, an answer, taking one back."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from align.annotate.answers import read_answer, view
from align.annotate.desk import Desk
from align.annotate.study import Study
from align.annotate.types import Task
from align.annotate.views import page
from align.errors import Refused


async def _body(request: Request) -> bytes:
    return await request.body()


Body = Annotated[bytes, Depends(_body)]


def work(desk: Desk, study: Study) -> APIRouter:
    """The routes. The guard lets only accounts that annotate reach ``/api/``."""
    router = APIRouter()

    def current(name: str) -> dict[str, Any]:
        return view(desk.serve(name), desk.progress(name))

    @router.get("/")
    def start(request: Request) -> Response:
        visitor = request.state.visitor
        name = visitor.account.annotator
        if name is None:
            return RedirectResponse("/admin", status_code=303)
        return page(
            request,
            "annotate.html",
            question=study.question,
            guidelines=study.guidelines,
            version=study.guideline_version() or "",
            completion_url=study.annotate.completion_url,
            # the browser keeps what it could not send under this name, one account's apart from another's
            owner=request.app.state.seals.pseudonym("browser", visitor.account.id),
            shown=json.dumps(current(name)),
        )

    @router.get("/api/task")
    def task(request: Request) -> dict[str, Any]:
        visitor = request.state.visitor
        return {"next": current(visitor.account.annotator), "csrf": visitor.csrf}

    @router.post("/api/answer")
    def answer(request: Request, body: Body) -> dict[str, Any]:
        name = request.state.visitor.account.annotator
        receipt = desk.submit(name, read_answer(body, study.question))
        saved = {"item": receipt.assignment, "revision": receipt.revision}
        return {"saved": saved, "next": current(name)}

    @router.post("/api/undo")
    def undo(request: Request, body: Body) -> dict[str, Any]:
        """Takes the last answer back, seen from the item that the page shows: a repeated request is one undo."""
        name = request.state.visitor.account.annotator
        try:
            seen = json.loads(body)["item"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Refused("bad_answer", 'the body is {"item": the id of the item that is shown, or null}') from None
        found = desk.serve(name)
        if seen == (found.assignment if isinstance(found, Task) else None):
            found = desk.undo(name)
        return {"next": view(found, desk.progress(name))}

    return router
