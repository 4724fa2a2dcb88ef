"""How people come in and leave: personal links, a crowd platform's links, passwords."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from align.annotate.accounts import Account, Accounts
from align.annotate.study import Study
from align.annotate.throttle import Throttle
from align.annotate.views import message, page
from align.errors import Refused

WINDOW = 15 * 60.0
"""Seconds for which a failed attempt counts."""
ACCOUNT_FAILURES = 5
ADDRESS_FAILURES = 20
"""Failures within that time after which an account's password, or an address, has to wait. Personal links go on
working for an account that somebody else locks so."""

Text = Annotated[str, Form(max_length=300)]


def entrance(accounts: Accounts, study: Study) -> APIRouter:
    """The routes, with a throttle of their own."""
    router = APIRouter()
    by_account, by_address = Throttle(ACCOUNT_FAILURES, WINDOW), Throttle(ADDRESS_FAILURES, WINDOW)

    @router.get("/in/{token}")
    def come_in(request: Request, token: str) -> Response:
        address = _address(request)
        if by_address.wait(address):
            return _wait(request, by_address.wait(address))
        account = accounts.enter(token)
        if account is None:
            by_address.failed(address)
            return message(request, "This link is not valid", "Ask for a new one where you got it.", 403)
        return _into(request, account)

    @router.get("/join/{token}")
    def join(request: Request, token: str) -> Response:
        address, platform = _address(request), study.annotate.recruits
        if platform == "none":
            return message(request, "Nothing here", "This study takes nobody in by such a link.", 404)
        if by_address.wait(address):
            return _wait(request, by_address.wait(address))
        if request.query_params.get("assignmentId") == "ASSIGNMENT_ID_NOT_AVAILABLE":
            return message(request, "A preview", "Accept the task first, then open this link again.")
        try:
            account = accounts.join(token, platform, dict(request.query_params))
        except Refused as refusal:
            return message(request, "This link is not complete", f"{refusal.detail}.", 400)
        if account is None:
            by_address.failed(address)
            return message(request, "This link is not valid", "Ask for a new one where you got it.", 403)
        return _into(request, account)

    @router.get("/login")
    def ask(request: Request) -> Response:
        found = page(request, "login.html", problem=None)
        _remember(request, found, request.app.state.seals.cookie(request.state.visitor.session))
        return found

    @router.post("/login")
    def log_in(request: Request, name: Text, password: Text) -> Response:
        address = _address(request)
        seconds = max(by_account.wait(name), by_address.wait(address))
        if seconds:
            return _wait(request, seconds)
        account = accounts.log_in(name, password)
        if account is None:
            by_account.failed(name)
            by_address.failed(address)
            return page(request, "login.html", 403, problem="No account has this name and password.")
        by_account.succeeded(name)
        return _into(request, account)

    @router.post("/logout")
    def leave(request: Request) -> Response:
        found = RedirectResponse("/login", status_code=303)
        found.delete_cookie(
            request.app.state.cookie_name, httponly=True, secure=request.app.state.secure, samesite="lax"
        )
        return found

    @router.get("/account")
    def own(request: Request) -> Response:
        return page(request, "account.html", problem=None)

    @router.post("/account")
    def change(request: Request, password: Text, again: Text, current: Text = "") -> Response:
        account: Account = request.state.visitor.account
        if by_account.wait(account.name):
            return _wait(request, by_account.wait(account.name))
        if account.has_password and accounts.log_in(account.name, current) is None:
            by_account.failed(account.name)
            return page(request, "account.html", 403, problem="The present password is another one.")
        if password != again:
            return page(request, "account.html", 422, problem="The two new passwords differ.")
        try:
            changed = accounts.set_password(account, password)
        except Refused as refusal:
            return page(request, "account.html", 422, problem=refusal.detail)
        return _into(request, changed)

    return router


def _into(request: Request, account: Account) -> Response:
    """A new session (whatever the browser had before), and on to where this role works."""
    found = RedirectResponse("/admin" if account.role == "admin" else "/", status_code=303)
    seals = request.app.state.seals
    _remember(request, found, seals.cookie(seals.open(account.id, account.epoch)))
    return found


def _remember(request: Request, response: Response, cookie: str) -> None:
    state = request.app.state
    # lax, not strict: who comes by a link from elsewhere is redirected, and must be known after it
    response.set_cookie(
        state.cookie_name,
        cookie,
        max_age=state.seals.seconds,
        path="/",
        httponly=True,
        secure=state.secure,
        samesite="lax",
    )


def _wait(request: Request, seconds: float) -> Response:
    minutes = math.ceil(seconds / 60)
    text = f"Try again in {minutes} minute{'s' if minutes > 1 else ''}, or come in by your personal link."
    after = {"retry-after": str(math.ceil(seconds))}
    return message(request, "Too many attempts", text, 429, after)


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
