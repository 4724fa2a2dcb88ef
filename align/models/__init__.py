"""Load a policy, its reference, a scalar head, a tokenizer and its chat template."""
