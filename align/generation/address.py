"""Where an OpenAI-compatible server is, and how patient one is with it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from align.config import Range
from align.errors import ConfigError


@dataclass(frozen=True)
class ServerSettings:
    """Where the server is, and how patient one is with it. Nothing is sent anywhere by default."""

    url: str
    """Base address of the API, with its version: ``http://localhost:8000/v1``."""
    model: str
    """Name of the model, as the server calls it (it lists its models at ``URL/models``)."""
    key_variable: str | None = None
    """Environment variable that holds the API key; none sends no key. The key itself is never written."""
    timeout: Annotated[float, Range(low=0, low_open=True)] = 120.0
    """Seconds without an answer after which a request is given up and tried again."""
    attempts: Annotated[int, Range(low=1)] = 5
    """Times that a request is tried where the server is busy, broken or silent."""
    pause: Annotated[float, Range(low=0)] = 1.0
    """Seconds before the second attempt; doubled for each further one, unless the server names its own."""
    longest_pause: Annotated[float, Range(low=0)] = 60.0
    """Seconds between two attempts, at most; a server that asks for more is an error."""
    concurrency: Annotated[int, Range(low=1)] = 8
    """Requests under way at once."""
    per_minute: Annotated[float, Range(low=0, low_open=True)] | None = None
    """Requests a minute, at most, tried again or not; none sets no limit."""

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url={self.url!r} is no http address, for example http://localhost:8000/v1")
        if self.url.rstrip("/").endswith("/chat/completions"):
            raise ConfigError(f"url={self.url} goes too far: it ends before /chat/completions")
        if "@" in self.url:
            raise ConfigError(
                "url holds a user or a password: give the key in an environment variable instead"
            )
        if self.key_variable is not None and not self.key_variable.isidentifier():
            raise ConfigError("key_variable takes the NAME of an environment variable, not a key")

    def key(self) -> str | None:
        """The API key out of the environment.

        Raises:
            ConfigError: the variable is not set.
        """
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        if not key:
            raise ConfigError(
                f"the environment variable {self.key_variable} is not set: it holds the API key"
            )
        return key
