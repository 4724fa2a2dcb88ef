"""Mirrors a run to MLflow, and never stops it.

A database beside the runs, or the server that ``uri`` or MLFLOW_TRACKING_URI names. Written against
mlflow-skinny 3.17.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.tracking._link import Link

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Mlflow"]

_LONGEST = 6000  # characters of a parameter's value
_BATCH = 100  # parameters of one call
_LONGEST_TAG = 250  # characters of a tag's name


@dataclass(frozen=True)
class Mlflow:
    """The tracker of ``tracking=mlflow``."""

    uri: str | None = None
    """Where MLflow keeps runs; none: MLFLOW_TRACKING_URI, else mlflow.db in the folder of the runs."""
    experiment: str = "align"
    """The experiment that the run appears in."""
    group: str | None = None
    """A tag that groups runs; none takes the name of the folder that the run lies in."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""

    @cached_property
    def _link(self) -> _Client:
        return _Client("mlflow")

    @property
    def missed(self) -> int:
        """Calls that did not reach MLflow since it failed."""
        return self._link.missed

    def start(self, run: Run) -> None:
        """Opens the run (again, where it is resumed)."""
        self._link.attempt("start", lambda _: self._open(run))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of ``metrics.jsonl``. A step that a resumed run repeats keeps both values, alike."""
        self._link.send("log", lambda client: client.log_batch(self._link.id, _metrics(metrics, step)))
        self._link.step = step

    def summary(self, values: Mapping[str, float]) -> None:
        """The run's final numbers, under ``results/``."""
        named = {f"results/{name}": value for name, value in values.items()}
        self._link.send(
            "summary", lambda client: client.log_batch(self._link.id, _metrics(named, self._link.step))
        )

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as a table of the run; its columns are all the keys, in order of appearance."""

        def send(client: Any) -> None:
            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = {column: [row.get(column) for row in rows] for column in columns}
            client.log_table(self._link.id, data, f"{name}.json")

        if rows:
            self._link.send("table", send)

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """Where the product lies, as a tag; its files stay there."""
        self._tag("artifact", f"{kind}.{name}", {"path": str(path.resolve())})

    def used(self, name: str, kind: str, path: Path | None, sha256: str) -> None:
        """What went in, as a tag: the name is that of the product of another run."""
        self._tag("input", f"{kind}.{name}", {"path": None if path is None else str(path), "sha256": sha256})

    def finish(self, exit_code: int) -> None:
        """Closes the run."""
        state = "FINISHED" if exit_code == 0 else "KILLED" if exit_code == 143 else "FAILED"
        self._link.send("finish", lambda client: client.set_terminated(self._link.id, state))
        self._link.run = None

    def _tag(self, what: str, name: str, value: Mapping[str, Any]) -> None:
        key = f"{what}.{name}"[:_LONGEST_TAG]
        self._link.send(what, lambda client: client.set_tag(self._link.id, key, json.dumps(value)))

    def _open(self, run: Run) -> None:
        # Read when mlflow is imported: without it, use is reported to its makers.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        try:
            from mlflow import MlflowClient
        except ModuleNotFoundError as error:
            raise RuntimeError("not installed: pip install 'align[mlflow]'") from error
        directory = run.directory.resolve()
        beside = directory.parent
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{beside / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(self.experiment) or _made(client, self.experiment, uri, beside)
        self._link.id = _run_id(client, found.experiment_id, directory)
        tags = {
            "stage": run.stage_name,
            "group": self.group or beside.name,
            **dict.fromkeys(self.tags, "true"),
        }
        for key, value in tags.items():
            client.set_tag(self._link.id, key, value)
        known = client.get_run(
            self._link.id
        ).data.params  # a parameter is told once, and a resumed run has some
        for batch in _parameters(run.config, known):
            client.log_batch(self._link.id, params=batch)
        self._link.run = client
        print(f"mlflow: {uri}, experiment {self.experiment}", file=sys.stderr)


@dataclass
class _Client(Link):
    """A client, and the run that it writes to."""

    id: str = ""
    step: int = 0
    """The last step that was logged."""


def _made(client: Any, name: str, uri: str, beside: Path) -> Any:
    """The experiment; a database on this disk keeps its tables beside it, not in the working directory."""
    from mlflow.exceptions import MlflowException

    place = (beside / "mlflow").as_uri() if uri.startswith("sqlite:") else None
    try:
        client.create_experiment(name, artifact_location=place)
    except MlflowException:
        if client.get_experiment_by_name(name) is None:
            raise  # else another job was first
    return client.get_experiment_by_name(name)


def _run_id(client: Any, experiment: str, directory: Path) -> str:
    """The id of this directory's run: resuming continues the same run in MLflow."""
    path = directory / "mlflow" / "run-id.txt"
    if path.exists():
        known = path.read_text(encoding="utf-8").strip()
        client.update_run(known, status="RUNNING")
        return known
    made: str = client.create_run(experiment, run_name=directory.name).info.run_id
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(made, encoding="utf-8")
    return made


def _parameters(config: Mapping[str, Any], known: Mapping[str, str]) -> Iterator[list[Any]]:
    """The config's options, cut where MLflow takes no more, in batches."""
    from mlflow.entities import Param

    from align.run import flat

    new = {key: value for key, value in flat(config).items() if key not in known}
    leaves = [Param(key, str(value)[:_LONGEST]) for key, value in new.items()]
    for start in range(0, len(leaves), _BATCH):
        yield leaves[start : start + _BATCH]


def _metrics(values: Mapping[str, float], step: int) -> list[Any]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [Metric(name, float(value), now, step) for name, value in values.items()]
