"""Label Studio's JSON export of a project with a ``Pairwise`` tag: one task, several people's annotations.

A task has ``data`` (what was shown, under keys of the project's own), ``annotations`` (each with ``result``,
``completed_by``, ``was_cancelled``) and perhaps ``predictions``. Each annotation is a record of its own, with
the id of the annotation; a pairwise result reads ``{"type": "pairwise", "value": {"selected": "left"}}``,
where left is the first name of the tag's ``toName``. The tag knows no ties.

An annotation that was cancelled (skipped), or in which no side was chosen, is no judgement: it is counted
(``not_judged``). JSON-MIN and CSV exports keep no track of who answered, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from align.errors import BadRow
from align.pairs.fields import known_of, maybe_text, objects_of, prompt_of, section_of, text_of
from align.pairs.files import content_hash, read_rows
from align.pairs.judgements import one_a_judgement
from align.types import Judge, PreferenceRecord, Preferred, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator

    from align.types import Row

__all__ = ["LabelStudio"]

_SIDES: dict[str, Preferred] = {"left": "first", "right": "second"}


@dataclass(frozen=True)
class LabelStudio:
    """Pairs that annotators chose between, one record an annotation."""

    offers: ClassVar[Literal["pairs"]] = "pairs"

    path: str
    """A file (the project's JSON export), or a folder with a file a split."""
    prompt: str = "prompt"
    """The key of ``data`` that holds the prompt: text, or a list of messages."""
    left: str = "text1"
    """The key of ``data`` whose text stood left (named first in the tag's ``toName``)."""
    right: str = "text2"
    """The key of ``data`` whose text stood right."""
    control: str | None = None
    """Name of the ``Pairwise`` tag, where the project has several."""
    predictions: bool = False
    """Whether a model's predictions are judgements, too."""

    def rows(self) -> Iterator[Row]:
        """One row an annotation (and a prediction, where asked for), at its task's place."""
        return one_a_judgement(read_rows(self.path), self._judgements)

    def content_hash(self) -> str | None:
        """That of the file."""
        return content_hash(self.path)

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One annotation (or prediction) as a record.

        Raises:
            BadRow: ``not_judged``, ``several_answers``, ``unknown_choice``, or what is wrong with a field.
        """
        data, own = section_of(values, "data"), section_of(values, "annotation")
        if own.get("was_cancelled"):
            raise BadRow("not_judged", f"annotation {own.get('id')} was cancelled")
        is_model = "model_version" in own
        return PreferenceRecord(
            id="" if is_model or own.get("id") is None else str(own["id"]),
            prompt=prompt_of(data, self.prompt),
            replies=(Reply(text_of(data, self.left)), Reply(text_of(data, self.right))),
            preferred=self._preferred(own),
            judge=Judge("model", str(own["model_version"])) if is_model else Judge("human", _annotator(own)),
            method="label_studio",
            judged_at=maybe_text(own, "created_at"),
            details={
                **({} if values.get("id") is None else {"task": values["id"]}),
                **known_of(own, "lead_time", "ground_truth"),
            },
        )

    def _judgements(self, task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        found = objects_of(task, "annotations")
        if self.predictions and task.get("predictions"):
            found = found + [
                {"model_version": "unknown", **prediction} for prediction in objects_of(task, "predictions")
            ]
        if not found:
            raise BadRow("not_judged", "the task has no annotation")
        return [{"id": task.get("id"), "data": task.get("data"), "annotation": one} for one in found]

    def _preferred(self, annotation: Mapping[str, Any]) -> Preferred:
        chosen = [
            section_of(one, "value").get("selected")
            for one in objects_of(annotation, "result")
            if one.get("type") == "pairwise" and self.control in (None, one.get("from_name"))
        ]
        if not chosen:
            raise BadRow("not_judged", f"annotation {annotation.get('id')} chooses no side")
        if len(chosen) > 1:
            raise BadRow(
                "several_answers",
                f"annotation {annotation.get('id')} has {len(chosen)} pairwise results: name one tag with "
                f"dataset.control=NAME",
            )
        side = _SIDES.get(str(chosen[0]))
        if side is None:
            raise BadRow("unknown_choice", f"'selected' is left or right, not {chosen[0]!r}")
        return side


def _annotator(annotation: Mapping[str, Any]) -> str:
    """The number of the annotator's account: some exports carry the account, with its address, instead."""
    who = annotation.get("completed_by")
    if isinstance(who, Mapping):
        who = who.get("id")
    if who is None:
        raise BadRow("missing_key", f"annotation {annotation.get('id')} does not say who it is by")
    return str(who)
