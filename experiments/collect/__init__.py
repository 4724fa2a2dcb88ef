"""How right are the labels of each way of collecting pairs, and does a policy get better by them?"""
