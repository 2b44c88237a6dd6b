"""Models as files that a product uses without TinyFleet: .tflite, a C header, arrays.

`tflite.py` and `quantize.py` write LiteRT's format without TensorFlow, `c_header.py` C99,
`npz.py` NumPy's archive; `check.py` holds each of them to what the learner says.
"""
