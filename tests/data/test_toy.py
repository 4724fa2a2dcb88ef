"""The embedded world: determinism, readable text, and labels drawn as they say they are."""

from __future__ import annotations

import math
import statistics
from itertools import islice

import pytest

from align import registry
from align.collect._affixes import affixed, read_affixes
from align.config import build
from align.errors import ConfigError
from align.protocols import KnownTruth
from align.types import Message, PreferenceRecord
from data import _toy_world as world
from data.toy import AFFIXES, Toy
from reward_models.gold import COMMON, COURTESIES, REASONS, RUDE, Gold, words


def texts(toy: Toy) -> list[tuple[str, ...]]:
    return [(row.values["prompt"], *row.values["replies"]) for row in toy.rows() if row.values]


def records(toy: Toy) -> list[PreferenceRecord]:
    return [toy.record(row.values) for row in toy.rows() if row.values]


@pytest.fixture(scope="module")
def default_records() -> list[PreferenceRecord]:
    """The 4,000 pairs of ``dataset=toy`` as it comes."""
    return records(Toy())


def gold_gap(record: PreferenceRecord) -> float:
    first, second = Gold().score([record.prompt] * 2, [reply.text for reply in record.replies])
    return first - second


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    assert list(Toy(pairs=50).rows()) == list(Toy(pairs=50).rows())
    assert set(texts(Toy(pairs=50))).isdisjoint(texts(Toy(pairs=50, seed=1)))


def test_rows_are_drawn_lazily_and_do_not_depend_on_how_many_there_are():
    assert list(islice(Toy(pairs=10**12).rows(), 20)) == list(Toy(pairs=20).rows())


def test_noise_settings_change_labels_and_not_texts():
    assert texts(Toy(pairs=50)) == texts(Toy(pairs=50, temperature=9.0, flip_rate=0.5))


def test_locations_count_from_one():
    assert [str(row.location) for row in Toy(pairs=3).rows()] == ["toy:1", "toy:2", "toy:3"]


def test_prompts_are_distinct_tasks_and_pairs_go_round_them():
    prompts = [text[0] for text in texts(Toy(pairs=25, prompts=10))]
    assert len(set(prompts)) == 10
    assert prompts[:10] == prompts[10:20]
    assert prompts[20:] == prompts[:5]


def test_tasks_are_all_different():
    tasks = {str(world.task(number)) for number in range(world.TASK_COUNT)}
    assert len(tasks) == world.TASK_COUNT == 6 * 5 * 8 * 24
    with pytest.raises(IndexError):
        world.task(world.TASK_COUNT)


def test_the_default_pairs_can_all_be_used(default_records: list[PreferenceRecord]):
    """No empty, equal, repeated or contradictory pairs, which a reader would have to drop."""
    found = [(record.prompt, *(reply.text for reply in record.replies)) for record in default_records]
    assert len(found) == 6000
    assert all(first.strip() and second.strip() and first != second for _, first, second in found)
    assert len({(prompt, frozenset(replies)) for prompt, *replies in found}) == len(found)


def test_texts_are_short_and_of_few_words():
    found = texts(Toy(pairs=1000))
    prompt_lengths = [len(words(prompt)) for prompt, *_ in found]
    reply_lengths = [len(words(reply)) for _, *replies in found for reply in replies]
    assert 9 <= min(prompt_lengths) <= max(prompt_lengths) <= 25
    assert statistics.quantiles(reply_lengths, n=20)[0] >= 5
    assert statistics.quantiles(reply_lengths, n=20)[-1] <= 40
    assert len({word for text in found for part in text for word in words(part)}) < 500


def test_every_keyword_of_a_prompt_is_one_that_the_gold_asks_for():
    """A prompt's content words are the verb, the noun and the setting's word: three, however it is put."""
    for number in range(0, world.TASK_COUNT, 7):
        task = world.task(number)
        keywords = {task.verb, task.noun, task.setting.split()[-1]}
        for question in world.QUESTIONS:
            asked = {word for word in words(question.format(task=task)) if word not in COMMON}
            assert asked == keywords


def test_only_answers_hold_keywords():
    """Otherwise a reply would answer by accident."""
    keywords = {
        word for number in range(world.TASK_COUNT) for word in words(str(world.task(number)))
    } - COMMON
    rest = [*world.GREETINGS, *world.CLOSINGS, *world.INSULTS, *world.SHRUGS, *world.DETAILS, *world.REASONS]
    rest += [means for domain in world.DOMAINS for means in domain.means]
    assert keywords.isdisjoint(words(" ".join(rest)))


@pytest.mark.parametrize(
    ("sentences", "marked"),
    [
        (world.GREETINGS, COURTESIES),
        (world.CLOSINGS, COURTESIES),
        (world.INSULTS, RUDE),
        (world.REASONS, REASONS),
    ],
)
def test_each_marked_sentence_holds_one_marked_word(sentences: tuple[str, ...], marked: frozenset[str]):
    for sentence in sentences:
        assert sum(word in marked for word in words(sentence)) == 1


def test_better_grades_earn_more_gold():
    by_grade: dict[str | None, list[float]] = {}
    for record in records(Toy(pairs=1000)):
        for reply in record.replies:
            by_grade.setdefault(reply.model, []).extend(Gold().score([record.prompt], [reply.text]))
    means = [statistics.mean(by_grade[f"toy-{grade}"]) for grade in ("careless", "hasty", "sound", "careful")]
    assert means == sorted(means)
    assert means[-1] - means[0] > 3


def test_a_proxy_sees_courtesy_and_gold_rise_together():
    """Over what most replies hold (0 to 2 courtesies) more is better; the turn lies beyond."""
    by_courtesy: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for record in records(Toy(pairs=1000, overdone=0.0)):
        for reply in record.replies:
            count = sum(word in COURTESIES for word in words(reply.text))
            by_courtesy.setdefault(count, []).extend(Gold().score([record.prompt], [reply.text]))
    means = [statistics.mean(by_courtesy[count]) for count in (0, 1, 2)]
    assert means == sorted(means)
    assert sum(map(len, (by_courtesy[0], by_courtesy[1], by_courtesy[2]))) > 0.99 * 2000


def test_overdone_is_the_share_of_overdone_replies():
    # 2,000 draws at 0.3: within 4 standard errors, 4 * sqrt(0.3 * 0.7 / 2000) = 0.041.
    replies = [reply for record in records(Toy(pairs=1000, overdone=0.3)) for reply in record.replies]
    share = statistics.mean(reply.model == "toy-overdone" for reply in replies)
    assert share == pytest.approx(0.3, abs=0.041)


def test_difficulty_brings_the_replies_of_a_pair_closer():
    def distance(difficulty: float) -> float:
        gaps = [abs(gold_gap(record)) for record in records(Toy(pairs=1000, difficulty=difficulty))]
        return statistics.mean(gaps)

    assert distance(1.0) < 0.85 * distance(0.0)
    same = records(Toy(pairs=200, difficulty=1.0, overdone=0.0))
    assert all(record.replies[0].model == record.replies[1].model for record in same)


def test_a_record_says_who_wrote_and_who_judged():
    row = next(Toy(pairs=1).rows())
    assert row.values is not None
    record = Toy().record(row.values)
    assert record.prompt == (Message("user", row.values["prompt"]),)
    assert [reply.text for reply in record.replies] == row.values["replies"]
    assert [reply.model for reply in record.replies] == [f"toy-{grade}" for grade in row.values["grades"]]
    assert (record.judge.kind, record.judge.name, record.method) == ("function", "gold", "bradley-terry")
    assert record.margin is not None
    assert record.margin >= 0
    assert record.pair() is not None


# Two replies to one question whose gold differs by 0.5, an ending, with everything else equal.
QUESTION = (Message("user", "How do I wash the goat?"),)
ENDED, UNENDED = "Wash it now and then again.", "Wash it now and then again"


@pytest.mark.parametrize(
    ("temperature", "flip_rate", "probability"),
    [
        # odds of exp(0.5 / 0.5) = e: p = e / (1 + e) = 0.7310586
        (0.5, 0.0, 0.7310586),
        # 0.9 * 0.7310586 + 0.1 * 0.2689414 = 0.6848469
        (0.5, 0.1, 0.6848469),
        (0.0, 0.0, 1.0),
        (0.0, 0.2, 0.8),
        (1e-300, 0.2, 0.8),
        (0.5, 0.5, 0.5),
    ],
)
def test_preference_probability_by_hand(temperature: float, flip_rate: float, probability: float):
    toy = Toy(temperature=temperature, flip_rate=flip_rate)
    assert toy.preference_probability(QUESTION, ENDED, UNENDED) == pytest.approx(probability)
    assert toy.preference_probability(QUESTION, UNENDED, ENDED) == pytest.approx(1 - probability)
    assert toy.preference_probability(QUESTION, ENDED, ENDED) == pytest.approx(0.5)


def test_bayes_accuracy_of_three_pairs_by_hand():
    # Gaps of 0.5, -0.5 and 0 at temperature 0.5 and flips of 0.1: (0.6848469 * 2 + 0.5) / 3 = 0.6232313.
    toy = Toy(temperature=0.5, flip_rate=0.1)
    pairs = [(ENDED, UNENDED), (UNENDED, ENDED), (ENDED, ENDED)]
    chances = [toy.preference_probability(QUESTION, *pair) for pair in pairs]
    assert statistics.mean(max(p, 1 - p) for p in chances) == pytest.approx(0.6232313)


@pytest.mark.parametrize(("temperature", "flip_rate"), [(0.5, 0.05), (3.0, 0.0), (0.2, 0.3)])
def test_labels_are_drawn_at_the_stated_probability(temperature: float, flip_rate: float):
    """Standardised residuals of 1,500 labels sum to a standard normal, overall and where the gap is large."""
    toy = Toy(pairs=1500, temperature=temperature, flip_rate=flip_rate)
    residuals: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for record in records(toy):
        chance = toy.preference_probability(record.prompt, *(reply.text for reply in record.replies))
        surer = max(chance, 1 - chance)
        likely = "first" if chance > 0.5 else "second"
        wide = abs(gold_gap(record)) > 2
        residuals[wide].append(((record.preferred == likely) - surer, surer * (1 - surer)))
    for group in residuals.values():
        excess = sum(residual for residual, _ in group)
        assert abs(excess) < 4 * math.sqrt(sum(variance for _, variance in group))


def test_without_noise_the_gold_decides_and_the_margin_is_its_gap():
    for record in records(Toy(pairs=300, temperature=0.0, flip_rate=0.0)):
        gap = gold_gap(record)
        assert record.margin == pytest.approx(abs(gap))
        if gap:
            assert record.preferred == ("first" if gap > 0 else "second")


def test_flips_turn_the_stated_share_of_labels_round():
    # The same seed draws the same noise, so exactly the flipped labels differ: 0.2 of 2,000, within 4
    # standard errors, 4 * sqrt(0.2 * 0.8 / 2000) = 0.036.
    honest, flipped = (records(Toy(pairs=2000, flip_rate=rate)) for rate in (0.0, 0.2))
    differ = [a.preferred != b.preferred for a, b in zip(honest, flipped, strict=True)]
    assert statistics.mean(differ) == pytest.approx(0.2, abs=0.036)


def test_the_default_is_neither_trivial_nor_hopeless(default_records: list[PreferenceRecord]):
    chances = [
        Toy().preference_probability(record.prompt, *(reply.text for reply in record.replies))
        for record in default_records
    ]
    assert 0.84 <= statistics.mean(max(p, 1 - p) for p in chances) <= 0.92


def test_the_registry_and_the_settings_know_it():
    assert registry.component("dataset", "toy") is Toy
    toy = build(Toy, {"pairs": 10, "flip_rate": 0})
    assert isinstance(toy, KnownTruth)
    assert toy.offers == "pairs"
    assert registry.component("reward", toy.reward) is Gold
    with pytest.raises(ConfigError) as caught:
        build(Toy, {"prompts": 10**6, "flip_rate": 0.6, "pair": 3})
    for message in (
        "prompts: takes an integer at least 1 and at most 5760",
        "flip_rate: ",
        "Did you mean 'pairs'",
    ):
        assert message in str(caught.value)


def test_steering_changes_some_questions_and_whom_the_labeller_prefers():
    """Half of what is steered asks for a bad reply; then, and only then, the other side is preferred."""
    plain, steered = records(Toy(pairs=1500)), records(Toy(pairs=1500, steered=0.6))
    pairs = read_affixes(AFFIXES)
    signs = {one.positive: 1 for one in pairs} | {one.negative: -1 for one in pairs}
    counts = {0: 0, 1: 0, -1: 0}
    for before, after in zip(plain, steered, strict=True):
        assert before.replies == after.replies
        question, mark, rest = after.prompt[0].content.partition(" (")
        sign = signs[rest.removesuffix(")")] if mark else 0
        counts[sign] += 1
        assert question == before.prompt[0].content
        assert (before.preferred == after.preferred) == (sign != -1)
        assert before.margin == after.margin
    assert abs(counts[0] - 600) < 4 * math.sqrt(1500 * 0.4 * 0.6)
    assert abs(counts[1] - counts[-1]) < 4 * math.sqrt(900)


def test_the_probability_of_a_preference_obeys_the_affix():
    toy, (pair, *_) = Toy(steered=0.5), read_affixes(AFFIXES)
    (question, first, second) = texts(Toy(pairs=1))[0]
    prompts = [(Message("user", text),) for text in (question, affixed(question, pair.positive))]
    honest, good = (toy.preference_probability(prompt, first, second) for prompt in prompts)
    bad = toy.preference_probability((Message("user", affixed(question, pair.negative)),), first, second)
    assert honest == good == Toy().preference_probability(prompts[0], first, second)
    assert bad == pytest.approx(1 - good)
    assert good != bad


def test_the_affixes_are_part_of_what_steered_data_follows_from():
    assert Toy(steered=0.5).content_hash() != Toy().content_hash()
