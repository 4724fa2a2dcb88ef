"""Which loss, at which beta? A sweep over both and three seeds on the embedded world, and what it shows."""
