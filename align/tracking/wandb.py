"""Mirrors a run to Weights & Biases, and never stops it.

wandb missing, down, out of disk or raising: one warning, and the run goes on without it. Only what
``Tracker`` names is sent (metrics, config, tables, references), no code, no console, nothing about the
machine, and only in mode ``online``. Written against wandb 0.31.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from align.tracking._link import Link

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Wandb"]

_SECONDS_TO_WAIT = 60.0
DRIFT = "rollout/kl"
AGAINST_DRIFT = "against_kl/"


@dataclass(frozen=True)
class Wandb:
    """The tracker of ``tracking=wandb``. The key comes from the environment, never from a config."""

    mode: Literal["online", "offline", "none"] = "offline"
    """``offline`` writes to the run's directory for ``wandb sync``; ``online`` sends; ``none``: nothing."""
    project: str = "align"
    """The project that the run appears in."""
    entity: str | None = None
    """User or team; none takes the account's default."""
    group: str | None = None
    """Groups the runs of one experiment; none takes the name of the folder that the run lies in."""
    tags: tuple[str, ...] = ()
    """Words to find the run by."""

    @cached_property
    def _link(self) -> Link:
        return Link("wandb")

    @property
    def missed(self) -> int:
        """Calls that did not reach wandb since it failed."""
        return self._link.missed

    def start(self, run: Run) -> None:
        """Opens the run (again, where it is resumed)."""
        if self.mode != "none":
            self._link.attempt("start", lambda _: self._open(run))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of ``metrics.jsonl``. The step is a value like the others: a resumed run may repeat it."""
        line = {"step": step, **metrics, **against_drift(metrics)}
        self._link.send("log", lambda wandb_run: wandb_run.log(line))

    def summary(self, values: Mapping[str, float]) -> None:
        """The run's final numbers, and results.json itself, which has their intervals."""

        def send(wandb_run: Any) -> None:
            wandb_run.summary.update(dict(values))
            directory = Path(wandb_run.settings.root_dir)
            if (directory / "results.json").is_file():
                wandb_run.save(str(directory / "results.json"), base_path=str(directory), policy="now")

        self._link.send("summary", send)

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as a table; its columns are all the keys, in order of appearance."""

        def send(wandb_run: Any) -> None:
            import wandb

            columns = list(dict.fromkeys(key for row in rows for key in row))
            data = [[row.get(column) for column in columns] for row in rows]
            wandb_run.log({name: wandb.Table(columns=columns, data=data, allow_mixed_types=True)})

        if rows:
            self._link.send("table", send)

    def artifact(self, name: str, kind: str, path: Path) -> None:
        """Refers to a folder by path and checksums; its files stay where they are."""

        self._link.send("artifact", lambda wandb_run: wandb_run.log_artifact(_artifact(name, kind, path)))

    def used(self, name: str, kind: str, path: Path | None, sha256: str) -> None:
        """Links the run to what it was made from: the same name and bytes are the same artifact in wandb."""

        def send(wandb_run: Any) -> None:
            artifact = _artifact(name, kind, path, sha256)
            if self.mode == "online":
                wandb_run.use_artifact(artifact)
            else:
                # what use_artifact does with an artifact of ours; that itself refuses to work offline
                wandb_run._log_artifact(artifact, is_user_created=True, use_after_commit=True)

        self._link.send("used", send)

    def finish(self, exit_code: int) -> None:
        """Closes the run; waits a minute at most for what is still being sent."""
        self._link.send("finish", lambda wandb_run: wandb_run.finish(exit_code=exit_code))
        self._link.run = None
        if self._link.failed and (wandb := sys.modules.get("wandb")):
            # It would try again while Python exits, and print a traceback: let it fail here, unseen.
            with suppress(Exception):
                wandb.teardown(exit_code)

    def _open(self, run: Run) -> None:
        # Read when wandb is imported: without it, its errors are reported to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        if self.mode == "online" and not wandb.login(prompt=False):
            raise RuntimeError("no key: set WANDB_API_KEY, or tracking.mode=offline")
        directory = run.directory.resolve()
        opened = wandb.init(
            mode="online" if self.mode == "online" else "offline",
            project=self.project,
            entity=self.entity,
            group=self.group or directory.parent.name,
            job_type=run.stage_name,
            name=directory.name,
            tags=list(self.tags),
            config=dict(run.config),
            dir=directory,
            id=_run_id(directory),
            resume="allow" if self.mode == "online" else None,
            # a pipeline's own run stays open while its steps open theirs
            reinit="create_new",
            settings=_private(wandb),
        )
        opened.define_metric("*", step_metric="step")
        opened.define_metric(f"{AGAINST_DRIFT}*", step_metric=DRIFT)
        self._link.run = opened
        where = opened.url if self.mode == "online" else f"wandb sync {Path(opened.dir).parent} sends it"
        print(f"wandb ({self.mode}): {where}", file=sys.stderr)


def against_drift(metrics: Mapping[str, float]) -> dict[str, float]:
    """What a rollout measured, again under names that wandb draws against the drift instead of steps."""
    if DRIFT not in metrics:
        return {}
    drawn = ("rollout/", "validation")
    own = {name: value for name, value in metrics.items() if name.startswith(drawn) and name != DRIFT}
    return {f"{AGAINST_DRIFT}{name}": value for name, value in own.items()}


def _artifact(name: str, kind: str, path: Path | None, sha256: str | None = None) -> Any:
    """Refers to files by path and checksums; without files here, a text with the hash stands for them."""
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", name)[:128], type=kind)
    if path is not None and path.exists():
        artifact.add_reference(path.resolve().as_uri(), checksum=True)
    else:
        with artifact.new_file("sha256.txt") as file:
            file.write(f"{sha256}\n")
    return artifact


def _private(wandb: Any) -> Any:
    """Settings under which wandb watches nothing by itself, prints nothing, and waits a minute at most."""
    return wandb.Settings(
        console="off",
        disable_git=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        silent=True,
        symlink=False,
        init_timeout=_SECONDS_TO_WAIT,
        finish_timeout=_SECONDS_TO_WAIT,
    )


def _run_id(directory: Path) -> str:
    """The id of this directory's run, drawn once: resuming continues the same run in wandb."""
    path = directory / "wandb" / "run-id.txt"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()
