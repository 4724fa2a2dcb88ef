"""What can score a reply: one file a reward, each a component of ``reward=``."""
