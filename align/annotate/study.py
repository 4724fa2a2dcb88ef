"""One study as the pages know it: its settings and its guidelines, read once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from align.annotate.settings import AnnotateSettings, QuestionSettings
from align.errors import ConfigError

MOST_GUIDELINES = 200_000
"""Characters of the guidelines, at most: they are part of the annotators' page."""


@dataclass(frozen=True)
class Study:
    """What is asked, under which guidelines, and how people come in."""

    annotate: AnnotateSettings = field(default_factory=AnnotateSettings)
    question: QuestionSettings = field(default_factory=QuestionSettings)
    guidelines: str | None = None

    def guideline_version(self) -> str | None:
        """The hash that records carry: the same text is the same version wherever it lies."""
        if self.guidelines is None:
            return None
        return hashlib.sha256(self.guidelines.encode()).hexdigest()[:16]


def read_guidelines(path: str | None) -> str | None:
    """The text of a guidelines file.

    Raises:
        ConfigError: it is not there, no UTF-8, empty, or longer than a page should be.
    """
    if path is None:
        return None
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise ConfigError(f"question.guidelines={path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"question.guidelines={path} cannot be read as UTF-8 text: {error}") from error
    if not text:
        raise ConfigError(f"question.guidelines={path} is empty: leave it out, or write what counts")
    if len(text) > MOST_GUIDELINES:
        raise ConfigError(
            f"question.guidelines={path} has {len(text)} characters, at most {MOST_GUIDELINES} are shown"
        )
    return text
