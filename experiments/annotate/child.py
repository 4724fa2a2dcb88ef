"""The server in a process of its own, to be killed: ``python -m experiments.annotate.child FOLDER``.

It serves what ``stage=annotate`` serves. FOLDER/plan.json says how; the links that people come in by are
written to FOLDER/links.json at the first start. Prints the address when it listens.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from align.annotate import accounts_schema  # noqa: F401  before the desk, which makes the tables
from align.annotate.accounts import Accounts
from align.annotate.app import build_app
from align.annotate.desk import Desk
from align.annotate.seals import Seals, study_key
from align.annotate.server import listen, origins, serve
from align.annotate.settings import AllocationSettings, AnnotateSettings
from align.annotate.study import Study
from align.files import write_json
from align.types import Judge, Message, PreferenceRecord, Reply


@dataclass(frozen=True)
class Plan:
    """What is served."""

    port: int
    people: int
    items: int
    database: str
    allocation: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """For the child to read."""
        write_json(folder / "plan.json", asdict(self))


def pair(number: int, words: int = 60) -> PreferenceRecord:
    """A pair of replies of some words."""
    said = " ".join(f"word{(number * 7 + place) % 97}" for place in range(words))
    return PreferenceRecord(
        id="",
        prompt=(Message("user", f"Question {number}: {said}?"),),
        replies=(Reply(f"One {number}: {said}."), Reply(f"Two {number}: {said}.")),
        preferred="first",
        judge=Judge("file", "made up"),
    )


def main() -> None:
    """Serves until it is killed."""
    folder = Path(sys.argv[1])
    plan = Plan(**json.loads((folder / "plan.json").read_bytes()))
    settings = AnnotateSettings(port=plan.port)
    listening = listen(settings)
    desk = Desk(plan.database, AllocationSettings(**plan.allocation))
    seals = Seals(study_key(folder / "study.key"), settings.session_hours)
    accounts = Accounts(desk, seals)
    if not (folder / "links.json").exists():
        desk.add_items(pair(number) for number in range(plan.items))
        names = [f"person {number}" for number in range(plan.people)]
        write_json(folder / "links.json", [accounts.invite("annotator", name) for name in names])
    addresses = origins(settings, plan.port)
    app = build_app(desk, accounts, seals, Study(settings), addresses)
    print(addresses[0], flush=True)
    serve(app, listening, settings)


if __name__ == "__main__":
    main()
