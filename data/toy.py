"""The embedded world with a known truth: pairs generated from a seed, labelled by a noisy gold reward.

A prompt asks how to do something, to something, somewhere; replies are drawn from writers of four grades.
The labeller feels ``gold(first) - gold(second)`` plus logistic noise of scale ``temperature`` and names the
side that this favours, which is Bradley-Terry; then a share of the labels is flipped. What no reward
model can beat is therefore known pair by pair (``preference_probability``).

A row, as ``stage=show`` would print it:

    prompt    I want to wash the goat in the dark. Where should I start?
    first     You can wash the goat in the dark with gentle hands. I hope this helps.   (sound)
    second    Just use tasty treats. Go slowly and rest                                 (careless)
    preferred first
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from align import registry
from align.collect._affixes import SHIPPED, affixed, read_affixes
from align.config import Range
from align.files import sha256_of
from align.settings import Fraction, NaturalInt, NonNegative, PositiveInt
from align.types import Judge, Location, Message, PreferenceRecord, Reply, Row
from data import _toy_world as world
from data._toy_replies import GRADES, overdone_reply, reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from align.protocols import Scorer
    from align.types import Prompt

__all__ = ["Toy"]

AFFIXES = "helpful"


@dataclass(frozen=True)
class Toy:
    """Pairs about everyday tasks, drawn from a seed and labelled by ``reward_models/gold.py``."""

    reward: ClassVar[str] = "gold"

    pairs: PositiveInt = 6000
    """Pairs to generate; they go round the prompts in turn."""
    prompts: Annotated[int, Range(low=1, high=world.TASK_COUNT)] = 3000
    """Different prompts, each about another combination of verb, noun and setting."""
    seed: NaturalInt = 0
    """Draws prompts, replies and labels; apart from the run's ``seed``, which draws weights and batches."""
    temperature: NonNegative = 0.3
    """Scale of the labeller's noise in units of gold reward (Bradley-Terry); 0 always follows the gold."""
    flip_rate: Annotated[float, Range(low=0, high=0.5)] = 0.05
    """Share of the labels that are turned round after all, whatever the replies."""
    difficulty: Annotated[float, Range(low=0, high=1)] = 0.2
    """Share of the pairs whose replies are of one grade and so close; the others' grades are independent."""
    overdone: Fraction = 0.02
    """Share of the replies with too much of a good thing, which teach a proxy where the gold turns."""
    steered: Fraction = 0.0
    """Share of the pairs whose question ends with an affix (``align/collect/affixes.json``, ``helpful``).
    Where it asks for a bad reply (every second time), the labeller obeys and names the other side: from
    these a policy learns to follow affixes, as larger models do by themselves."""

    @property
    def offers(self) -> Literal["pairs"]:
        """Pairs."""
        return "pairs"

    def rows(self) -> Iterator[Row]:
        """The pairs in order. Row n is the same whatever the number of pairs."""
        numbers = Random(f"toy prompts {self.seed}").sample(range(world.TASK_COUNT), self.prompts)
        for index in range(self.pairs):
            asked = world.task(numbers[index % self.prompts])
            question = Random(f"toy question {self.seed} {asked}").choice(world.QUESTIONS)
            values = self._pair(asked, question.format(task=asked), Random(f"toy pair {self.seed} {index}"))
            self._steer(values, Random(f"toy steering {self.seed} {index}"))
            yield Row(Location("toy", index + 1), values)

    def content_hash(self) -> str | None:
        """That of the labeller and, where they count, the affixes: all else follows from the fields."""
        labeller = sha256_of(registry.folder("reward") / f"{self.reward}.py")
        return f"{labeller}{sha256_of(SHIPPED)}" if self.steered else labeller

    def record(self, values: Mapping[str, Any]) -> PreferenceRecord:
        """One row as a record; the margin is how strongly the labeller felt, in units of gold reward."""
        first, second = (
            Reply(text, model=f"toy-{grade}")
            for text, grade in zip(values["replies"], values["grades"], strict=True)
        )
        return PreferenceRecord(
            id="",
            prompt=(Message("user", values["prompt"]),),
            replies=(first, second),
            preferred=values["preferred"],
            judge=Judge("function", self.reward),
            margin=values["margin"],
            method="bradley-terry",
        )

    def preference_probability(self, prompt: Prompt, first: str, second: str) -> float:
        """P(the labeller prefers ``first``): Bradley-Terry on the gold, then the flips."""
        question, sign = _unsteered(prompt[-1].content) if self.steered else (prompt[-1].content, 1)
        plain = (Message("user", question),)
        gold_first, gold_second = _gold().score([plain, plain], [first, second])
        honest = _sigmoid_of_ratio(sign * (gold_first - gold_second), self.temperature)
        return (1 - self.flip_rate) * honest + self.flip_rate * (1 - honest)

    def _pair(self, asked: world.Task, question: str, rng: Random) -> dict[str, Any]:
        grade = rng.choice(list(GRADES))
        other = grade if rng.random() < self.difficulty else rng.choice(list(GRADES))
        first_grade, first = self._reply(asked, grade, rng)
        second_grade, second = self._reply(asked, other, rng)
        while second == first:
            second_grade, second = self._reply(asked, other, rng)
        preferred, margin = self._label(question, first, second, rng)
        return {
            "prompt": question,
            "replies": [first, second],
            "grades": [first_grade, second_grade],
            "preferred": preferred,
            "margin": margin,
        }

    def _steer(self, values: dict[str, Any], rng: Random) -> None:
        if rng.random() >= self.steered:
            return
        pair, obeys = rng.choice(read_affixes(AFFIXES)), rng.random() < 0.5
        values["prompt"] = affixed(values["prompt"], pair.negative if obeys else pair.positive)
        if obeys:
            values["preferred"] = "first" if values["preferred"] == "second" else "second"

    def _reply(self, asked: world.Task, grade: str, rng: Random) -> tuple[str, str]:
        if rng.random() < self.overdone:
            return "overdone", overdone_reply(asked, rng)
        return grade, reply(asked, grade, rng)

    def _label(self, question: str, first: str, second: str, rng: Random) -> tuple[str, float]:
        """The side preferred and how strongly, in units of gold reward."""
        prompt = (Message("user", question),)
        gold_first, gold_second = _gold().score([prompt, prompt], [first, second])
        quantile = 1 - rng.random()  # in (0, 1], so that its logarithm is finite
        noise = math.log(quantile) - math.log1p(-quantile) if quantile < 1 else 0.0
        felt = gold_first - gold_second + self.temperature * noise
        likes_first = felt > 0 if felt else rng.random() < 0.5
        flipped = rng.random() < self.flip_rate
        return ("first" if likes_first != flipped else "second"), abs(felt)


def _unsteered(question: str) -> tuple[str, int]:
    """The question without its affix, and the sign of what it asks for: -1 for a bad reply."""
    for pair in read_affixes(AFFIXES):
        for affix, sign in ((pair.positive, 1), (pair.negative, -1)):
            if question.endswith(affixed("", affix)):
                return question.removesuffix(affixed("", affix)), sign
    return question, 1


@functools.cache
def _gold() -> Scorer:
    """By its name: ``data`` and ``reward_models`` do not import each other."""
    return cast("Scorer", registry.component("reward", Toy.reward)().prepare())


def _sigmoid_of_ratio(difference: float, temperature: float) -> float:
    """1 / (1 + exp(-difference / temperature)), its limit at temperature 0 included."""
    if temperature == 0 or abs(difference) > 700 * temperature:  # exp would overflow
        return 0.5 + 0.5 * math.copysign(difference != 0, difference)
    return 1 / (1 + math.exp(-difference / temperature))
