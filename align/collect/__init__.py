"""Where pairs come from and who prefers (``collect=``): one file a method."""
