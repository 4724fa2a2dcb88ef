"""Sample replies in batches."""
