"""The PyTorch model with its data, training and evaluation. For workstations; boards do not need it."""
