"""A finished run, done again: from its run.json, number by number."""
