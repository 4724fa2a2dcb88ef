"""How long does a comparison of many runs take, and do its intervals hold what they promise?"""
