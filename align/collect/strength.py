"""Strength: one instruction answered by models of known rank (contrastive post-training, Xu et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, ClassVar, Literal

from align.collect._bench import Abstained, judged
from align.collect._sources import OutputFile, Outputs, read_outputs, room_of, source_of
from align.errors import ConfigError
from align.generation.server import derived_seed
from align.models.settings import ModelSettings
from align.settings import PositiveInt
from align.types import Judge, Result
from align.types import Strength as Step

if TYPE_CHECKING:
    from align.collect._bench import Bench, Candidates, Collected, Draft, Outcome, Truth, Writer
    from align.protocols import Collecting
    from align.types import PreferenceRecord

__all__ = ["Strength"]

_AND = " and "


@dataclass(frozen=True)
class Strength:
    """The stronger model's reply is preferred to the weaker one's, whatever the two say.

    ``strength`` of a record is how many ranks lie between the two, of how many there can be. Stronger models
    often write more: look at ``lengths/...`` in the results, and see ``length.how``.
    """

    starts_from: ClassVar[Literal["prompts"]] = "prompts"
    needs: ClassVar[tuple[Literal["writer", "reward"], ...]] = ()

    sources: tuple[str, ...]
    """The strongest first. Each a file of outputs (.json, .jsonl, .csv, .parquet: AlpacaEval's
    ``instruction`` and ``output``, or a prompt and its completion), a model (run directory, Hugging Face
    folder or Hub name), or a server as ``http://host:8000/v1#MODEL``."""
    pairs: Literal["adjacent", "all", "extremes"] = "adjacent"
    """Of which sources pairs are made: next in rank, any two, or the strongest and the weakest."""
    order: Literal["as_is", "easy_to_hard", "hard_to_easy", "shuffled"] = "as_is"
    """Of the pairs on disk (``training.shuffle=false`` trains in that order). A pair is the easier the more
    ranks lie between its two models; pairs that are alike in that keep the order of the data."""
    key_variable: str | None = None
    """Environment variable that holds the servers' API key; none sends none."""
    max_length: PositiveInt | None = None
    """Tokens of prompt and reply together, at most, for the models among the sources; none takes 512, or as
    many as a model was built for where those are fewer."""

    def __post_init__(self) -> None:
        if len(self.sources) < 2:
            raise ConfigError(
                f"sources={list(self.sources)}: a ranking has two models or more, the strongest first: "
                f"collect.sources=[STRONG,WEAK]"
            )
        twice = next((one for one in self.sources if self.sources.count(one) > 1), None)
        if twice is not None:
            raise ConfigError(f"sources names {twice} twice: it is not stronger than itself")
        for one in self.sources:
            source_of(one, self.key_variable)
        if self.order in ("easy_to_hard", "hard_to_easy") and len({b - a for a, b in self.couples()}) == 1:
            raise ConfigError(
                f"order={self.order}: with pairs={self.pairs} of {len(self.sources)} sources all pairs are "
                f"as many ranks apart; give pairs=all and three sources or more"
            )

    def couples(self) -> list[tuple[int, int]]:
        """Ranks (0 the strongest) that make pairs, the stronger first."""
        last = len(self.sources) - 1
        if self.pairs == "extremes":
            return [(0, last)]
        return [(a, b) for a, b in combinations(range(last + 1), 2) if self.pairs == "all" or b == a + 1]

    def open(self, bench: Bench) -> Collecting:
        """Reads the files and loads the models (all at once); says what of a file cannot be used.

        Raises:
            DataError: a file that is not there, or holds no replies.
        """
        from align.report.console import say

        opened: list[Outputs | Writer] = []
        for rank, name in enumerate(self.sources):
            source = source_of(name, self.key_variable)
            if isinstance(source, ModelSettings):
                source = replace(source, max_length=self.max_length or room_of(name))
            if not isinstance(source, OutputFile):
                opened.append(bench.open_writer(f"source.{rank}", source))
                continue
            outputs = read_outputs(name)
            bench.note(f"source.{rank}", name)
            unread = "".join(f", {count} {reason}" for reason, count in sorted(outputs.unread.items()))
            say(f"{name}: {len(outputs.replies)} replies, {outputs.repeated} repeated instructions{unread}")
            opened.append(outputs)
        return _Ranked(self, opened)

    def arrange(self, records: Sequence[PreferenceRecord], seed: int) -> list[Outcome]:
        """All of them in the order that was asked for."""
        found: list[Outcome] = list(records)
        if self.order == "shuffled":
            Random(f"strength {seed}").shuffle(found)
        elif self.order != "as_is":
            sign = -1 if self.order == "easy_to_hard" else 1
            found = [*sorted(records, key=lambda one: sign * (one.strength.step if one.strength else 0))]
        return found

    def report(self, found: Collected, truth: Truth | None) -> list[Result]:
        """What matched, and how lengths go with ranks.

        ``strength/<rank>/unmatched``: prompts that a file holds no reply to. Of each couple of ranks
        ``strength/<stronger>_<weaker>/pairs``, and ``.../longer_rate``: the share whose stronger reply has
        more characters, ties half.
        """
        from align.collect._results import decisive
        from align.evaluation.statistics import paired_win_rate

        results = []
        absent = self._absent(found.outcomes)
        for rank, name in enumerate(self.sources):
            if isinstance(source_of(name, self.key_variable), OutputFile):
                count, asked = float(sum(name in one for one in absent)), len(absent)
                results.append(Result(f"strength/{rank + 1}/unmatched", count, asked, None, None, "exact"))
        for stronger, weaker in self.couples():
            couple = f"strength/{stronger + 1}_{weaker + 1}"
            mine = [one for one in found.records if one.details["ranks"] == [stronger + 1, weaker + 1]]
            results.append(Result(f"{couple}/pairs", float(len(mine)), len(mine), None, None, "exact"))
            pairs = decisive(mine)
            if pairs:
                lengths = [len(pair.chosen) for pair in pairs], [len(pair.rejected) for pair in pairs]
                results.append(paired_win_rate(f"{couple}/longer_rate", *lengths))
        return results

    def _absent(self, outcomes: Sequence[Outcome]) -> list[set[str]]:
        """The sources without a reply, for each prompt: it has one outcome a couple."""
        couples = [(self.sources[a], self.sources[b]) for a, b in self.couples()]
        return [
            {
                name
                for one, couple in zip(outcomes[start : start + len(couples)], couples, strict=True)
                if isinstance(one, Abstained) and one.reason == "no_reply"
                for name in couple
                # not split: a path may hold that word itself
                if one.detail in (name, _AND.join(couple))
            }
            for start in range(0, len(outcomes), len(couples))
        ]


class _Ranked:
    """Has every source answer, and pairs the answers."""

    def __init__(self, settings: Strength, opened: Sequence[Outputs | Writer]) -> None:
        self.settings, self.opened = settings, opened

    def __call__(self, given: Sequence[Candidates], seed: int) -> list[tuple[Outcome, ...]]:
        prompts = [item.prompt for item in given]
        columns: list[Sequence[Draft | None]] = [
            one.drafts(prompts) if isinstance(one, Outputs) else one.write(prompts, derived_seed(seed, rank))
            for rank, one in enumerate(self.opened)
        ]
        return [
            tuple(self._outcome(item, drafts, couple) for couple in self.settings.couples())
            for item, drafts in zip(given, zip(*columns, strict=True), strict=True)
        ]

    def _outcome(self, item: Candidates, drafts: Sequence[Draft | None], couple: tuple[int, int]) -> Outcome:
        stronger, weaker = couple
        better, worse = drafts[stronger], drafts[weaker]
        names = [self.settings.sources[rank] for rank in couple]
        if better is None or worse is None:
            absent = [name for name, one in zip(names, (better, worse), strict=True) if one is None]
            return Abstained("no_reply", _AND.join(absent))
        cut = [name for name, one in zip(names, (better, worse), strict=True) if not one.ended]
        if cut:
            return Abstained("not_ended", _AND.join(cut))
        record = judged(
            item.prompt,
            better.reply,
            worse.reply,
            Judge("function", "strength"),
            "strength",
            details={"ranks": [stronger + 1, weaker + 1]},
        )
        return replace(record, strength=Step(weaker - stronger, len(self.settings.sources) - 1))
