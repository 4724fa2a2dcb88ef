"""How fast preferences are trained on here, beside trl: ``python -m experiments.speed --data FILE``."""
