"""Export: a trained network into a verified bundle of three ONNX graphs, and on boards too into TensorRT engines."""
