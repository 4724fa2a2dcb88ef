"""What a run would need of memory, told before it: its own code runs on tensors that have no bytes."""
