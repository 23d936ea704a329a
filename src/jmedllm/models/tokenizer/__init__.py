"""Tokenizers: load, encode, extend, and check that they give text back as it was."""
