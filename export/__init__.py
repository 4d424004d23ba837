"""Export: a trained network into a verified bundle of three ONNX graphs. Runs on a workstation, never on a board."""
