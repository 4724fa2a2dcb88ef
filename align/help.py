"""``python -m align --help``: stages and components with their first lines, read as text in milliseconds."""

from __future__ import annotations

import ast

from align import registry

_HEAD = """\
align: preferences -> reward model -> policy -> evaluation, from one config.

usage: python -m align stage=NAME [GROUP=NAME ...] [KEY=VALUE ...]
       python -m align -m stage=NAME KEY=A,B,C ...      a sweep: one run a combination
                      launch.parallel=JOBS at a time, sweep=optuna to search instead

  python -m align stage=pipeline                        the whole loop on the embedded world
  python -m align stage=dpo loss=ipo loss.beta=0.3      one stage, another loss
  python -m align stage=show dataset=toy model=tiny     what the model will see
"""

_TITLES = {
    "stage": "stages (stage=)",
    "dataset": "datasets (dataset=)",
    "loss": "pair losses (loss=)",
    "reward_loss": "reward-model losses (reward_loss=)",
    "unpaired_loss": "losses of labelled replies (unpaired_loss=)",
    "reward": "rewards (reward=)",
    "collect": "ways to make pairs (collect=)",
    "benchmark": "what to measure (benchmark=, several as [one,other])",
    "tracking": "tracking (tracking=)",
    "sweep": "sweeps (sweep=, with -m)",
}

_FOOT = """\
other groups: model=tiny|hf (model.path=FOLDER, RUN or Hub name), alarms=warn|stop
              adapter=none|lora|dora|qlora|prompt|prefix
always there: run.dir=DIR  resume=true (needs run.dir)  seed=N  launch.nproc=RANKS  launch.submit=slurm|local
exit codes:   0 done, 1 failed, 2 config, 3 data, 4 model, 5 checkpoint, 6 not finite, 7 out of memory,
              8 an alarm (saved), 9 a rank died or hung, 10 not reproduced, 130 keyboard,
              143 terminated (saved; resume=true continues)
"""


def help_text() -> str:
    """The whole help page."""
    lines = [_HEAD]
    for group, title in _TITLES.items():
        lines.append(f"{title}:")
        lines += [f"  {name:<21}{first_line(group, name)}" for name in registry.known(group)]
        lines.append("")
    return "\n".join([*lines, _FOOT])


def first_line(group: str, name: str) -> str:
    """First line of a component's module docstring, read without importing it."""
    source = (registry.folder(group) / f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(source)) or ""
    return text.splitlines()[0] if text else ""
