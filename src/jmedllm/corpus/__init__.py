"""Build a clean corpus from raw text files."""
