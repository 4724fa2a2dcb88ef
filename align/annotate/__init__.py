"""People who choose: a small web app that asks which of two replies is better, and keeps what they say."""
