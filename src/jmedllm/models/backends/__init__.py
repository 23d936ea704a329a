"""Backends: what completes or scores text, one file each."""
