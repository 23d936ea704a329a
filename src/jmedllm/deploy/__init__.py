"""From trained parts to a model others can load."""
