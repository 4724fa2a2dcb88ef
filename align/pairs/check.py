"""What must hold for every record, whatever its source. Raises ``BadRow``; the reader counts."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from align.errors import BadRow
from align.pairs.split import prompt_bytes
from align.types import Location, PreferenceRecord, UnpairedExample

if TYPE_CHECKING:
    from typing import Literal

    from align.types import Prompt, Record

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def check(record: Record) -> None:
    """Texts that are there and can be written, and two replies that differ where one is preferred.

    Raises:
        BadRow: ``empty_prompt``, ``prompt_ends_with_reply``, ``empty_reply``, ``same_replies``,
            ``not_unicode``, ``not_json``.
    """
    _check_prompt(record.prompt)
    for name, text in _replies(record).items():
        if not text.strip():
            raise BadRow("empty_reply", f"the {name} is {'only whitespace' if text else 'empty'}")
        if _HALF_CHARACTER.search(text):
            raise BadRow("not_unicode", f"the {name} holds half a surrogate pair")
    if not isinstance(record, PreferenceRecord):
        return
    pair = record.pair()
    if pair and pair.chosen == pair.rejected:
        raise BadRow("same_replies", "the chosen reply equals the rejected one")
    _check_written(record)


def _check_written(record: PreferenceRecord) -> None:
    """What else a record holds must fit into its line of ``records.jsonl``."""
    replies = [[reply.model, dict(reply.sampling), reply.seed] for reply in record.replies]
    rest = [record.id, *_judge(record), record.method, dict(record.details), replies]
    try:
        json.dumps(rest, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, TypeError) as error:
        raise BadRow("not_json", f"the record cannot be written: {error}") from error


def _check_prompt(prompt: Prompt) -> None:
    if not any(message.content.strip() for message in prompt):
        raise BadRow("empty_prompt", "the prompt has no text")
    if prompt[-1].role == "assistant":
        raise BadRow("prompt_ends_with_reply", "the prompt's last turn is the assistant's, not a question")
    if any(_HALF_CHARACTER.search(message.content) for message in prompt):
        raise BadRow("not_unicode", "the prompt holds half a surrogate pair")


def _replies(record: Record) -> dict[str, str]:
    if not isinstance(record, PreferenceRecord):
        return {"reply": record.reply}
    first, second = (reply.text for reply in record.replies)
    if record.preferred == "second":
        return {"chosen reply": second, "rejected reply": first}
    names = (
        ("chosen reply", "rejected reply") if record.preferred == "first" else ("first reply", "second reply")
    )
    return dict(zip(names, (first, second), strict=True))


def record_id(record: Record) -> str:
    """16 hexadecimal digits from prompt, replies and who judged them: the same in every run."""
    return _digest(record.prompt, *_in_order(record), *_judge(record), size=8).hex()


def prompt_id(prompt: Prompt) -> str:
    """16 hexadecimal digits from the prompt's turns."""
    return _digest(prompt, size=8).hex()


def pair_id(record: PreferenceRecord) -> str:
    """16 hexadecimal digits from prompt and replies, the same whichever reply stands first."""
    return _digest(record.prompt, *sorted(_in_order(record)), size=8).hex()


class Seen:
    """What came before, as 16-byte digests (about 150 bytes of memory a record, whatever its length)."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._places: dict[bytes, int] = {}

    def refuse_repeats(self, record: Record, own_id: str, at: Location) -> None:
        """Remembers a record. The first of its kind stays, whatever follows: rows are read once.

        Raises:
            BadRow: ``duplicate``; ``contradiction`` (the same two replies, the other one preferred);
                ``repeated_id`` (an id of the file's own under another text). Several judges may judge one
                pair, each of them once.
        """
        key = _digest(record.prompt, _kind(record), *sorted(_in_order(record)), *_judge(record))
        label = _label(record)
        if key in self._places:
            first, before = self._place(key)
            if before == label:
                raise BadRow("duplicate", f"the same as {first}")
            raise BadRow(
                "contradiction",
                f"the same replies and the same judge as {first}, judged otherwise there; that one is kept",
            )
        if own_id:
            id_key = hashlib.blake2b(b"id" + own_id.encode(), digest_size=16).digest()
            if id_key in self._places:
                raise BadRow("repeated_id", f"id {own_id!r} is also that of {self._place(id_key)[0]}")
            self._keep(id_key, at, 0)
        self._keep(key, at, label)

    def refuse_other_split(self, prompt: Prompt, split: Literal["train", "test"], at: Location) -> None:
        """Remembers which of the data's own splits a prompt was first seen in.

        Raises:
            BadRow: ``prompt_in_both_splits``.
        """
        key = hashlib.blake2b(b"split" + prompt_bytes(prompt), digest_size=16).digest()
        label = int(split == "test")
        if key not in self._places:
            self._keep(key, at, label)
            return
        first, before = self._place(key)
        if before != label:
            raise BadRow("prompt_in_both_splits", f"this prompt is also in the other split, at {first}")

    def _keep(self, key: bytes, at: Location, label: int) -> None:
        if not self._paths or self._paths[-1] != at.path:
            self._paths.append(at.path)
        # one integer a record instead of three objects
        self._places[key] = (at.line * 2 + label) * (1 << 20) + len(self._paths) - 1

    def _place(self, key: bytes) -> tuple[Location, int]:
        rest, path = divmod(self._places[key], 1 << 20)
        line, label = divmod(rest, 2)
        return Location(self._paths[path], line), label


def _in_order(record: Record) -> tuple[str, ...]:
    if isinstance(record, PreferenceRecord):
        return tuple(reply.text for reply in record.replies)
    return (record.reply,)


def _judge(record: Record) -> tuple[str, ...]:
    """Who judged, as texts; nothing where nobody did."""
    if not isinstance(record, PreferenceRecord):
        return ()
    return (record.judge.kind, record.judge.name, record.judge.version or "")


def _label(record: Record) -> int:
    """Which of the two replies, in the order of their text, is preferred, or whether the one is desirable.

    0 where nobody judged.
    """
    if not isinstance(record, PreferenceRecord):
        return int(isinstance(record, UnpairedExample) and record.desirable)
    if record.preferred in ("tie", "both_bad"):
        return 0
    first, second = _in_order(record)
    return int((record.preferred == "first") == (first <= second))


def _kind(record: Record) -> str:
    """A tie does not contradict a preference: only judgements of one kind are held against each other."""
    if isinstance(record, PreferenceRecord):
        return "decisive" if record.preferred in ("first", "second") else record.preferred
    return "unpaired" if isinstance(record, UnpairedExample) else "demonstration"


def _digest(prompt: Prompt, *texts: str, size: int = 16) -> bytes:
    digest = hashlib.blake2b(prompt_bytes(prompt), digest_size=size)
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        # the length keeps ("ab", "c") and ("a", "bc") apart
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
