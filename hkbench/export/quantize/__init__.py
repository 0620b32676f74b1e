"""Float ONNX files made narrower: int8 in several recipes, float16, 8-bit weights. No torch in here."""
