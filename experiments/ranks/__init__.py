"""Do two ranks take the steps that one takes, and how fast do all end when one falls?"""
