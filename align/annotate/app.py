"""The app: pages and API behind the guard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response

from align.annotate import admin, entrance, work
from align.annotate.guard import Guard
from align.annotate.snapshot import Reports
from align.annotate.views import asset, message, warm
from align.errors import Refused, StoreError

if TYPE_CHECKING:
    from align.annotate.accounts import Accounts
    from align.annotate.desk import Desk
    from align.annotate.seals import Seals
    from align.annotate.study import Study

REFUSALS = {"bad_answer": 422, "unknown_annotator": 403, "unknown_assignment": 409, "nothing_to_undo": 409}
"""What the desk refuses -> status."""


def build_app(desk: Desk, accounts: Accounts, seals: Seals, study: Study, origins: Sequence[str]) -> Guard:
    """Everything that is served, behind the guard. ``origins`` are the addresses that people type."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    guard = Guard(app, accounts, seals, origins)
    state = app.state
    state.desk, state.accounts, state.seals, state.study = desk, accounts, seals, study
    state.origin, state.cookie_name, state.secure = origins[0], guard.cookie_name, guard.secure
    state.doors = entrance.Doors()
    state.reports = Reports(desk.database, desk.settings)
    for part in (entrance, work, admin):
        app.include_router(part.router)
    _add_plain_routes(app)
    _add_errors(app)
    warm()
    return guard


def _add_plain_routes(app: FastAPI) -> None:
    @app.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        found = asset(name)
        return found or message(request, "Nothing here", "There is no such page.", 404)

    @app.get("/health")
    def health() -> Response:
        return PlainTextResponse("ok\n")


def _add_errors(app: FastAPI) -> None:
    """Errors in our own words: nothing of what was sent is repeated, nothing of the inside is told."""

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return _error(request, REFUSALS.get(error.reason, 400), error.detail or error.reason, error.reason)

    @app.exception_handler(StoreError)
    def closed(request: Request, error: StoreError) -> Response:
        return _error(request, 503, "the server is closing: what you chose is kept in this browser", "closed")

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        return _error(request, 422, "a field is missing, too long, or of another kind", "invalid")

    @app.exception_handler(HTTPException)
    def other(request: Request, error: HTTPException) -> Response:
        text = "There is no such page." if error.status_code == 404 else "This cannot be done."
        return _error(request, error.status_code, text, "http")


def _error(request: Request, status: int, text: str, reason: str) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": text, "reason": reason}, status_code=status)
    return message(request, "Nothing here" if status == 404 else "This did not work", text, status)
