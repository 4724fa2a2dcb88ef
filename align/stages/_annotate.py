"""What ``stage=annotate`` does before people come and after they are gone."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from align.annotate.accounts import PLATFORMS, Accounts
from align.annotate.desk import Desk
from align.annotate.settings import AnnotateSettings
from align.annotate.snapshot import Reports
from align.errors import DataError
from align.pairs.candidates import CANDIDATES, read_candidates
from align.pairs.files import read_rows
from align.pairs.read import records, report_for
from align.pairs.records import record_from
from align.report.console import say
from align.report.terminal import print_summary
from align.types import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from align.run import Run
    from align.settings import DatasetSettings
    from align.types import PreferenceRecord


def fill(run: Run, desk: Desk, dataset: DatasetSettings, gold: str | None) -> None:
    """Adds the dataset's pairs as items, and the gold items; those that are there already stay as they are.

    A folder of candidates (of ``collect=active``, say) is taken as it is: nobody has judged them yet.

    Raises:
        DataError: no item is there afterwards.
    """
    place = Path(str(getattr(dataset.source, "path", "")))
    if (place / CANDIDATES).is_file():
        found = desk.add_items(islice(read_candidates(place), dataset.limit))
    else:
        report = report_for(dataset)
        found = desk.add_items(records(dataset, report))
        report.write(run.directory / "data_report.json")
    run.note_input("data", getattr(dataset.source, "path", None))
    refused = ", ".join(f"{count} {reason}" for reason, count in found.refused.items())
    say(f"{found.added} items added{f' ({refused} left out)' if refused else ''}")
    if gold is not None:
        known = desk.add_items(gold_records(gold), "gold")
        run.note_input("gold", gold)
        say(f"{known.added} gold items added")
        if not known.added and not desk.status().items["gold"]:
            raise DataError(
                f"allocation.gold={gold} holds no record that can be a gold item: {known.refused}"
            )
    if not desk.status().items["ordinary"]:
        raise DataError("there is nothing to annotate: the dataset has no pair of two different replies")


def gold_records(path: str) -> Iterator[PreferenceRecord]:
    """The records of a run, a folder, or a ``.jsonl`` file."""
    for row in read_rows(path):
        if row.values is None:
            raise DataError(f"{row.location}: {row.problem}")
        yield record_from(row.values)


def invite(accounts: Accounts, settings: AnnotateSettings, origin: str) -> None:
    """Says where the app is and how to come in: new links to the same accounts, earlier ones stay good."""
    say(f"\nserving {origin} - Ctrl-C ends it, resume=true goes on")
    say(f"  admin:       {origin}/in/{accounts.invite('admin', 'admin')}")
    for number in range(1, settings.annotators + 1):
        token = accounts.invite("annotator", f"annotator-{number}")
        say(f"  annotator {number}: {origin}/in/{token}")
    if settings.recruits != "none":
        say(f"  {settings.recruits}:    {origin}/join/{accounts.study_link()}{_query(settings.recruits)}")
    if origin.startswith("http://") and settings.public_url is not None:
        say("note: over http:// links and cookies can be read on the way; let a proxy hold a certificate")
    say("")


def _query(platform: str) -> str:
    """What else stands in the link: Prolific puts its ids where its braces are, MTurk's template must."""
    ask = "{{{{%{}%}}}}" if platform == "prolific" else "{}"
    return "?" + "&".join(f"{name}={ask.format(name)}" for name in PLATFORMS[platform])


def close_study(run: Run, desk: Desk) -> None:
    """Writes the records and results, and says how to train on them."""
    status, left_out = desk.status(), desk.left_out()
    count = desk.write(run.directory)
    path = run.directory / "records.jsonl"
    run.note(annotate={"items": dict(status.items), "left_out": vars(left_out)})
    run.offer("records", path, "people", records=count)
    results = results_of(desk, count)
    run.write_results(results)
    print_summary(results, places={"records": path, "results": run.directory / "results.json"})
    if not count:
        say("\nnothing was judged: there is nothing to train on yet")
        return
    say("\ntrain on what people chose:")
    say(f"  python -m align stage=reward dataset=records dataset.path={_quoted(run.directory)}")
    if desk.settings.overlap > 1:
        say("  where several people judged a pair, dataset.votes=majority (or reliable) makes one of them")


def results_of(desk: Desk, count: int) -> list[Result]:
    """Counts, how far people agree where several judged one pair, and how often the left was chosen."""
    status = desk.status()
    voters = sum(1 for one in desk.annotators() if one.answered)
    counts = {
        "annotate/items": status.items["ordinary"],
        "annotate/complete_items": status.complete,
        "annotate/judgements": count,
        "annotate/annotators": voters,
    }
    counted = [Result(name, float(value), value, None, None, "exact") for name, value in counts.items()]
    found = Reports(desk.database, desk.settings).newest().report.results()
    return [*counted, *(replace(one, metric=f"annotate/{one.metric}") for one in found)]


def _quoted(path: Path) -> str:
    from shlex import quote

    return quote(str(path))
