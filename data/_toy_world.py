"""The words of the embedded world: what is asked about, and the sentences that replies are made of.

Every keyword of a task (a verb, a noun, the word of its setting) is one that ``reward_models/gold.py``
counts as content, and no other sentence of a prompt holds such a word: a test checks both.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Domain:
    """One corner of the world: any of its verbs goes with any of its nouns."""

    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    means: tuple[str, ...]
    """What a reply suggests to use."""


@dataclass(frozen=True)
class Task:
    """What a prompt asks about."""

    verb: str
    noun: str
    setting: str
    domain: Domain

    def __str__(self) -> str:
        return f"{self.verb} the {self.noun} {self.setting}"


DOMAINS = (
    Domain(
        verbs=("cook", "season", "serve", "store", "reheat"),
        nouns=("rice", "beans", "soup", "fish", "carrots", "mushrooms", "potatoes", "noodles"),
        means=("fresh lemon", "a heavy pan", "low heat", "sea salt", "a wooden spoon"),
    ),
    Domain(
        verbs=("plant", "trim", "move", "protect", "pick"),
        nouns=("roses", "tomatoes", "tulips", "berries", "lilies", "cabbages", "pumpkins", "ferns"),
        means=("loose soil", "a small spade", "old leaves", "thin rope", "sharp shears"),
    ),
    Domain(
        verbs=("clean", "repair", "paint", "cover", "polish"),
        nouns=("table", "window", "carpet", "lamp", "mirror", "cupboard", "door", "chair"),
        means=("a soft cloth", "mild soap", "a dry brush", "fine sandpaper", "an old towel"),
    ),
    Domain(
        verbs=("feed", "wash", "train", "calm", "carry"),
        nouns=("cat", "puppy", "rabbit", "pony", "parrot", "hamster", "goat", "turtle"),
        means=("a quiet voice", "tasty treats", "a wide basket", "gentle hands", "a steady routine"),
    ),
    Domain(
        verbs=("sew", "knit", "wrap", "mend", "design"),
        nouns=("scarf", "blanket", "kite", "curtain", "dress", "pillow", "costume", "banner"),
        means=("strong thread", "a straight ruler", "two colours", "a paper pattern", "a thick needle"),
    ),
    Domain(
        verbs=("learn", "practise", "record", "perform", "teach"),
        nouns=("song", "dance", "poem", "speech", "waltz", "melody", "story", "duet"),
        means=("a slow beat", "short lessons", "clear notes", "deep breaths", "a loud clock"),
    ),
)

SETTINGS = (
    "in the winter",
    "in the summer",
    "in the rain",
    "in the dark",
    "in the morning",
    "in the evening",
    "in a hurry",
    "in a tent",
    "in an apartment",
    "at a festival",
    "at a market",
    "on a boat",
    "on a balcony",
    "on a bus",
    "for my sister",
    "for my uncle",
    "for my neighbour",
    "for a wedding",
    "before a party",
    "before a storm",
    "after school",
    "after lunch",
    "without money",
    "without electricity",
)

QUESTIONS = (
    "How do I {task}? I am new to it.",
    "What is the best way to {task}?",
    "I want to {task}. Where should I start?",
    "Can you please tell me how to {task}?",
    "A friend asked me to {task}. What now?",
    "I tried to {task}. What did I do wrong?",
    "Could you explain to me how to {task}?",
    "Is there an easy way to {task}?",
)

GREETINGS = ("Thank you for asking.", "Happy to help.", "Glad you asked.", "What a kind question.")
CLOSINGS = ("I hope this helps.", "Please ask me again.", "You are always welcome.", "Thanks and good luck.")
INSULTS = (
    "That is a silly question.",
    "Do not be so lazy.",
    "What a boring idea.",
    "Only foolish people ask.",
)
ANSWERS = (
    "To {task}, begin with {means}.",
    "You can {task} with {means}.",
    "If you want to {task}, use {means}.",
)
"""An answer names its task, which may not be the one asked about."""
SHRUGS = ("Just use {means}.", "It depends.", "Maybe try {means}.", "Nobody knows.")
DETAILS = (
    "Go slowly and rest often.",
    "Keep {means} close at hand.",
    "Check the result twice.",
    "Leave enough time for mistakes.",
    "Practice makes it simple.",
    "Look at every corner first.",
)
REASONS = (
    "This works because it saves time.",
    "It is safe because nothing breaks.",
    "That is wise because small steps count.",
    "This lasts because good care pays off.",
)


TASK_COUNT = sum(len(domain.verbs) * len(domain.nouns) for domain in DOMAINS) * len(SETTINGS)
"""How many different things can be asked about."""


def task(number: int) -> Task:
    """The task of a number in ``range(TASK_COUNT)``; all numbers give different tasks."""
    rest, setting = divmod(number, len(SETTINGS))
    for domain in DOMAINS:
        size = len(domain.verbs) * len(domain.nouns)
        if rest < size:
            verb, noun = divmod(rest, len(domain.nouns))
            return Task(domain.verbs[verb], domain.nouns[noun], SETTINGS[setting], domain)
        rest -= size
    raise IndexError(f"task {number} is not below {TASK_COUNT}")
