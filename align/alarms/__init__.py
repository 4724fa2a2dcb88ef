"""What goes wrong in a run, by name: rules over the lines of ``metrics.jsonl``, and the watch that applies them."""
