"""One file per word after ``stage=``."""
