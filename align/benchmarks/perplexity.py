"""Perplexity of a policy on a dataset's replies, given their prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from align.protocols import Part
from align.settings import PositiveInt

if TYPE_CHECKING:
    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured

__all__ = ["Perplexity"]


@dataclass(frozen=True)
class Perplexity:
    """How well a policy foresees replies that others wrote: demonstrations, or chosen replies of pairs."""

    needs: ClassVar[tuple[Part, ...]] = ("model", "dataset")
    takes: ClassVar[tuple[Part, ...]] = ()

    split: Literal["train", "validation", "test", "all"] = "test"
    """Split that the replies come from."""
    limit: PositiveInt | None = None
    """First replies that are taken; none takes all."""

    def measure(self, label: str, given: Material) -> Measured:
        """``nll`` (nats a token), ``perplexity`` (its exponential), ``bits_per_byte``, ``too_long``.

        Over all tokens of the replies, the end of a reply among them; long replies count more. Bits a byte of
        the replies' text compare between tokenizers, where the others do not. A prompt that leaves no room in
        ``model.max_length`` loses its oldest tokens; a reply that has no room by itself is left out, and
        counted in ``too_long``. Replies to one prompt are one unit.
        """
        from align.benchmarks._measured import Measured
        from align.errors import DataError
        from align.evaluation.policies import text_logps
        from align.evaluation.ratios import ratio
        from align.evaluation.statistics import proportion

        examples = given.examples("demonstrations", self.split, self.limit)
        policy, chat = given.policy, given.policy.chat
        texts = [(item.prompt, item.replies[0].text) for item in examples]
        tokens = [(chat.prompt_ids(prompt), chat.reply_ids(prompt, reply)) for prompt, reply in texts]
        # a token of the prompt has to stay, for the first of the reply to be predicted from
        fits = [len(reply) < policy.max_length for _, reply in tokens]
        kept = [place for place, fit in enumerate(fits) if fit]
        if not kept:
            raise DataError(f"every reply has {policy.max_length} tokens or more: raise model.max_length")
        cut = [(prompt[-(policy.max_length - len(reply)) :], reply) for prompt, reply in tokens]
        nats = [-one for one in text_logps(policy, [cut[place] for place in kept])]
        sizes = [len(tokens[place][1]) for place in kept]
        weights = [len(texts[place][1].encode()) * math.log(2) for place in kept]
        units = [texts[place][0] for place in kept]
        nll = ratio(f"{label}/nll", nats, sizes, units)
        bounds = [None if one is None else math.exp(one) for one in (nll.ci_low, nll.ci_high)]
        perplexity = replace(
            nll,
            metric=f"{label}/perplexity",
            value=math.exp(nll.value),
            ci_low=bounds[0],
            ci_high=bounds[1],
        )
        results = [
            perplexity,
            nll,
            ratio(f"{label}/bits_per_byte", nats, weights, units),
            proportion(f"{label}/too_long", [not fit for fit in fits]),
        ]
        columns = zip(kept, nats, sizes, strict=True)
        return Measured(results, items=[{"id": str(i), "nats": one, "tokens": n} for i, one, n in columns])
