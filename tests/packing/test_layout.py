"""One row, worked out by hand: group 0 has a prompt of 3 and replies of 2 and 1, group 1 of 1, 1 and 2.

place      0  1  2 | 3  4 | 5 || 6 | 7 | 8  9
token     10 11 12 |20 21 |30 ||40 |50 |60 61
position   0  1  2 | 3  4 | 3 || 0 | 1 | 1  2
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from align.errors import ModelError
from align.packing.layout import ReplyGroup, lay_out
from align.packing.mask import behind_prompt, groups_and_parts


def ids(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


GROUPS = [ReplyGroup(ids(10, 11, 12), (ids(20, 21), ids(30))), ReplyGroup(ids(40), (ids(50), ids(60, 61)))]


def test_tokens_stand_once_and_positions_go_on_from_the_prompt():
    row = lay_out(GROUPS)
    assert row.input_ids_T.tolist() == [10, 11, 12, 20, 21, 30, 40, 50, 60, 61]
    assert row.positions_T.tolist() == [0, 1, 2, 3, 4, 3, 0, 1, 1, 2]
    assert row.groups == ((3, (2, 1)), (1, (1, 2)))


def test_a_reply_token_is_predicted_by_the_token_before_it_in_its_own_text():
    row = lay_out(GROUPS)
    assert row.labels_R.tolist() == [20, 21, 30, 50, 60, 61]
    # 20 and 30 both follow the prompt's last token, at place 2; 50 and 60 the one at 6
    assert row.predictors_R.tolist() == [2, 3, 2, 6, 6, 8]
    # first replies are rows 0 and 1 (chosen), second replies rows 2 and 3 (rejected)
    assert row.replies_R.tolist() == [0, 0, 2, 1, 3, 3]
    assert row.steps_R.tolist() == [0, 1, 0, 0, 0, 1]
    assert row.last_N.tolist() == [4, 7, 5, 9]


def test_values_come_back_one_row_a_reply():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], requires_grad=True)
    rows = lay_out(GROUPS).by_reply(values)
    assert rows.logps_BT.tolist() == [[1, 2], [4, 0], [3, 0], [5, 6]]
    assert rows.mask_BT.tolist() == [[True, True], [True, False], [True, False], [True, True]]
    assert torch.autograd.grad(rows.sums_B()[1] * 7, values)[0].tolist() == [0, 0, 0, 7, 0, 0]


def test_a_reply_sees_its_prompt_and_itself():
    group, part = groups_and_parts(lay_out(GROUPS).groups, 12, torch.device("cpu"))
    assert group.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert part.tolist() == [0, 0, 0, 1, 1, 2, 0, 1, 2, 2, 0, 0]


def test_the_mask_behind_a_prompt():
    low = float("-inf")
    made = behind_prompt(2, 2, None, dtype=torch.float32, device=torch.device("cpu"))
    assert made.tolist() == [[0, 0, 0, low], [0, 0, 0, 0]]
    # a window of 2: oneself and the token before
    made = behind_prompt(2, 2, 2, dtype=torch.float32, device=torch.device("cpu"))
    assert made.tolist() == [[low, 0, 0, low], [low, low, 0, 0]]


def test_what_cannot_be_laid_out_is_refused():
    with pytest.raises(ModelError, match="row 1 of the batch has an empty prompt"):
        lay_out([GROUPS[0], ReplyGroup(ids(), (ids(1), ids(2)))])
    with pytest.raises(ModelError, match="row 0 of the batch has an empty reply"):
        lay_out([ReplyGroup(ids(1), (ids(1), ids()))])
    with pytest.raises(ModelError, match="row 1 of the batch has 1 replies, row 0 has 2"):
        lay_out([GROUPS[0], ReplyGroup(ids(1), (ids(1),))])
