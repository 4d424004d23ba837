"""A bundle's graphs to TensorRT engines, on the board that runs them or ahead of time: no torch, no onnx."""
