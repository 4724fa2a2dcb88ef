"""One loss over a pair's two scores a file, for reward models."""
