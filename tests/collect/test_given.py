"""What a dataset gives to start from: replies with all that is known of them, pairs without a judge."""

from __future__ import annotations

from pathlib import Path

from benches import toy_records

from align.collect._given import read_given
from align.pairs.records import write_records
from align.settings import CollectionSettings, DatasetSettings
from data.records import Records


def here(source: object) -> DatasetSettings:
    """All of it in the training split."""
    return DatasetSettings(source, test_fraction=0, validation_fraction=0)  # type: ignore[arg-type]


def test_a_chosen_reply_keeps_who_wrote_it(tmp_path: Path):
    records = toy_records(20)
    write_records(tmp_path, records)
    found = read_given(here(Records(str(tmp_path))), "demonstrations", CollectionSettings(), tmp_path / "run")
    chosen = [one.replies[0 if one.preferred == "first" else 1] for one in records]
    assert [item.replies for item in found.items] == [(reply,) for reply in chosen]
    assert all(reply.model for reply in chosen)
