"""Tokenizers: loading, encoding, new tokens, and a round-trip check."""
