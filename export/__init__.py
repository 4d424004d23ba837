"""Export of a trained network to a verified bundle of three ONNX graphs; and TensorRT engines, also on boards."""
