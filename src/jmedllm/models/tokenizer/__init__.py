"""Tokenizers: loading, encoding, vocabulary extension and a round-trip check."""
