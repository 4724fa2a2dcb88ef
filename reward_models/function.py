"""A function of your own as the reward: ``reward.call=my_lab.rewards.brevity``."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from align.errors import ConfigError, ModelError, NonFiniteError
from align.registry import near

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from align.types import Prompt

__all__ = ["Function"]


@dataclass(frozen=True)
class Function:
    """Scores with a plain function from a module of yours, called once a reply.

    ``def brevity(prompt: Prompt, reply: str) -> float``: ``prompt`` is a tuple of ``Message`` (role,
    content) that ends with the turn to reply to. It should give the same text the same score; what it
    raises stops the run as it is. A reward with settings of its own, or one that is faster on many replies
    at once, is a component instead: a dataclass in a module, ``reward=my_lab.rewards``.
    """

    call: str
    """Dotted name of the function; its module must be importable where the command runs."""

    def __post_init__(self) -> None:
        names = self.call.split(".")
        if len(names) < 2 or not all(name.isidentifier() for name in names):
            raise ConfigError(f"call={self.call!r} is no MODULE.FUNCTION, for example my_lab.rewards.brevity")

    def prepare(self, cache: Path | None = None) -> Called:
        """Imports the module.

        Raises:
            ConfigError: no such module, or no such function in it.
        """
        module_name, _, name = self.call.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise ConfigError(
                f"reward.call={self.call}: there is no module '{error.name}' to import; run the command "
                "where it lies, or put its folder on PYTHONPATH"
            ) from error
        function = getattr(module, name, None)
        if not callable(function):
            offered = [one for one in vars(module) if callable(getattr(module, one)) and one[0] != "_"]
            raise ConfigError(f"reward.call={self.call}: no function '{name}' there.{near(name, offered)}")
        return Called(function, self.call)


@dataclass(frozen=True)
class Called:
    """An imported function."""

    function: Callable[[Prompt, str], Any]
    name: str

    def score(self, prompts: Sequence[Prompt], replies: Sequence[str]) -> list[float]:
        """What the function returns for each reply.

        Raises:
            ModelError: it returned no number.
            NonFiniteError: it returned NaN or infinity.
        """
        return [
            self._number(self.function(prompt, reply), row, reply)
            for row, (prompt, reply) in enumerate(zip(prompts, replies, strict=True))
        ]

    def _number(self, returned: Any, row: int, reply: str) -> float:
        try:
            score = float(returned) if not isinstance(returned, str | bytes) else None
        except (TypeError, ValueError, RuntimeError):
            score = None
        if score is None:
            raise ModelError(
                f"reward=function: {self.name} returned {returned!r} for reply {row} ({reply[:40]!r}): "
                "it has to return a number"
            )
        if not math.isfinite(score):
            raise NonFiniteError(f"reward=function: {self.name} gave {score} to reply {row} ({reply[:40]!r})")
        return score
