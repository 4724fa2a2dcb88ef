"""What a stage is given: its directory, its seed, where numbers go, and the record of what went in."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.distributed.agree import facts_of, require_same
from align.distributed.settings import LaunchSettings
from align.distributed.world import joined, led, world
from align.errors import ConfigError
from align.files import remove_leftovers, sha256_of, write_json, write_whole
from align.host import git_state, host_facts, versions
from align.settings import RunSettings
from align.tracking.lineage import linked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from align.protocols import Stage, Tracker
    from align.types import Result


@dataclass(frozen=True)
class Run:
    """One run of one stage.

    Everything that a run writes lies in ``directory``: config.yaml, run.json, metrics.jsonl,
    results.json, samples.jsonl, items.jsonl, pairs.jsonl, data_report.json, checkpoints/, model/, figures/.
    """

    directory: Path
    stage: Stage
    stage_name: str
    seed: int
    resume: bool
    tracker: Tracker
    config: Mapping[str, Any] = field(default_factory=dict)
    """The composed config as plain values, for the record; no stage reads it."""
    config_yaml: str = ""
    """The same as text, written to config.yaml."""
    command: Sequence[str] = ()
    launch: LaunchSettings = field(default_factory=LaunchSettings)
    """How its ranks are started, watched and ended; ``align.distributed.start`` reads it."""
    cache: Path = field(default_factory=lambda: user_cache())
    """What is computed once and kept for later runs; whoever writes there makes its folder."""
    is_step: bool = False
    """Whether a pipeline runs it, which prints the summary at its end."""
    steps: Sequence[Run] = ()
    """A pipeline's steps, each composed as if it were run alone; empty for every other stage."""
    record: dict[str, Any] = field(default_factory=dict)
    """What run.json holds; changed through ``note`` and ``note_input`` only."""

    def execute(self) -> None:
        """Does the work: opens the directory, runs the stage, and writes down how it ended.

        Of several ranks each runs the stage; rank 0 alone writes and tracks.

        Raises:
            ConfigError: the directory already holds a run and ``resume`` is false, or holds another one.
            RanksDiffer: the ranks have other settings, versions or code.
        """
        from align.tracking.none import NoTracker

        with joined(self.launch.timeout):
            require_same(lambda: facts_of(self))
            led(self._open)
            (self if world().leads else replace(self, tracker=NoTracker()))._work()

    def _work(self) -> None:
        from align.training.signals import sigterm_raised

        started = time.time()
        state, code = "failed", 1
        try:
            with sigterm_raised():
                self.tracker.start(self)
                self.stage.execute(self)
            state, code = "completed", 0
        except BaseException as error:
            code = getattr(error, "exit_code", 1)
            state = "terminated" if code == 143 else "failed"
            self.note(error=f"{type(error).__name__}: {error}")
            raise
        finally:
            seconds = self.record.get("seconds", 0.0) + time.time() - started
            self.note(state=state, seconds=round(seconds, 3))
            self.tracker.finish(code)

    def continued(self, resume: bool) -> Run:
        """The same run, told whether to continue what its directory holds."""
        return replace(self, resume=resume)

    def note(self, **facts: Any) -> None:
        """Adds facts to run.json, durably."""
        self.record.update(facts)
        if not world().leads:
            return
        write_json(self.directory / "run.json", self.record)

    def note_input(self, role: str, path: str | None, fingerprint: str | None = None) -> None:
        """Writes down what went in (``model``, ``reference``, ``reward``, ``data``, ``tokenizer`` ...).

        A path that is a folder or file here is hashed; one made by an earlier run (its directory, or a file
        in it) names that run too, which keeps the lineage.
        """
        self.note_inputs({role: (path, fingerprint)})

    def note_inputs(self, inputs: Mapping[str, tuple[str | None, str | None]]) -> None:
        """``note_input`` of many at once: role -> path and fingerprint; run.json is written once."""
        found = {role: _input(path, fingerprint) for role, (path, fingerprint) in inputs.items()}
        self.note(
            inputs={**self.record.get("inputs", {}), **{role: one.entry for role, one in found.items()}}
        )
        for role, one in found.items():
            for name, kind, source, sha256 in linked(role, one.entry, one.origin, one.place):
                self.tracker.used(name, kind, source, sha256)

    def inputs(self) -> Mapping[str, Mapping[str, Any]]:
        """What ``note_input`` wrote down, by role."""
        found: dict[str, dict[str, Any]] = self.record.get("inputs", {})
        return found

    def offer_model(self) -> None:
        """Offers ``model/`` under the names of the stage and of the run's folder."""
        self.offer("model", self.directory / "model", self.stage_name)

    def offer(self, what: str, path: Path, prefix: str, **facts: Any) -> None:
        """Writes down what this run made for others (``model``, ``records`` ...), and tells the tracker.

        ``facts`` stand beside its path and hash in run.json; its name there and in the tracker is ``prefix``
        and the folder's.
        """
        if not world().leads:
            return
        name = f"{prefix}-{self.directory.name}"
        self.note(outputs={what: {"path": str(path), "sha256": sha256_of(path), "artifact": name, **facts}})
        self.tracker.artifact(name, "model" if what == "model" else "dataset", path)

    def write_results(self, results: Sequence[Result]) -> None:
        """Writes results.json and sends the same numbers to the tracker."""
        if not world().leads:
            return
        from align.report.files import write_results

        write_results(self.directory / "results.json", results)
        self.tracker.summary({result.metric: result.value for result in results})

    def check(self) -> dict[str, Any] | None:
        """What run.json holds of this run so far, None where it is new; nothing is written.

        Raises:
            ConfigError: the directory holds a run and ``resume`` is false, or holds another one.
        """
        found = read_record(self.directory)
        taken = _holds_something(self.directory)
        if found and self._did_nothing(found):
            found, taken = None, False
        if taken and not self.resume:
            raise ConfigError(
                f"run.dir={self.directory} is not empty: resume=true continues the run in it, "
                f"another run.dir starts a new one"
            )
        if found:
            self._refuse_another(found)
        return found

    def note_fall(self, error: str) -> None:
        """Writes into run.json what its ranks fell by, which rank 0 may not know, or had no time to write."""
        found = read_record(self.directory)
        if found and found.get("state") in ("running", "failed"):
            write_json(self.directory / "run.json", {**found, "state": "failed", "error": error})

    def _open(self) -> None:
        self.record.update(self.check() or {})
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run.dir={self.directory} cannot be made: {error.strerror}") from error
        remove_leftovers(self.directory)
        write_whole(self.directory / "config.yaml", self.config_yaml)
        self.record.pop("error", None)
        self.note(
            stage=self.stage_name,
            state="running",
            seed=self.seed,
            command=list(self.command),
            git=git_state(),
            versions=versions(),
            ranks=world().size,
            host=host_facts(),
            config=dict(self.config),
            started=self.record.get("started") or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    def _did_nothing(self, found: Mapping[str, Any]) -> bool:
        """Whether a run stopped here (at a missing file, say) before there was anything to keep."""
        kept = {path.name for path in self.directory.iterdir()} - {"config.yaml", "run.json"}
        return found.get("state") == "failed" and kept <= {"data", "data_report.json"}

    def _refuse_another(self, found: Mapping[str, Any]) -> None:
        changed = [
            line
            for line in differences(found.get("config", {}), self.config)
            if not line.startswith(_JUDGED_ELSEWHERE)
        ]
        if changed:
            raise ConfigError(
                f"run.dir={self.directory} holds a run with other settings, which cannot be continued:\n  "
                + "\n  ".join(changed)
                + "\ngive another run.dir, or the settings of that run"
            )

    def is_whole(self) -> bool:
        """Whether this very run (same settings) was already completed in its directory."""
        found = read_record(self.directory)
        return bool(found and found.get("state") == "completed" and not self._differs(found))

    def _differs(self, found: Mapping[str, Any]) -> bool:
        return bool(differences(found.get("config", {}), self.config))


@dataclass(frozen=True)
class _Input:
    """Something that went in: what run.json holds of it, and the run that made it."""

    entry: Mapping[str, Any]
    place: Path | None
    origin: Mapping[str, Any] | None


def _input(path: str | None, fingerprint: str | None) -> _Input:
    entry: dict[str, Any] = {"path": path}
    place = Path(path) if path else None
    if fingerprint is not None:
        entry["sha256"] = fingerprint
    elif place is not None and (place / "model").is_dir():
        entry["sha256"] = sha256_of(place / "model")
    elif place is not None and place.exists():
        entry["sha256"] = sha256_of(place)
    origin = (read_record(place) or read_record(place.parent)) if place else None
    if origin:
        entry["run"] = {key: origin.get(key) for key in ("stage", "command", "git", "inputs")}
    return _Input(entry, place, origin)


_NOT_PART_OF_THE_WORK = (
    *("run", "resume", "tracking", "alarms", "annotate", "allocation", "question"),
    *("deepspeed", "launch"),
)
"""Sections that may change between a run and its continuation."""

_JUDGED_ELSEWHERE = ("training", "steps")
"""Checkpoints judge a change of training (a smaller micro-batch may continue), steps judge their own."""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Settings that differ between two composed configs, one line each: ``training.max_steps: 10 -> 20``."""
    before = {
        key: value for key, value in flat(old).items() if key.split(".")[0] not in _NOT_PART_OF_THE_WORK
    }
    after = {key: value for key, value in flat(new).items() if key.split(".")[0] not in _NOT_PART_OF_THE_WORK}
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys; lists stay whole."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def _holds_something(directory: Path) -> bool:
    """Whether a folder is there that is not empty; refuses a file, and a folder that cannot be used."""
    if not directory.exists():
        return False
    if not directory.is_dir():
        raise ConfigError(f"run.dir={directory} is a file: give a folder, made where it is absent")
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(f"run.dir={directory} cannot be written to: give another folder")
    return any(directory.iterdir())


def cache_folder(text: str) -> Path:
    """``run.cache`` as an absolute path, ``~`` expanded; nothing is made.

    Raises:
        ConfigError: this user has no home folder.
    """
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"run.cache={text}: {error}; give run.cache=DIR, or set ALIGN_CACHE") from error


def user_cache() -> Path:
    """``run.cache`` where nobody gives one: ``ALIGN_CACHE``, or a folder in the user's home."""
    return cache_folder(os.environ.get("ALIGN_CACHE") or RunSettings.cache)


def read_record(directory: Path) -> dict[str, Any] | None:
    """The run.json of a run directory, or None where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = directory / "run.json"
    if not path.is_file():
        return None
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}): give another run.dir") from error
    return found
