"""Numbers in words, for the tables."""

from __future__ import annotations


def shortly(value: float) -> str:
    """Three digits: ``4.41``, ``0.571``, ``2.1e-06``."""
    return f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """``1 round``, ``5 rounds``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
