"""The admin's pages: how the project stands, who takes part, what goes in and out.

The guard lets only admins reach ``/admin``, and no change through without its token.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from starlette.responses import RedirectResponse, Response

from align.annotate import exports, plots
from align.annotate.accounts import Accounts
from align.annotate.desk import Desk
from align.annotate.report import Missing, Report
from align.annotate.snapshot import Reports
from align.annotate.study import Study
from align.annotate.types import Imported, Kind
from align.annotate.uploads import read_items
from align.annotate.views import message, page, templates
from align.types import Result

COEFFICIENTS = {
    "percent_agreement": "Percent agreement",
    "fleiss_kappa": "Fleiss’ κ",
    "alpha_nominal": "Krippendorff’s α, nominal",
    "alpha_ordinal": "Krippendorff’s α, ordinal",
}
FIGURES = {
    "progress": "Votes over time (UTC)",
    "agreement": "Agreement, with 95 % intervals",
    "left": "Share of left choices, with 95 % intervals",
    "time": "Seconds an item",
    "matrix": "Equal votes of each two annotators, in per cent",
}
MOST_ROWS = 24
"""Annotators in the figure of left choices, at most: those with the most choices."""
MOST_LINES = 200
"""Flags and events that a page shows, at most."""
PAUSED_ALONE = "Your work is being looked at: please come back later."

Text = Annotated[str, Form(max_length=300)]


@dataclass(frozen=True)
class Office:
    """What the admin's pages stand on."""

    desk: Desk
    accounts: Accounts
    study: Study
    origin: str
    reports: Reports

    def names(self) -> dict[str, str]:
        """Pseudonym -> what the admins call somebody."""
        return {one.annotator: one.name for one in self.accounts.everybody() if one.annotator is not None}


def admin(desk: Desk, accounts: Accounts, study: Study, origin: str) -> APIRouter:
    """The routes. ``origin`` is the address that links start with."""
    router = APIRouter(prefix="/admin")
    reports = Reports(desk.database, study.allocation)
    office = Office(desk, accounts, study, origin, reports)
    _add_overview(router, office)
    _add_people(router, office)
    _add_data(router, office)
    return router


def drawings(report: Report) -> dict[str, Any]:
    """Each figure's geometry; None where there is nothing to draw."""
    agreed = [(_short(one.metric), one) for one in report.agreement if isinstance(one, Result)]
    lefts = [
        (person.status.name, person.shown.left)
        for person in report.people
        if person.shown is not None and person.shown.left is not None
    ]
    shown = sorted(lefts, key=lambda row: -row[1].n)[:MOST_ROWS]
    everybody = [] if report.left is None else [("everybody", report.left)]
    lowest = min([0.0, *(one.value if one.ci_low is None else one.ci_low for _, one in agreed)])
    return {
        "progress": plots.curve(report.judged_at, report.status.wanted),
        "agreement": plots.forest(agreed, min(0.0, lowest), 1.0, 0.0) if agreed else None,
        "left": plots.forest([*everybody, *sorted(shown)], 0.0, 1.0, 0.5) if everybody else None,
        "time": plots.histogram(report.seconds),
        "matrix": plots.heat(report.matrix),
    }


def _short(metric: str) -> str:
    return COEFFICIENTS[metric].replace("Krippendorff’s ", "").replace("Percent agreement", "percent")


def _add_overview(router: APIRouter, office: Office) -> None:
    @router.get("")
    def overview(request: Request) -> Response:
        kept = office.reports.newest()
        return page(
            request,
            "admin.html",
            here="/admin",
            report=kept.report,
            made_at=_shown(kept.made_at),
            warned=kept.report.warned(),
            names=office.names(),
            agreement=[
                (COEFFICIENTS[one.metric], one, isinstance(one, Missing)) for one in kept.report.agreement
            ],
            captions=FIGURES,
            drawn=drawings(kept.report),
        )

    @router.get("/figures/{name}.svg")
    def figure(request: Request, name: str) -> Response:
        drawn = drawings(office.reports.newest().report).get(name)
        if drawn is None:
            return message(request, "Nothing here", "There is no such figure, or nothing to draw yet.", 404)
        text = (
            templates().get_template("admin_figure.svg").render(name=name, caption=FIGURES[name], drawn=drawn)
        )
        return Response(text, media_type="image/svg+xml", headers=exports.attached(f"{name}.svg"))


def _add_people(router: APIRouter, office: Office) -> None:
    def people(request: Request, invited: Mapping[str, str] | None = None) -> Response:
        kept = office.reports.newest()
        return page(
            request,
            "admin_people.html",
            here="/admin/people",
            report=kept.report,
            made_at=_shown(kept.made_at),
            names=office.names(),
            recruits=office.study.annotate.recruits,
            invited=invited,
        )

    @router.get("/people")
    def show(request: Request) -> Response:
        return people(request)

    @router.post("/invite")
    def invite(
        request: Request, name: Text, role: Annotated[Literal["annotator", "admin"], Form()]
    ) -> Response:
        """The link is in this answer alone: only its hash is kept."""
        link = f"{office.origin}/in/{office.accounts.invite(role, name)}"
        office.reports.forget()
        return people(request, {"name": name.strip(), "what": role, "link": link})

    @router.post("/study-link")
    def study_link(request: Request) -> Response:
        link = f"{office.origin}/join/{office.accounts.study_link()}"
        return people(
            request, {"name": office.study.annotate.recruits, "what": "everybody it sends", "link": link}
        )

    @router.post("/pause")
    def pause(annotator: Text = "", reason: Text = "") -> Response:
        office.desk.pause(reason.strip() or PAUSED_ALONE, annotator or None)
        office.reports.forget()
        return RedirectResponse("/admin/people", status_code=303)

    @router.post("/resume")
    def resume(annotator: Text = "") -> Response:
        office.desk.resume(annotator or None)
        office.reports.forget()
        return RedirectResponse("/admin/people", status_code=303)


def _add_data(router: APIRouter, office: Office) -> None:
    def data(request: Request, imported: Imported | None = None) -> Response:
        kept = office.reports.newest()
        return page(
            request,
            "admin_data.html",
            here="/admin/data",
            report=kept.report,
            events=kept.events,
            names=office.names(),
            exports=exports.FORMATS,
            left_out=exports.left_out_in_words(office.desk.left_out()),
            imported=imported,
            most=MOST_LINES,
        )

    @router.get("/data")
    def show(request: Request) -> Response:
        return data(request)

    @router.post("/import")
    def take(
        request: Request, file: Annotated[UploadFile, File()], kind: Annotated[Kind, Form()] = "ordinary"
    ) -> Response:
        """Read twice: nothing is added of a file with a line that cannot be read."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "items.jsonl"
            with path.open("wb") as copy:
                shutil.copyfileobj(file.file, copy)
            for _ in read_items(path, kind):
                pass
            imported = office.desk.add_items(read_items(path, kind), kind)
        office.reports.forget()
        return data(request, imported)

    @router.get("/export/{name}")
    def export(request: Request, name: str) -> Response:
        found = exports.export(name, office.desk, office.reports)
        return found or message(request, "Nothing here", "There is no such format.", 404)


def _shown(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
