"""Talking to a checkpoint in the terminal, or to two side by side."""
