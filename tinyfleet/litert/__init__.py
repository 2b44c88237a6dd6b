"""Networks as `.tflite` files: read, checked, and run by LiteRT where it is installed.

Nothing here is imported unless a run, an export or an inference asks for it: the bare install has
no LiteRT, and says how to get one.
"""
