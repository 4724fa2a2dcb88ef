"""Where preference pairs come from and who prefers: one file a method, one word after ``collect=``."""
