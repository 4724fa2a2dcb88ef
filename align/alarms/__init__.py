"""What can go wrong in a run: rules over lines of ``metrics.jsonl`` and the watch that applies them."""
