"""MLflow and TensorBoard through their own clients, read back by them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from align.errors import Terminated
from align.run import Run
from align.tracking.mlflow import Mlflow
from align.tracking.tensorboard import Tensorboard

CONFIG = {"loss": {"beta": 0.1}, "model": {"path": None}}


def use(tracker: Any, directory: Path, steps: range = range(1, 4)) -> None:
    """Every call that a run makes."""
    (directory / "model").mkdir(parents=True, exist_ok=True)
    tracker.start(Run(directory, None, "dpo", 0, False, tracker, CONFIG))  # type: ignore[arg-type]
    for step in steps:
        tracker.log(step, {"loss": 1 / step, "rollout/kl": float(step)})
    tracker.table("samples", [{"prompt": "p", "reply": "r"}, {"prompt": "q", "score": 1.0}])
    tracker.table("nothing", [])
    tracker.artifact("dpo-run", "model", directory / "model")
    tracker.used("sft-run", "model", None, "ab12")
    tracker.summary({"dpo/accuracy": 0.75})
    tracker.finish(0)


@pytest.mark.medium
def test_mlflow_has_it_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    directory = tmp_path / "study" / "seed=0"
    tracker = Mlflow(tags=("a",))
    use(tracker, directory)
    assert tracker.missed == 0
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'study' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("align").experiment_id])
    assert run.info.run_name == "seed=0"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"loss.beta": "0.1", "model.path": "None"}
    assert {key: run.data.tags[key] for key in ("stage", "group", "a")} == {
        "stage": "dpo", "group": "study", "a": "true",
    }  # fmt: skip
    assert json.loads(run.data.tags["input.model.sft-run"])["sha256"] == "ab12"
    assert json.loads(run.data.tags["artifact.model.dpo-run"])["path"] == str(directory / "model")
    losses = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")]
    assert losses == [(step, 1 / step) for step in (1, 2, 3)]
    assert run.data.metrics["results/dpo/accuracy"] == 0.75
    (table,) = (tmp_path / "study" / "mlflow").rglob("samples.json")
    assert json.loads(table.read_text())["columns"] == ["prompt", "reply", "score"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["study"], "nothing in the working directory"


@pytest.mark.medium
def test_mlflow_goes_on_with_the_same_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for steps in (range(1, 3), range(3, 5)):
        tracker = Mlflow()
        use(tracker, tmp_path / "study" / "run", steps)
        assert tracker.missed == 0
    use(Mlflow(), tmp_path / "study" / "other")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'study' / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("align").experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["other", "run"]
    (continued,) = [run for run in runs if run.info.run_name == "run"]
    assert [one.step for one in client.get_metric_history(continued.info.run_id, "loss")] == [1, 2, 3, 4]


@pytest.mark.medium
def test_tensorboard_has_it_all_and_a_resumed_run_replaces_what_it_repeats(tmp_path: Path) -> None:
    directory = tmp_path / "study" / "run"
    for steps in (range(1, 5), range(3, 6)):
        tracker = Tensorboard(rows=1)
        use(tracker, directory, steps)
        assert tracker.missed == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory / "tensorboard"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("loss")] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3, 4, 5)
    ]
    assert [one.value for one in found.Scalars("results/dpo/accuracy")][-1:] == [0.75]
    texts = {tag: found.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()
             for tag in ("config", "samples", "inputs/sft-run", "artifacts/dpo-run")}  # fmt: skip
    assert '"beta": 0.1' in texts["config"]
    assert '"reply": "r"' in texts["samples"]
    assert '"q"' not in texts["samples"], "one row was asked for"
    assert "ab12" in texts["inputs/sft-run"]
    assert str(directory / "model") in texts["artifacts/dpo-run"]


@pytest.mark.parametrize(("tracker", "module"), [(Mlflow(), "mlflow"), (Tensorboard(), "tensorboard")])
def test_absent_they_cost_one_warning(
    tracker: Any,
    module: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    use(type(tracker)(), tmp_path / "run")
    (record,) = caplog.records
    assert f"{module} failed at start" in record.message
    assert f"pip install 'align[{module}]'" in record.message


def test_a_full_disk_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where their folder should be there is a file."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    tracker = Tensorboard()
    use(tracker, tmp_path / "run")
    assert len(caplog.records) == 1
    assert tracker.missed > 5


def test_the_end_of_a_run_is_no_failure_of_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise Terminated("SIGTERM")

    tracker = Tensorboard()
    monkeypatch.setattr(tracker._link, "writer", stop)
    tracker._link.run = tmp_path
    with pytest.raises(Terminated):
        tracker.log(1, {"loss": 1.0})
