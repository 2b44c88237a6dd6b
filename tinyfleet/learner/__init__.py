"""Learners: the same model and plan, computed natively in C or with NumPy."""
