"""BLEU and ROUGE of a policy's replies with the dataset's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from align.protocols import Part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from align.benchmarks._material import Material
    from align.benchmarks._measured import Measured
    from align.types import Prompt, Result

__all__ = ["Overlap"]

KINDS = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True)
class Overlap:
    """Word overlap, for tasks where the reference says nearly all that can be said; through public packages.

    The references of a prompt are all the replies that the dataset has for it: demonstrations, or the chosen
    replies of pairs.
    """

    needs: ClassVar[tuple[Part, ...]] = ("model", "dataset", "sampling")
    takes: ClassVar[tuple[Part, ...]] = ()

    stemmer: bool = False
    """Whether ROUGE compares stems of English words."""
    tokenize: str = "13a"
    """sacrebleu's tokenizer: ``13a``, ``intl``, ``zh``, ``char`` ..."""

    def measure(self, label: str, given: Material) -> Measured:
        """``bleu`` (sacrebleu's, 0 to 100), ``rouge1``, ``rouge2``, ``rougeL`` (F1).

        Blank replies, and prompts whose replies in the dataset are all undesirable, are left out of these and
        counted in ``empty`` and ``no_reference``. BLEU's interval is that of resampled prompts (percentiles);
        ROUGE is the mean over prompts of the best reference's F1.
        """
        from align.benchmarks._measured import Measured
        from align.evaluation.compare import sample_rows
        from align.evaluation.statistics import mean, proportion
        from align.report.console import say

        answers, prompts = given.dataset_answers("policy"), given.prompts
        references = _references(given, prompts)
        texts = [reply.text for reply in answers.replies]
        kept = [place for place, text in enumerate(texts) if text.strip() and references[place]]
        apart = [
            proportion(f"{label}/empty", [not text.strip() for text in texts]),
            proportion(f"{label}/no_reference", [not own for own in references]),
        ]
        rows = sample_rows(prompts, [answers], label)
        if not kept:
            say(f"note: {label}: no reply that is there has a reference")
            return Measured(apart, rows)
        own, others = [texts[i] for i in kept], [references[i] for i in kept]
        results = [self._bleu(f"{label}/bleu", own, others)]
        scores = self._rouge(own, others)
        results += [mean(f"{label}/{kind}", values) for kind, values in scores.items()]
        for place, row in enumerate(kept):
            reply = rows[row]["replies"][answers.label]
            reply["scores"] = {kind: values[place] for kind, values in scores.items()}
        return Measured([*results, *apart], rows)

    def _bleu(self, metric: str, replies: Sequence[str], references: Sequence[Sequence[str]]) -> Result:
        import numpy as np

        from align.evaluation.statistics import RESAMPLES, resampled_sums
        from align.types import Result

        bleu = _package("sacrebleu").BLEU(tokenize=self.tokenize)
        # what BLEU is made of adds up over replies: matches and n-grams by order, and both lengths
        parts = [
            bleu.corpus_score([reply], [[one] for one in own])
            for reply, own in zip(replies, references, strict=True)
        ]
        moments = np.array(
            [[*one.counts, *one.totals, one.sys_len, one.ref_len] for one in parts], dtype=np.float64
        )

        def score(sums: Any) -> float:
            orders = (len(sums) - 2) // 2
            counts, totals = sums[:orders], sums[orders : 2 * orders]
            whole = [round(one) for one in (*counts, *totals, *sums[-2:])]
            return float(
                bleu.compute_bleu(
                    whole[:orders],
                    whole[orders : 2 * orders],
                    whole[-2],
                    whole[-1],
                    smooth_method=bleu.smooth_method,
                    smooth_value=bleu.smooth_value,
                    max_ngram_order=bleu.max_ngram_order,
                ).score
            )

        value = score(moments.sum(0))
        if len(parts) < 2:
            return Result(metric, value, len(parts), None, None, "exact")
        resampled = resampled_sums(moments, RESAMPLES, np.random.default_rng(0))
        low, high = np.quantile([score(one) for one in resampled], (0.025, 0.975))
        return Result(
            metric, value, len(parts), min(float(low), value), max(float(high), value), "percentile bootstrap"
        )

    def _rouge(self, replies: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, list[float]]:
        scorer = _package("rouge_score.rouge_scorer").RougeScorer(list(KINDS), use_stemmer=self.stemmer)
        found = [scorer.score_multi(list(own), reply) for reply, own in zip(replies, references, strict=True)]
        return {kind: [float(one[kind].fmeasure) for one in found] for kind in KINDS}


def _references(given: Material, prompts: Sequence[Prompt]) -> list[list[str]]:
    found: dict[Prompt, list[str]] = {}
    for item in given.examples("demonstrations", "test", None):
        found.setdefault(item.prompt, []).append(item.replies[0].text)
    return [found.get(prompt, []) for prompt in prompts]


def _package(name: str) -> Any:
    """Raises ``ConfigError`` where it is not installed."""
    import importlib

    from align.errors import ConfigError

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"benchmark=overlap needs a package that is not here ({error}): pip install 'align[overlap]'"
        ) from error
