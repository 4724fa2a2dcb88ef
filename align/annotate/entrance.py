"""How people come in and leave: personal links, a crowd platform's links, passwords."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from align.annotate.accounts import Account, Accounts
from align.annotate.throttle import Throttle
from align.annotate.views import message, page
from align.errors import Refused

WINDOW = 15 * 60.0
"""Seconds for which a failed attempt counts."""
ACCOUNT_FAILURES = 5
ADDRESS_FAILURES = 20
"""Failures within that time after which an account's password, or an address, has to wait. Personal links go
on working for an account that somebody else locks so."""

Text = Annotated[str, Form(max_length=300)]

router = APIRouter()


class Doors:
    """Failures so far: at an account's password, and from an address at anything."""

    def __init__(self) -> None:
        self.accounts = Throttle(ACCOUNT_FAILURES, WINDOW)
        self.addresses = Throttle(ADDRESS_FAILURES, WINDOW)


@router.get("/in/{token}")
def come_in(request: Request, token: str) -> Response:
    """By a personal link."""
    if seconds := _doors(request).addresses.wait(_address(request)):
        return _wait(request, seconds)
    account = _accounts(request).enter(token)
    return _no_such_link(request) if account is None else _into(request, account)


@router.get("/join/{token}")
def join(request: Request, token: str) -> Response:
    """By the link of a study on a crowd platform, with the platform's ids in the address."""
    platform = request.app.state.study.annotate.recruits
    if platform == "none":
        return message(request, "Nothing here", "This study takes nobody in by such a link.", 404)
    if seconds := _doors(request).addresses.wait(_address(request)):
        return _wait(request, seconds)
    if request.query_params.get("assignmentId") == "ASSIGNMENT_ID_NOT_AVAILABLE":
        return message(request, "A preview", "Accept the task first, then open this link again.")
    try:
        account = _accounts(request).join(token, platform, dict(request.query_params))
    except Refused as refusal:
        return message(request, "This link is not complete", f"{refusal.detail}.", 400)
    return _no_such_link(request) if account is None else _into(request, account)


@router.get("/login")
def ask(request: Request) -> Response:
    """The form for a name and a password; its token hangs on a session of nobody."""
    found = page(request, "login.html", problem=None)
    _remember(request, found, request.app.state.seals.cookie(request.state.visitor.session))
    return found


@router.post("/login")
def log_in(request: Request, name: Text, password: Text) -> Response:
    """By name and password."""
    doors, address = _doors(request), _address(request)
    if seconds := max(doors.accounts.wait(name), doors.addresses.wait(address)):
        return _wait(request, seconds)
    account = _accounts(request).log_in(name, password)
    if account is None:
        doors.accounts.failed(name)
        doors.addresses.failed(address)
        return page(request, "login.html", 403, problem="No account has this name and password.")
    doors.accounts.succeeded(name)
    return _into(request, account)


@router.post("/logout")
def leave(request: Request) -> Response:
    """Forgets who this browser is."""
    state = request.app.state
    found = RedirectResponse("/login", status_code=303)
    found.delete_cookie(state.cookie_name, httponly=True, secure=state.secure, samesite="lax")
    return found


@router.get("/account")
def own(request: Request) -> Response:
    """One's own account: the password."""
    return page(request, "account.html", problem=None)


@router.post("/account")
def change(request: Request, password: Text, again: Text, current: Text = "") -> Response:
    """Sets a password; who has one has to know it."""
    account: Account = request.state.visitor.account
    accounts, door = _accounts(request), _doors(request).accounts
    if seconds := door.wait(account.name):
        return _wait(request, seconds)
    if account.has_password and accounts.log_in(account.name, current) is None:
        door.failed(account.name)
        return page(request, "account.html", 403, problem="The present password is another one.")
    if password != again:
        return page(request, "account.html", 422, problem="The two new passwords differ.")
    try:
        changed = accounts.set_password(account, password)
    except Refused as refusal:
        return page(request, "account.html", 422, problem=refusal.detail)
    return _into(request, changed)


def _accounts(request: Request) -> Accounts:
    found: Accounts = request.app.state.accounts
    return found


def _doors(request: Request) -> Doors:
    found: Doors = request.app.state.doors
    return found


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


def _no_such_link(request: Request) -> Response:
    _doors(request).addresses.failed(_address(request))
    return message(request, "This link is not valid", "Ask for a new one where you got it.", 403)


def _wait(request: Request, seconds: float) -> Response:
    minutes = math.ceil(seconds / 60)
    text = f"Try again in {minutes} minute{'s' if minutes > 1 else ''}, or come in by your personal link."
    return message(request, "Too many attempts", text, 429, {"retry-after": str(math.ceil(seconds))})


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"
