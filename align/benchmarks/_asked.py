"""A model that a benchmark asks about replies, or to rewrite them: here, or behind a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from align.errors import ConfigError
from align.generation.address import ServerSettings
from align.models.settings import ModelSettings
from align.settings import NonNegative, PositiveInt, SamplingSettings

if TYPE_CHECKING:
    from align.benchmarks._material import Material
    from align.collect._bench import Writer


@dataclass(frozen=True)
class Asked:
    """Which model, and how it answers. A server's answers are kept in the run's cache."""

    server: ServerSettings | None = None
    """Where the model is served; or else ``path``."""
    path: str | None = None
    """A model in this process: a run directory, a Hugging Face folder, or a Hub name."""
    max_length: PositiveInt = 2048
    """Tokens of question and answer together for a model in this process, or fewer where it was built so."""
    temperature: NonNegative = 0.0
    """Divides the logits; 0 takes the most likely answer."""
    max_new_tokens: PositiveInt = 256
    """Tokens of an answer, at most."""

    def __post_init__(self) -> None:
        if (self.server is None) == (self.path is None):
            raise ConfigError(
                "a model that is asked is behind a server or here: give either server.url=ADDRESS "
                "server.model=NAME, or path=MODEL"
            )
        if self.path is not None and self.max_new_tokens >= self.max_length:
            raise ConfigError(
                f"max_new_tokens={self.max_new_tokens} leaves no room in max_length={self.max_length}"
            )

    def open(self, role: str, given: Material) -> Writer:
        """Loads the model, or looks whether its server is there; noted in run.json as ``role``."""
        from align.collect._sources import room_of

        place: ModelSettings | ServerSettings
        if self.path is not None:
            place = ModelSettings(self.path, max_length=room_of(self.path, self.max_length))
        else:
            assert self.server is not None, "or else a path"
            place = self.server
        sampling = SamplingSettings(max_new_tokens=self.max_new_tokens, temperature=self.temperature)
        return given.open_writer(role, place).sampling_by(sampling)
