"""Where pairs and prompts come from: one file a source, each a component of ``dataset=``."""
