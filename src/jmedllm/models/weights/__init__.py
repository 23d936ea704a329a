"""Checks and formats of the weights in model files."""
