from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from align.evaluation.policies import labels_of, logps_of
from align.generation.local import sample_tokens
from align.models.forward import reply_logps
from align.models.policy import load_policy
from align.models.settings import AdapterSettings, ModelSettings, ScratchSettings
from align.settings import SamplingSettings
from align.types import Message


def test_policies_are_called_by_their_stages_and_two_of_one_stage_are_told_apart(tmp_path: Path) -> None:
    for name, stage in (("one", "dpo"), ("other", "dpo"), ("start", "sft")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"stage": stage}))
    one, other, start = (str(tmp_path / name) for name in ("one", "other", "start"))
    assert labels_of(one, start) == ("dpo", "sft")
    assert labels_of(one, other) == ("dpo", "reference")
    assert labels_of("some/hub-name", start) == ("policy", "sft")
    assert labels_of("some/hub-name", "another/name") == ("policy", "reference")


@pytest.mark.medium
def test_drift_looks_at_replies_after_the_prompts_that_they_were_drawn_for() -> None:
    """A prompt that leaves no room for a reply is cut; even a short one was drawn after what is left."""
    shape = ScratchSettings(hidden_size=16, layers=1, heads=2, mlp_size=16, vocab_size=300)
    settings = ModelSettings(scratch=shape, max_length=40)
    policy = load_policy(settings, AdapterSettings(), texts=lambda: iter(["a b c"]), seed=0)
    sampling = SamplingSettings(max_new_tokens=10, temperature=0.7)
    prompt = (Message("user", "mend a bell " * 10),)
    ids = policy.chat.prompt_ids(prompt)[-30:]
    (reply,) = sample_tokens(policy, [ids], sampling, seed=0)
    short = type(reply)(reply.text, reply.token_ids[:2], ended=True)
    found, _ = logps_of(policy, policy, [prompt], [short], sampling)
    with torch.no_grad():
        expected = reply_logps(policy.model.eval(), [ids], [np.array(short.token_ids)], policy.pad_id, 0.7)
    assert found == pytest.approx(expected.sums_B().tolist(), abs=1e-6)
