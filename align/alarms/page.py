"""What ``README.md`` beside this file says of each alarm; ``python -m align.alarms.page`` writes it there."""

from __future__ import annotations

import re
from pathlib import Path

from align.alarms.rules import RULES, Rule
from align.alarms.settings import AlarmSettings

PAGE = Path(__file__).with_name("README.md")

_BEGIN, _END = "<!-- from the rules -->", "<!-- end -->"
_OPTION = re.compile(r"\b(?:[a-z_]+(?:\.[a-z_]+)+(?:=[\w\[\]]+)?|[a-z_]+=\w+)")
"""An option as it is typed within a sentence: ``loss.beta``, ``sampling.top_p=1``, ``loss=mixture``."""


def explained() -> str:
    """A table of all alarms, then each with its cause, what to try, and where its limits come from."""
    settings = AlarmSettings()
    head = ["| alarm | raised when | lines in a row | metrics |", "|---|---|---|---|"]
    rows = [_row(rule, settings) for rule in RULES]
    return "\n".join([*head, *rows, *(_section(rule, settings) for rule in RULES)])


def options(text: str) -> list[str]:
    """The options that a sentence names, as they are typed."""
    return _OPTION.findall(text)


def written(page: str) -> str:
    """The page with that part made anew."""
    before, _, rest = page.partition(_BEGIN)
    return f"{before}{_BEGIN}\n\n{explained()}\n\n{_END}{rest.partition(_END)[2]}"


def _row(rule: Rule, settings: AlarmSettings) -> str:
    metrics = ", ".join(f"`{name}`" for name in rule.reads)
    needed = rule.lines_needed(settings)
    return f"| [`{rule.name}`](#{rule.name}) | {rule.when} | {needed} | {metrics} |"


def _section(rule: Rule, settings: AlarmSettings) -> str:
    limits = ", ".join(f"`alarms.{name}={getattr(settings, name):g}`" for name in rule.thresholds)
    lines = [
        f"\n### {rule.name}\n",
        f"Raised when {rule.when}.\n",
        f"- **Usual cause:** {rule.cause}.",
        f"- **Try:** {_OPTION.sub(lambda found: f'`{found[0]}`', rule.attempt)}.",
        f"- **Limits:** {limits}. Why: {rule.why}.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
