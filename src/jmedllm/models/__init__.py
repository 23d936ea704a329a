"""Models: as files, as networks, and behind the backends that complete and score text."""
