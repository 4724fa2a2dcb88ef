"""Templates and static files: read once, text escaped wherever it comes from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

if TYPE_CHECKING:
    from starlette.requests import Request

HERE = Path(__file__).resolve().parent
KINDS = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def assets() -> dict[str, bytes]:
    """Every file of ``static/`` by name: what is not here is not served."""
    return {path.name: path.read_bytes() for path in (HERE / "static").iterdir() if path.suffix in KINDS}


def asset_url(name: str) -> str:
    """Where a static file is served: its hash stands in the address, so that browsers may keep it."""
    return f"/static/{name}?v={hashlib.sha256(assets()[name]).hexdigest()[:12]}"


def asset(name: str) -> Response | None:
    """A static file; None where there is none of this name."""
    body = assets().get(name)
    if body is None:
        return None
    kept = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(body, media_type=KINDS[Path(name).suffix], headers=kept)


@cache
def templates() -> Environment:
    """Escapes everything; a name that a page was not given is an error."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["asset"] = asset_url
    return found


def warm() -> None:
    """Compiles the annotators' page and reads its files, so that nobody is the first to wait for them."""
    templates().get_template("annotate.html")
    assets()


def page(request: Request, name: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A template as a response. It knows ``visitor`` (account, csrf) besides what it is given."""
    text = templates().get_template(name).render(visitor=request.state.visitor, **values)
    return HTMLResponse(text, status_code=status)


def message(
    request: Request, title: str, text: str, status: int = 200, headers: dict[str, str] | None = None
) -> HTMLResponse:
    """A page that says one thing."""
    found = page(request, "message.html", status, title=title, text=text)
    found.headers.update(headers or {})
    return found
