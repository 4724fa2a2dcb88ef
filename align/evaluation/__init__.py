"""Win rate, reward accuracy, drift, and their intervals."""
