"""The end of a recipe that trains for two steps."""

TWO_STEPS = """
[optimiser]
length = "2 steps"
[validation]
every = 2
sequences = 2
frames = 3
"""
