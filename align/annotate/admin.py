"""The admin's pages: how the project stands, who takes part, what goes in and out.

The guard lets only admins reach ``/admin``, and no change through without its token.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from starlette.responses import RedirectResponse, Response

from align.annotate import exports, plots
from align.annotate.answers import LOOKED_AT
from align.annotate.look import look
from align.annotate.report import Missing, Report
from align.annotate.types import Event, Imported, Kind
from align.annotate.uploads import read_items
from align.annotate.views import message, page, templates
from align.errors import Refused
from align.pairs.exports import FORMATS
from align.types import Result

router = APIRouter(prefix="/admin")

COEFFICIENTS = {
    "percent_agreement": ("Percent agreement", "percent"),
    "fleiss_kappa": ("Fleiss’ κ", "Fleiss’ κ"),
    "alpha_nominal": ("Krippendorff’s α, nominal", "α, nominal"),
    "alpha_ordinal": ("Krippendorff’s α, ordinal", "α, ordinal"),
}
"""What tables and figures call them."""
FIGURES = {
    "progress": "Votes over time (UTC)",
    "agreement": "Agreement, with 95 % intervals",
    "time": "Seconds an item",
    "left": "Share of left choices, with 95 % intervals",
    "matrix": "Equal votes of each two annotators, in per cent",
}
MOST_ROWS = 24
"""Annotators in the figure of left choices, at most: those with the most choices."""
MOST_LINES = 200
"""Flags and events that a page shows, at most."""
SKEWED = 0.7
"""Share of one side among the votes for either beyond which the overview explains a low kappa."""

Text = Annotated[str, Form(max_length=300)]


@router.get("")
def overview(request: Request) -> Response:
    """Progress, agreement, position and time, with figures."""
    kept = request.app.state.reports.newest()
    report: Report = kept.report
    return page(
        request,
        "admin.html",
        here="/admin",
        report=report,
        made_at=_shown(kept.made_at),
        warned=report.warned(),
        names=_names(request),
        agreement=[(COEFFICIENTS[one.metric][0], one, isinstance(one, Missing)) for one in report.agreement],
        skewed=_is_skewed(report),
        captions=FIGURES,
        drawn=drawings(report),
    )


@router.get("/figures/{name}.svg")
def figure(request: Request, name: str) -> Response:
    """One of the figures as a file."""
    drawn = drawings(request.app.state.reports.newest().report).get(name)
    if drawn is None:
        return message(request, "Nothing here", "There is no such figure, or nothing to draw yet.", 404)
    values = {"name": name, "caption": FIGURES[name], "drawn": drawn}
    text = templates().get_template("admin_figure.svg").render(values)
    return Response(text, media_type="image/svg+xml", headers=exports.attached(f"{name}.svg"))


@router.get("/people")
def people(request: Request) -> Response:
    """Everybody with what their answers show; invitations and pauses."""
    return _people(request)


@router.post("/invite")
def invite(request: Request, name: Text, role: Annotated[Literal["annotator", "admin"], Form()]) -> Response:
    """A personal link, in this answer alone: only its hash is kept."""
    state = request.app.state
    link = f"{state.origin}/in/{state.accounts.invite(role, name)}"
    state.reports.forget()
    return _people(request, {"name": name.strip(), "what": role, "link": link})


@router.post("/study-link")
def study_link(request: Request) -> Response:
    """The link that a crowd platform sends its people to, in this answer alone."""
    state = request.app.state
    link = f"{state.origin}/join/{state.accounts.study_link()}"
    return _people(request, {"name": state.study.annotate.recruits, "what": "all it sends", "link": link})


@router.post("/pause")
def pause(request: Request, annotator: Text = "", reason: Text = "") -> Response:
    """Serves nothing more to one annotator, or without one to anybody."""
    request.app.state.desk.pause(reason.strip() or LOOKED_AT, annotator or None)
    return _changed(request)


@router.post("/resume")
def resume(request: Request, annotator: Text = "") -> Response:
    """Takes a pause back."""
    request.app.state.desk.resume(annotator or None)
    return _changed(request)


@router.post("/close")
def close(request: Request, account: Text) -> Response:
    """Ends an account's links and sessions. Nobody closes the own one: somebody has to stay."""
    if account == request.state.visitor.account.id:
        raise Refused("own_account", "this is your own account: another admin can close it")
    if account not in {one.id for one in request.app.state.accounts.everybody()}:
        raise Refused("unknown_account", "there is no such account")
    request.app.state.accounts.close(account)
    return _changed(request)


@router.get("/data")
def data(request: Request) -> Response:
    """Exports, imports, flags and what happened."""
    return _data(request)


@router.post("/import")
def take(
    request: Request, file: Annotated[UploadFile, File()], kind: Annotated[Kind, Form()] = "ordinary"
) -> Response:
    """Adds a file's items. It is read twice: nothing is added of one with a line that cannot be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "items.jsonl"
        with path.open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
        for _ in read_items(path, kind):
            pass
        imported = request.app.state.desk.add_items(read_items(path, kind), kind)
    request.app.state.reports.forget()
    return _data(request, imported)


@router.get("/items/{pair_id}")
def item(request: Request, pair_id: str) -> Response:
    """One item with all that was said of it."""
    kept = request.app.state.reports.newest()
    with request.app.state.desk.database.reading() as connection:
        seen = look(connection, pair_id, kept.votes)
    if seen is None:
        return message(request, "Nothing here", "There is no such item.", 404)
    return page(request, "admin_item.html", here="/admin/items", seen=seen, names=_names(request))


@router.get("/export/converted.zip")
def converted(
    request: Request,
    form: Annotated[str, Query(alias="format")],
    votes: Literal["each", "majority", "reliable"] = "majority",
    ties: Literal["drop", "half", "both"] = "drop",
) -> Response:
    """The votes in a format that others train on, with what that loses."""
    if form not in FORMATS:
        return message(request, "Nothing here", "There is no such format.", 404)
    return exports.converted(request.app.state.desk, form, votes, ties)


@router.get("/export/{name}")
def export(request: Request, name: str) -> Response:
    """The votes as they are, or the numbers."""
    found = exports.export(name, request.app.state.desk, request.app.state.reports)
    return found or message(request, "Nothing here", "There is no such file.", 404)


def drawings(report: Report) -> dict[str, Any]:
    """Each figure's geometry; None where there is nothing to draw."""
    agreed = [(COEFFICIENTS[one.metric][1], one) for one in report.agreement if isinstance(one, Result)]
    lefts = [
        (person.status.name, person.shown.left)
        for person in report.people
        if person.shown is not None and person.shown.left is not None
    ]
    shown = sorted(sorted(lefts, key=lambda row: -row[1].n)[:MOST_ROWS])
    everybody = [] if report.left is None else [("everybody", report.left)]
    lowest = min([0.0, *(one.value if one.ci_low is None else one.ci_low for _, one in agreed)])
    return {
        "progress": plots.curve(report.judged_at, report.status.wanted),
        "agreement": plots.forest(agreed, lowest, 1.0, 0.0) if agreed else None,
        "left": plots.forest([*everybody, *shown], 0.0, 1.0, 0.5) if everybody else None,
        "time": plots.histogram(report.seconds),
        "matrix": plots.heat(report.matrix),
    }


def _people(request: Request, invited: Mapping[str, str] | None = None) -> Response:
    kept, accounts = request.app.state.reports.newest(), request.app.state.accounts.everybody()
    return page(
        request,
        "admin_people.html",
        here="/admin/people",
        report=kept.report,
        made_at=_shown(kept.made_at),
        accounts={one.annotator: one for one in accounts if one.annotator is not None},
        admins=[one for one in accounts if one.role == "admin"],
        recruits=request.app.state.study.annotate.recruits,
        invited=invited,
    )


def _data(request: Request, imported: Imported | None = None) -> Response:
    kept = request.app.state.reports.newest()
    return page(
        request,
        "admin_data.html",
        here="/admin/data",
        report=kept.report,
        events=kept.events,
        details=_details,
        names=_names(request),
        exports=exports.OWN,
        formats=list(FORMATS),
        left_out=exports.left_out_in_words(request.app.state.desk.left_out()),
        imported=imported,
        most=MOST_LINES,
    )


def _is_skewed(report: Report) -> bool:
    """Whether one side of the items wins so often that chance alone would agree on most of them."""
    first, second = report.said["first"], report.said["second"]
    return first + second > 0 and max(first, second) / (first + second) > SKEWED


def _details(event: Event) -> str:
    """An event's details as ``name=value``, those in others included; what is empty is not said."""

    def walk(values: Mapping[str, object]) -> Iterator[str]:
        for name, value in values.items():
            if isinstance(value, Mapping):
                yield from walk(value)
            elif value not in (None, "", []):
                yield f"{name}={value}"

    return ", ".join(walk(event.details))


def _changed(request: Request) -> Response:
    request.app.state.reports.forget()
    return RedirectResponse("/admin/people", status_code=303)


def _names(request: Request) -> dict[str, str]:
    """Pseudonym -> what the admins call somebody; in figures everybody keeps the pseudonym."""
    accounts = request.app.state.accounts.everybody()
    return {one.annotator: one.name for one in accounts if one.annotator is not None}


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
