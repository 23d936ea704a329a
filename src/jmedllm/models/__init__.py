"""Models: files, networks, tokenizers, and the backends that generate and score text."""
