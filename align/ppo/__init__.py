"""One iteration of policy optimisation: roll out, shape, estimate, update. The mathematics is pure."""
