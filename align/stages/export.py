"""One Hugging Face folder out of a run or one of its checkpoints: adapters merged, in any precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from align.errors import ConfigError
from align.settings import NaturalInt

if TYPE_CHECKING:
    from align.models.export import Opened
    from align.run import Run

__all__ = ["Export"]


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, and how it is written."""

    path: str
    """A run directory, a Hugging Face folder (an adapter's too), or a Hub name."""
    step: NaturalInt | None = None
    """The checkpoint's step; none takes the finished model, or the newest checkpoint of an unfinished run."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The numbers that weights are written in."""
    quantise: Literal["none", "int8"] = "none"
    """``int8`` writes linear layers in 8 bits, one scale a row; transformers with torchao loads that."""


@dataclass(frozen=True)
class Export:
    """``stage=export``: writes ``model/``, which loads by itself, on the CPU."""

    export: ExportSettings

    def execute(self, run: Run) -> None:
        """Writes ``model/``, and to results.json its size and by how much its outputs differ."""
        from align.models.export import can_quantise, write_export
        from align.types import Result

        settings = self.export
        if settings.quantise == "int8" and not can_quantise():
            raise ConfigError("export.quantise=int8 needs torchao: pip install 'align[int8]'")
        opened = _opened(settings)
        run.note_input("model", settings.path)
        directory = run.directory / "model"
        differs = write_export(opened, directory, settings.dtype, settings.quantise)
        run.offer_model()
        megabytes = sum(file.stat().st_size for file in directory.rglob("*.safetensors")) / 2**20
        _say(settings, opened, directory, megabytes, differs)
        found = {"export/megabytes": megabytes, "export/largest_difference": differs}
        run.write_results([Result(name, value, 1, None, None, "exact") for name, value in found.items()])


def _opened(settings: ExportSettings) -> Opened:
    from align.models.export import open_checkpoint, open_finished, original_run

    place = Path(settings.path)
    is_unfinished = (place / "checkpoints").is_dir() and not (place / "model").is_dir()
    if settings.step is None and not is_unfinished:
        return open_finished(settings.path)
    original = original_run(settings.path)
    if original is None:
        raise ConfigError(f"export.step={settings.step}: {settings.path} is no run, so it has no checkpoints")
    return open_checkpoint(original, settings.step)


def _say(settings: ExportSettings, opened: Opened, directory: Path, megabytes: float, differs: float) -> None:
    from align.report.console import say

    of = "the finished model" if opened.step is None else f"the checkpoint of step {opened.step}"
    kind = "AutoModelForSequenceClassification" if opened.is_scalar else "AutoModelForCausalLM"
    needs = " (with torchao installed)" if settings.quantise == "int8" else ""
    unit = "of a score" if opened.is_scalar else "nats a token"
    say(f"{of} of {settings.path} -> {directory} ({megabytes:.1f} MiB)")
    say(f"  transformers loads it: {kind}.from_pretrained({str(directory)!r}){needs}")
    say(f"  its outputs differ from those in float32 by {differs:.2g} {unit} at most")
