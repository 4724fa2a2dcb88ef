"""Typing errors, drawn from a seed: what a reward should not mind."""

from __future__ import annotations

import re
from random import Random

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WORD = re.compile(r"[^\W\d_]{3,}")
"""Words of three letters or more: shorter ones become others, not misspelt ones."""


def _neighbours() -> dict[str, str]:
    """Letters that lie beside each on a QWERTY keyboard: in its row, and above and below it."""
    found = {}
    for number, row in enumerate(_ROWS):
        for place, letter in enumerate(row):
            near = row[max(0, place - 1) : place] + row[place + 1 : place + 2]
            if number:
                near += _ROWS[number - 1][place : place + 2]
            if number + 1 < len(_ROWS):
                near += _ROWS[number + 1][max(0, place - 1) : place + 1]
            found[letter] = near
    return found


NEIGHBOURS = _neighbours()


def with_typos(text: str, rate: float, seed: int) -> str | None:
    """The text with a typing error in a share of its words, in one at least; None where no word can have one.

    Each error is one of four (after Pruthi et al. 2019, "Combating adversarial misspellings"): two letters
    swapped, one dropped, one doubled, one replaced by a neighbour on the keyboard; a word's first letter
    stays. What is drawn follows from the text and the seed alone, wherever the text stands.
    """
    rng = Random(f"typos {seed} {text}")
    words = list(_WORD.finditer(text))
    if not words:
        return None
    chosen = [word for word in words if rng.random() < rate] or [rng.choice(words)]
    pieces, end = [], 0
    for word in chosen:
        pieces += [text[end : word.start()], _misspelt(word[0], rng)]
        end = word.end()
    return "".join([*pieces, text[end:]])


def _misspelt(word: str, rng: Random) -> str:
    ways = [_dropped, _doubled]
    if len(set(word[1:].lower())) > 1:
        ways.append(_swapped)
    if any(letter.lower() in NEIGHBOURS for letter in word[1:]):
        ways.append(_replaced)
    return rng.choice(ways)(word, rng)


def _dropped(word: str, rng: Random) -> str:
    place = rng.randrange(1, len(word))
    return word[:place] + word[place + 1 :]


def _doubled(word: str, rng: Random) -> str:
    place = rng.randrange(1, len(word))
    return word[:place] + word[place] + word[place:]


def _swapped(word: str, rng: Random) -> str:
    places = [i for i in range(1, len(word) - 1) if word[i].lower() != word[i + 1].lower()]
    place = rng.choice(places)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _replaced(word: str, rng: Random) -> str:
    place = rng.choice([i for i in range(1, len(word)) if word[i].lower() in NEIGHBOURS])
    letter = rng.choice(NEIGHBOURS[word[place].lower()])
    return word[:place] + (letter.upper() if word[place].isupper() else letter) + word[place + 1 :]
