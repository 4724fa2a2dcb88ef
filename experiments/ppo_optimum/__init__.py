"""Do the stages that optimise a reward reach the optimum that mathematics knows?"""
