"""Many runs from one command: which jobs there are, how they share the machine, what became of them."""
