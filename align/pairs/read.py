"""A dataset -> checked records with their split, one at a time: what every source goes through."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import TYPE_CHECKING, Literal, cast, overload

from align import registry
from align.errors import BadRow, ConfigError
from align.pairs.check import Seen, check, pair_id, prompt_id, record_id
from align.pairs.report import DataReport
from align.pairs.split import Split, fold_split, split_of
from align.pairs.ties import pairs_of
from align.pairs.votes import combined
from align.types import Demonstration, PreferenceRecord, UnpairedExample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from align.settings import DatasetSettings
    from align.types import Example, Location, PreferencePair, Prompt, Record, Row

Wants = Literal["pairs", "demonstrations", "unpaired"]


def report_for(dataset: DatasetSettings) -> DataReport:
    """An empty report under the dataset's name and its rule for bad rows."""
    return DataReport(source_name(dataset), stop_at_bad_rows=dataset.bad_rows == "error")


def source_name(dataset: DatasetSettings) -> str:
    """What the user typed after ``dataset=`` (a source's module is named so)."""
    return type(dataset.source).__module__.removeprefix("data.")


def records(dataset: DatasetSettings, report: DataReport) -> Iterator[PreferenceRecord]:
    """All preference records of a dataset in order, ties and all, checked and with id and location.

    Raises:
        ConfigError: the dataset offers demonstrations.
        DataError: a missing file; bad rows under ``bad_rows=error``; no row that can be used.
    """
    for record, _ in placed_records(dataset, report):
        yield record


def placed_records(
    dataset: DatasetSettings, report: DataReport
) -> Iterator[tuple[PreferenceRecord, Location]]:
    """The same, each with its row's place, which is not its own where the file says where it came from.

    Raises:
        ConfigError, DataError: as ``records``.
    """
    for split, record, at in split_records(dataset, report):
        report.keep(split)
        yield record, at
    report.finish()


def split_records(
    dataset: DatasetSettings, report: DataReport
) -> Iterator[tuple[Split, PreferenceRecord, Location]]:
    """The same, each with its split, for whoever calls ``report.keep``, and ``report.finish`` after the last.

    Raises:
        ConfigError: the dataset offers demonstrations.
        DataError: a missing file; bad rows under ``bad_rows=error``.
    """
    refuse_demonstrations(dataset)
    for split, record, at in _judged(dataset, report):
        assert isinstance(record, PreferenceRecord)
        yield split, record, at


def texts(dataset: DatasetSettings) -> Iterator[str]:
    """Every text of the training split, turn by turn: what a tokenizer is trained on.

    Raises:
        DataError: as ``records``.
    """
    report = report_for(dataset)
    for split, record, _ in _judged(dataset, report):
        report.keep(split)
        if split != "train":
            continue
        yield from (message.content for message in record.prompt)
        if isinstance(record, PreferenceRecord):
            yield from (reply.text for reply in record.replies)
        else:
            yield record.reply
    report.finish()


@overload
def examples(
    dataset: DatasetSettings, report: DataReport, wants: Literal["pairs"]
) -> Iterator[tuple[Split, PreferencePair, Location]]: ...
@overload
def examples(
    dataset: DatasetSettings, report: DataReport, wants: Literal["demonstrations"]
) -> Iterator[tuple[Split, Demonstration, Location]]: ...
@overload
def examples(
    dataset: DatasetSettings, report: DataReport, wants: Literal["unpaired"]
) -> Iterator[tuple[Split, UnpairedExample, Location]]: ...
@overload
def examples(
    dataset: DatasetSettings, report: DataReport, wants: Wants
) -> Iterator[tuple[Split, Example, Location]]: ...
def examples(
    dataset: DatasetSettings, report: DataReport, wants: Wants
) -> Iterator[tuple[Split, Example, Location]]:
    """What training sees of a dataset, with its split and its row's place, as the kind that is wanted.

    Decisive pairs serve every kind, and ties as ``dataset.ties`` says. A demonstration is their prompt and
    chosen reply, once however many pairs hold it; labelled replies are both, the chosen one desirable, the
    rejected one not. Of labelled replies, the desirable ones are demonstrations. Whoever uses an example
    calls ``report.keep``, and ``report.finish`` after the last.

    Raises:
        ConfigError: the dataset offers nothing that makes examples of this kind.
        DataError: a missing file; bad rows under ``bad_rows=error``; no row that can be used.
    """
    for split, _, found, at in examples_of_records(dataset, report, wants):
        for example in found:
            yield split, example, at


def examples_of_records(
    dataset: DatasetSettings, report: DataReport, wants: Wants
) -> Iterator[tuple[Split, Record, list[Example], Location]]:
    """The same beside the record that they were made of; of a record that makes none, the report tells why.

    Raises:
        ConfigError, DataError: as ``examples``.
    """
    if wants == "pairs":
        refuse_demonstrations(dataset)
    elif wants == "unpaired":
        refuse_unlabelled(dataset)
    repeated = Seen()
    for split, record, at in _judged(dataset, report):
        if not isinstance(record, PreferenceRecord):
            yield split, record, _of_one_reply(record, wants, report, at), at
            continue
        pairs = pairs_of(record, dataset.ties)
        if not pairs:
            same = " of two equal replies" if record.replies[0].text == record.replies[1].text else ""
            report.refuse(at, "not_decisive", f"neither reply is preferred ({record.preferred}{same})")
        yield split, record, _of_pairs(pairs, wants, report, at, repeated), at


def _of_pairs(
    pairs: list[PreferencePair], wants: Wants, report: DataReport, at: Location, repeated: Seen
) -> list[Example]:
    if wants == "pairs":
        return list(pairs)
    if wants == "unpaired":
        return [example for pair in pairs for example in _both_replies(pair)]
    found: list[Example] = []
    for pair in pairs:
        demonstration = Demonstration(pair.id, pair.prompt, pair.chosen, pair.location)
        try:
            repeated.refuse_repeats(demonstration, "", at)
        except BadRow as repeat:
            report.refuse(at, "repeated_demonstration", repeat.detail)
        else:
            found.append(demonstration)
    return found


def _of_one_reply(
    record: Demonstration | UnpairedExample, wants: Wants, report: DataReport, at: Location
) -> list[Example]:
    if isinstance(record, Demonstration) or wants == "unpaired":
        return [record]
    if not record.desirable:
        report.refuse(at, "not_desirable", "the reply is labelled undesirable: nothing to imitate")
        return []
    return [Demonstration(record.id, record.prompt, record.reply, record.location)]


def _both_replies(pair: PreferencePair) -> list[Example]:
    """A pair as two labelled replies. A reply that several pairs hold counts as often as it was judged."""
    return [
        UnpairedExample(f"{pair.id}:chosen", pair.prompt, pair.chosen, True, pair.location),
        UnpairedExample(f"{pair.id}:rejected", pair.prompt, pair.rejected, False, pair.location),
    ]


def _judged(dataset: DatasetSettings, report: DataReport) -> Iterator[tuple[Split, Record, Location]]:
    """Whole records, the votes on one pair combined as ``dataset.votes`` says (pairs only have votes)."""
    if dataset.votes == "each" or dataset.source.offers != "pairs":
        return _checked(dataset, report)
    pairs = cast("Iterator[tuple[Split, PreferenceRecord, Location]]", _checked(dataset, report))
    return combined(pairs, dataset.votes, report)


def _checked(dataset: DatasetSettings, report: DataReport) -> Iterator[tuple[Split, Record, Location]]:
    """Rows as whole records; those that make none go to the report."""
    seen = Seen()
    for row in _limited(dataset):
        report.read += 1
        try:
            yield _record(dataset, row, seen)
        except BadRow as bad:
            report.refuse(row.location, bad.reason, bad.detail)


def _record(dataset: DatasetSettings, row: Row, seen: Seen) -> tuple[Split, Record, Location]:
    if row.problem is not None or row.values is None:
        raise BadRow(*(row.problem or ("unreadable", "")))
    bare = dataset.source.record(row.values)
    check(bare)
    record = _named(bare, row.location)
    if row.split is None:
        split = _drawn_split(dataset, record.prompt)
    elif dataset.folds is not None:
        raise ConfigError(
            f"dataset.folds={dataset.folds} parts all prompts, and these data come with a test set of their "
            f"own: leave dataset.test_split out"
        )
    else:
        seen.refuse_other_split(record.prompt, row.split, row.location)
        split = row.split
        if split == "train":
            # the test set is given, so only the validation set is drawn
            split = split_of(record.prompt, dataset.split_seed, 0.0, dataset.validation_fraction)
    seen.refuse_repeats(record, bare.id, row.location)
    return split, record, row.location


def _drawn_split(dataset: DatasetSettings, prompt: Prompt) -> Split:
    seed, validation = dataset.split_seed, dataset.validation_fraction
    if dataset.folds is not None:
        return fold_split(prompt, seed, dataset.folds, dataset.fold, validation)
    return split_of(prompt, seed, dataset.test_fraction, validation)


def _named(bare: Record, at: Location) -> Record:
    """A record with its ids, from its texts where it has none of its own, and its place."""
    named = dataclasses.replace(bare, id=bare.id or record_id(bare), location=bare.location or at)
    if isinstance(named, PreferenceRecord):
        return dataclasses.replace(
            named,
            prompt_id=named.prompt_id or prompt_id(named.prompt),
            pair_id=named.pair_id or pair_id(named),
        )
    return named


def _limited(dataset: DatasetSettings) -> Iterator[Row]:
    """The first ``limit`` rows; of each split, where the data comes with splits of its own."""
    counts: Counter[str | None] = Counter()
    for row in dataset.source.rows():
        counts[row.split] += 1
        if dataset.limit is None or counts[row.split] <= dataset.limit:
            yield row
        elif row.split != "test":  # test rows come first: training rows are still to come
            return


def refuse_demonstrations(dataset: DatasetSettings) -> None:
    """Raises ``ConfigError`` where the dataset has no pairs; looks at its kind only, reads nothing."""
    _refuse_all_but(("pairs",), dataset, "preference pairs")


def refuse_unlabelled(dataset: DatasetSettings) -> None:
    """Raises ``ConfigError`` where the dataset has neither labelled replies nor pairs; reads nothing."""
    _refuse_all_but(("unpaired", "pairs"), dataset, "labelled replies or preference pairs")


def _refuse_all_but(kinds: tuple[str, ...], dataset: DatasetSettings, needed: str) -> None:
    if dataset.source.offers in kinds:
        return
    known = [(name, registry.component("dataset", name)) for name in registry.known("dataset")]
    # a property is no text before there is an instance; the one source that has it so offers pairs
    offers = {name: getattr(source, "offers", "") for name, source in known}
    fitting = [name for name, kind in offers.items() if kind in kinds or isinstance(kind, property)]
    offered = {"unpaired": "labelled replies"}.get(dataset.source.offers, dataset.source.offers)
    raise ConfigError(
        f"dataset={source_name(dataset)} offers {offered}, and this stage needs {needed}. "
        f"Datasets that offer {needed.removeprefix('preference ')}: {', '.join(fitting)}"
    )
