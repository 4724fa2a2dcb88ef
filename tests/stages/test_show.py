"""``stage=show``: the text, the tokens and which of them count, as training will see them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import SHAPE, WORLD, align, record

from align.models.tokenizer import load_tokenizer
from align.pairs.store import TokenStore

pytestmark = pytest.mark.medium


def shown(capsys: pytest.CaptureFixture[str], directory: Path, *words: str) -> str:
    align("stage=show", f"run.dir={directory}", *words)
    return capsys.readouterr().out


def test_pairs_are_shown_with_their_tokens(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Marked tokens, put together, are the reply and its end; those before them are the prompt."""
    run = tmp_path / "show"
    said = shown(capsys, run, f"model.path={sft_run}", *WORLD, "show.examples=2")
    store: TokenStore[Any, Any] = TokenStore(run / "data" / "train.arrow")
    tokenizer = load_tokenizer(sft_run / "model")
    assert len(re.findall(r"^example \d+: ", said, re.MULTILINE)) == 2
    for i in range(2):
        text, tokens = store.text(i), store[i]
        assert f"user: {text.prompt[0].content}" in said
        for name, reply, ids in (
            ("chosen", text.chosen, tokens.chosen_ids),
            ("rejected", text.rejected, tokens.rejected_ids),
        ):
            assert reply in said
            head = (
                f"{name} as tokens: {len(tokens.prompt_ids)} prompt tokens, [{len(ids)}] counted in the loss"
            )
            (line,) = re.findall(re.escape(head) + r"\n(.*)", said[said.index(tokens.id) :])[:1]
            before, _, marked = line.partition(" [")
            assert before.startswith("<|bos|>|<|user|>")
            assert before.endswith("<|assistant|>")
            pieces = marked.rstrip("]").replace("|", "").replace("␣", " ")
            assert pieces == reply + "<eos>"
            assert tokenizer.decode(ids) == reply + "<|eos|>"


def test_a_second_run_finds_the_tokens_of_the_first(
    tmp_path: Path, sft_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (f"model.path={sft_run}", *WORLD, "dataset.seed=5", f"run.cache={tmp_path / 'cache'}")
    first, again = (shown(capsys, tmp_path / name, *words) for name in ("first", "again"))
    (entry,) = (tmp_path / "cache" / "tokens").iterdir()
    line = f"  tokens from the cache: {entry}\n"
    assert line in again
    assert line not in first
    assert again.replace(line, "").replace("/again/", "/first/") == first
    assert record(tmp_path / "again")["inputs"] == record(tmp_path / "first")["inputs"]
    for name in ("train", "validation", "test"):
        one, two = (tmp_path / run / "data" / f"{name}.arrow" for run in ("first", "again"))
        assert one.samefile(two)


def test_demonstrations_are_shown_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}, as asked."} for i in range(30)]
    file = tmp_path / "demonstrations.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = ("dataset=demonstrations", f"dataset.path={file}", "show.examples=1")
    said = shown(capsys, tmp_path / "show", *SHAPE, *data)
    assert said.count("counted in the loss") == 1
    assert "<|eos|>]" in said
    assert record(tmp_path / "show")["state"] == "completed"
    assert not (tmp_path / "show" / "model").exists()
