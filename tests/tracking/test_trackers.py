"""What the trackers do to a run: nothing. wandb here is a stand-in; the real one is in test_wandb_offline."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from align import registry
from align.config import build
from align.errors import ConfigError
from align.run import Run
from align.tracking.none import NoTracker
from align.tracking.wandb import Wandb


def make_run(directory: Path, tracker: Any) -> Run:
    directory.mkdir(parents=True, exist_ok=True)
    return Run(directory, None, "dpo", 0, False, tracker, {"loss": {"beta": 0.1}})  # type: ignore[arg-type]


def use(tracker: Any, directory: Path) -> None:
    """Every call that a run makes."""
    tracker.start(make_run(directory, tracker))
    tracker.log(1, {"loss": 0.5})
    tracker.log(2, {"loss": 0.4})
    tracker.table("samples", [{"prompt": "p", "reply": "r"}, {"prompt": "q", "score": 1.0}])
    tracker.table("nothing", [])
    tracker.artifact("runs/a model", "model", directory)
    tracker.used("sft-run", "model", directory, "ab12")
    tracker.used("data-ab12", "dataset", None, "ab12")
    tracker.finish(0)


class StandIn(types.ModuleType):
    """A module ``wandb`` that records its calls, and raises at the one named ``breaks``."""

    def __init__(self, breaks: str | None = None, error: BaseException | None = None) -> None:
        super().__init__("wandb")
        self.calls: list[tuple[str, Any]] = []
        self.breaks, self.error = breaks, error or RuntimeError("the moon is down\nsecond line")
        self.url, self.dir = "https://example.invalid/run", "/nowhere/files"

    def note(self, name: str, value: Any) -> None:
        self.calls.append((name, value))
        if name == self.breaks:
            raise self.error

    def login(self, **arguments: Any) -> bool:
        self.note("login", arguments)
        return True

    def init(self, **arguments: Any) -> StandIn:
        self.note("init", arguments)
        return self

    def define_metric(self, *names: str, **arguments: Any) -> None:
        self.note("define_metric", (names, arguments))

    def log(self, values: Mapping[str, Any]) -> None:
        self.note("log", dict(values))

    def log_artifact(self, artifact: Any) -> None:
        self.note("log_artifact", artifact)

    def finish(self, exit_code: int) -> None:
        self.note("finish", exit_code)

    def Settings(self, **arguments: Any) -> Mapping[str, Any]:
        return arguments

    def Table(self, **arguments: Any) -> Mapping[str, Any]:
        return arguments

    def use_artifact(self, artifact: Any) -> None:
        self.note("use_artifact", artifact)

    def _log_artifact(self, artifact: Any, *, is_user_created: bool, use_after_commit: bool) -> None:
        assert is_user_created
        assert use_after_commit
        self.note("use_artifact", artifact)

    def Artifact(self, name: str, type: str) -> Any:
        calls: list[Any] = []
        return types.SimpleNamespace(
            name=name,
            type=type,
            references=calls,
            add_reference=lambda uri, checksum: calls.append(uri),
            new_file=lambda name: nullcontext(types.SimpleNamespace(write=calls.append)),
        )

    def named(self, name: str) -> list[Any]:
        return [value for called, value in self.calls if called == name]


def stand_in(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> StandIn:
    wandb = StandIn(**arguments)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    return wandb


@pytest.mark.parametrize("tracker", [NoTracker(), Wandb(mode="none")])
def test_the_null_trackers_leave_no_trace(
    tmp_path: Path, tracker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = stand_in(monkeypatch)
    use(tracker, tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    assert wandb.calls == []
    assert caplog.text == ""


def test_what_wandb_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = stand_in(monkeypatch)
    use(Wandb(mode="online", project="p", entity="e", tags=("a", "b")), tmp_path / "study" / "seed0")
    (told,) = wandb.named("init")
    assert (
        told["settings"].items()
        >= {
            "console": "off",
            "disable_git": True,
            "save_code": False,
            "x_disable_stats": True,
            "x_disable_meta": True,
            "x_disable_machine_info": True,
            "x_save_requirements": False,
        }.items()
    )
    assert {key: told[key] for key in ("mode", "project", "entity", "group", "job_type", "name", "tags")} == {
        "mode": "online",
        "project": "p",
        "entity": "e",
        "group": "study",
        "job_type": "dpo",
        "name": "seed0",
        "tags": ["a", "b"],
    }
    assert told["config"] == {"loss": {"beta": 0.1}}
    assert wandb.named("login") == [{"prompt": False}]
    assert wandb.named("log") == [
        {"step": 1, "loss": 0.5},
        {"step": 2, "loss": 0.4},
        {
            "samples": {
                "columns": ["prompt", "reply", "score"],
                "data": [["p", "r", None], ["q", None, 1.0]],
                "allow_mixed_types": True,
            }
        },
    ]
    (artifact,) = wandb.named("log_artifact")
    assert (artifact.name, artifact.type) == ("runs-a-model", "model")
    assert artifact.references == [(tmp_path / "study" / "seed0").as_uri()]
    used = [(one.name, one.type, one.references) for one in wandb.named("use_artifact")]
    here = (tmp_path / "study" / "seed0").as_uri()
    assert used == [("sft-run", "model", [here]), ("data-ab12", "dataset", ["ab12\n"])]
    assert wandb.named("finish") == [0]


def test_a_rollouts_numbers_are_drawn_against_the_drift_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = stand_in(monkeypatch)
    tracker = Wandb()
    tracker.start(make_run(tmp_path / "run", tracker))
    tracker.log(3, {"rollout/kl": 2.0, "rollout/score": 0.5, "policy/loss": 1.0, "validation": 0.25})
    assert ((("against_kl/*",), {"step_metric": "rollout/kl"})) in wandb.named("define_metric")
    (told,) = wandb.named("log")
    assert {name: value for name, value in told.items() if name.startswith("against_kl/")} == {
        "against_kl/rollout/score": 0.5,
        "against_kl/validation": 0.25,
    }


def test_a_group_that_is_set_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = stand_in(monkeypatch)
    use(Wandb(group="g"), tmp_path / "study" / "seed0")
    assert wandb.named("init")[0]["group"] == "g"
    assert wandb.named("login") == []  # offline needs no key


def test_resuming_continues_the_same_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = stand_in(monkeypatch)
    for _ in range(2):
        use(Wandb(mode="online"), tmp_path / "run")
    use(Wandb(mode="online"), tmp_path / "other")
    ids = [told["id"] for told in wandb.named("init")]
    assert ids[0] == ids[1] != ids[2]
    assert wandb.named("init")[1]["resume"] == "allow"


MISSED = {
    "login": 8,
    "init": 8,
    "define_metric": 8,
    "log": 7,
    "log_artifact": 4,
    "use_artifact": 3,
    "finish": 1,
}
"""Where wandb fails -> calls lost, that one included, of all that ``use`` makes and that say something."""


@pytest.mark.parametrize("breaks", MISSED)
@pytest.mark.parametrize("error", [RuntimeError("down\nmore"), OSError(28, "No space left"), KeyError("x")])
def test_wandb_failing_anywhere_costs_one_warning(
    tmp_path: Path,
    breaks: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wandb = stand_in(monkeypatch, breaks=breaks, error=error)
    tracker = Wandb(mode="online")
    use(tracker, tmp_path / "run")
    assert len(caplog.records) == 1
    assert type(error).__name__ in caplog.text
    assert len(wandb.named(breaks)) == 1
    assert tracker.missed == MISSED[breaks]


def test_wandb_missing_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it raises ModuleNotFoundError
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    use(Wandb(), tmp_path / "run")
    (record,) = caplog.records
    assert "wandb failed at start (ModuleNotFoundError" in record.message
    assert "the run goes on without it" in record.message


def test_no_key_is_no_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    wandb = stand_in(monkeypatch)
    monkeypatch.setattr(wandb, "login", lambda prompt: False)
    use(Wandb(mode="online"), tmp_path / "run")
    assert wandb.calls == []
    assert "set WANDB_API_KEY, or tracking.mode=offline" in caplog.text


def test_an_interrupt_is_no_failure_of_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, breaks="log", error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        use(Wandb(), tmp_path / "run")


def test_they_are_components() -> None:
    assert registry.known("tracking") == ["mlflow", "none", "tensorboard", "wandb"]
    assert registry.component("tracking", "none") is NoTracker
    assert registry.component("tracking", "wandb") is Wandb
    assert set(get_type_hints(Wandb)) == {"mode", "project", "entity", "group", "tags"}


@pytest.mark.parametrize("name", registry.known("tracking"))
def test_each_yaml_repeats_the_defaults(name: str) -> None:
    from omegaconf import OmegaConf

    path = Path(__file__).parents[2] / "conf" / "tracking" / f"{name}.yaml"
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    assert values.pop("name") == name
    cls = registry.component("tracking", name)
    assert build(cls, values) == cls()
    assert set(values) == set(cls.__dataclass_fields__)


def test_off_is_answered() -> None:
    """yaml reads ``off`` as false."""
    with pytest.raises(ConfigError, match="mode: takes one of online, offline, none, got False"):
        build(Wandb, {"mode": False}, "tracking")


def test_importing_them_loads_nothing_heavy() -> None:
    code = (
        "import sys, align.tracking.none, align.tracking.wandb;"
        "import align.tracking.mlflow, align.tracking.tensorboard;"
        "heavy = ('torch', 'wandb', 'mlflow', 'tensorboard', 'numpy', 'transformers');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
