"""A checkpoint, or two side by side, in the terminal."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from align.models.settings import ModelSettings
from align.settings import ChatSettings, SamplingSettings

if TYPE_CHECKING:
    from align.run import Run

__all__ = ["Chat"]


@dataclass(frozen=True)
class Chat:
    """``stage=chat``: talks to ``model.path``; with ``against`` to two, side by side."""

    model: ModelSettings
    against: str | None = None
    """A second checkpoint that answers the same: a run directory, a Hugging Face folder, or a Hub name."""
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    chat: ChatSettings = field(default_factory=ChatSettings)

    def execute(self, run: Run) -> None:
        """Reads lines until ``/quit`` or their end; writes each exchange to the transcript."""
        from pathlib import Path

        from align.chat.speaker import speaker
        from align.chat.talk import Talk, typed_lines
        from align.stages._common import open_to_sample

        paths = [str(self.model.path), *([self.against] if self.against else [])]
        names = [Path(path).name or path for path in paths]
        if len(set(names)) < len(names):
            names = [f"{letter}: {name}" for letter, name in zip("AB", names, strict=True)]
        speakers = [
            speaker(name, open_to_sample(run, role, replace(self.model, path=path)))
            for name, role, path in zip(names, ("model", "against"), paths, strict=False)
        ]
        talk = Talk(speakers, self.sampling, run.seed, self.chat.system, run.directory / self.chat.transcript)
        talk.hold(typed_lines())
