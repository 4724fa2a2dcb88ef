"""``metrics.jsonl`` is the truth; trackers mirror it. The only folder that imports wandb."""
