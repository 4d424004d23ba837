"""Builds TensorRT engines, on the board that runs them or ahead of time, without torch or onnx."""
