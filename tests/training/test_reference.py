"""The reference's log-probabilities on disk: computed once, by content, whole, and shared."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from align.errors import NonFiniteError
from align.tensors import TokenExample, TokenLogps, TokenPair
from align.training import reference as room
from align.training.reference import ReferenceLogps, item_key

CPU = torch.device("cpu")


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def pairs(count: int) -> list[TokenPair]:
    """Pairs of 1 to 7 reply tokens, no two alike."""
    return [
        TokenPair(f"p{n}", ids(n, 1), ids(*range(n, n + 1 + n % 7)), ids(*range(n, n + 1 + n % 5)), None)
        for n in range(count)
    ]


class Model:
    """A stand-in for the reference: token t of reply i of a pair gets -(token + t / 10 + i / 100)."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, items: Sequence[TokenPair]) -> TokenLogps:
        self.seen += [one.id for one in items]
        replies = [one.chosen_ids for one in items] + [one.rejected_ids for one in items]
        longest = max(map(len, replies))
        logps = torch.zeros(len(replies), longest)
        for row, reply in enumerate(replies):
            logps[row, : len(reply)] = torch.tensor(said(reply, row >= len(items)))
        mask = torch.arange(longest) < torch.tensor(list(map(len, replies)))[:, None]
        return TokenLogps(logps, mask)


def said(reply: np.ndarray, rejected: bool) -> list[float]:
    return [-(int(token) + place / 10 + rejected / 100) for place, token in enumerate(reply)]


def filled(
    folder: Path, items: list[TokenPair], model: Model, batch_size: int = 3
) -> tuple[ReferenceLogps, list[str]]:
    lines: list[str] = []
    known = ReferenceLogps(folder, CPU, lines.append)
    which = known.missing(items, range(len(items)))
    known.fill(items, which, model, batch_size, lambda _count: None)
    return known, lines


def assert_right(known: ReferenceLogps, items: list[TokenPair]) -> None:
    logps = known(items)
    replies = [(one.chosen_ids, False) for one in items] + [(one.rejected_ids, True) for one in items]
    assert logps.logps_BT.dtype == torch.float32
    for row, (reply, rejected) in enumerate(replies):
        assert logps.mask_BT[row].tolist() == [place < len(reply) for place in range(logps.mask_BT.shape[1])]
        assert logps.logps_BT[row, : len(reply)].tolist() == pytest.approx(said(reply, rejected), rel=1e-6)


def test_each_pair_is_computed_once_and_comes_back(tmp_path: Path):
    items, model = pairs(20), Model()
    known, _ = filled(tmp_path, items, model)
    assert sorted(model.seen) == sorted(one.id for one in items)
    assert_right(known, items)
    assert_right(known, [items[7], items[3], items[7]])
    again, model = filled(tmp_path, items, Model())[0], Model()
    assert model.seen == []
    assert_right(again, items)


def test_only_what_is_missing_is_computed(tmp_path: Path):
    filled(tmp_path, pairs(12), Model())
    model = Model()
    known, _ = filled(tmp_path, pairs(20), model)
    assert sorted(model.seen) == sorted(f"p{n}" for n in range(12, 20))
    assert_right(known, pairs(20))


def test_the_same_tokens_under_another_id_are_known(tmp_path: Path):
    filled(tmp_path, pairs(4), Model())
    model = Model()
    filled(tmp_path, [replace(one, id=f"other {one.id}", margin=1.0) for one in pairs(4)], model)
    assert model.seen == []


def test_any_other_token_is_another_pair():
    one = TokenPair("a", ids(1, 2), ids(3, 4), ids(5), None)
    others = [
        replace(one, prompt_ids=ids(1, 3)),
        replace(one, chosen_ids=ids(3, 5)),
        replace(one, rejected_ids=ids(6)),
        replace(one, chosen_ids=ids(5), rejected_ids=ids(3, 4)),
        # the same tokens in a row, cut elsewhere
        replace(one, prompt_ids=ids(1), chosen_ids=ids(2, 3, 4)),
        replace(one, chosen_ids=ids(3), rejected_ids=ids(4, 5)),
    ]
    keys = [item_key(pair) for pair in (one, *others)]
    assert len(set(keys)) == len(keys)


def test_what_was_not_filled_is_refused(tmp_path: Path):
    known, _ = filled(tmp_path, pairs(3), Model())
    with pytest.raises(KeyError, match="pair p3 is not in"):
        known(pairs(5))


def test_a_damaged_file_is_thrown_away_and_computed_again(tmp_path: Path):
    filled(tmp_path, pairs(5), Model())
    (path,) = tmp_path.glob("*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    model = Model()
    known, lines = filled(tmp_path, pairs(5), model)
    assert len(model.seen) == 5
    assert "is damaged" in lines[0]
    assert_right(known, pairs(5))


def test_files_are_named_by_their_bytes(tmp_path: Path):
    filled(tmp_path, pairs(5), Model())
    (path,) = tmp_path.iterdir()
    assert path.stem == hashlib.sha256(path.read_bytes()).hexdigest()


def test_jobs_at_once_share_what_they_find_and_break_nothing(tmp_path: Path):
    """Eight jobs, each with pairs that others have too."""

    def job(first: int) -> ReferenceLogps:
        return filled(tmp_path, pairs(40)[first : first + 12], Model())[0]

    with ThreadPoolExecutor(8) as pool:
        known = list(pool.map(job, range(0, 32, 4)))
    for first, one in zip(range(0, 32, 4), known, strict=True):
        assert_right(one, pairs(40)[first : first + 12])
    model = Model()
    assert_right(filled(tmp_path, pairs(40), model)[0], pairs(40))
    assert all(int(name[1:]) >= 40 for name in model.seen)


def test_a_killed_job_keeps_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Files of 4 pairs, a kill in the fourth batch of 2: the first four pairs are kept."""
    monkeypatch.setattr(room, "ROWS", 4)
    model, calls = Model(), itertools.count()

    def killed(items: Sequence[TokenPair]) -> TokenLogps:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return model(items)

    items = pairs(10)
    known = ReferenceLogps(tmp_path, CPU, pytest.fail)
    with pytest.raises(KeyboardInterrupt):
        known.fill(items, range(10), killed, 2, lambda _count: None)
    later = Model()
    filled(tmp_path, items, later)
    assert sorted(later.seen) == sorted(f"p{n}" for n in range(4, 10))


def test_what_is_not_finite_is_refused_and_not_kept(tmp_path: Path):
    def broken(items: Sequence[TokenPair]) -> TokenLogps:
        logps = Model()(items)
        logps.logps_BT[1, 0] = float("nan")
        return logps

    known = ReferenceLogps(tmp_path, CPU, pytest.fail)
    with pytest.raises(NonFiniteError, match="the reference gives nan to a token of pair p1"):
        known.fill(pairs(2), range(2), broken, 2, lambda _count: None)
    assert list(tmp_path.iterdir()) == []


def test_single_replies_lie_beside_pairs(tmp_path: Path):
    """Of other bytes than a pair of the same prompt, in the same folder; a pair's own are still found."""
    filled(tmp_path, pairs(5), Model())
    singles = [TokenExample(one.id, one.prompt_ids, one.chosen_ids) for one in pairs(5)]
    known = ReferenceLogps(tmp_path, CPU, lambda _line: None)
    assert known.missing(singles, range(5)) == [0, 1, 2, 3, 4]

    def compute(items: Sequence[TokenExample]) -> TokenLogps:
        lengths = [len(one.reply_ids) for one in items]
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        return TokenLogps(-mask.float() * torch.tensor(lengths)[:, None], mask)

    known.fill(singles, range(5), compute, 2, lambda _count: None)
    assert known(singles).sums_B().tolist() == [-1.0, -4.0, -9.0, -16.0, -25.0]
    known.missing(pairs(5), range(5))
    assert_right(known, pairs(5))
