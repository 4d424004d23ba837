"""Training: the PyTorch model and all that makes and measures it. Runs on a workstation, never on a board."""
