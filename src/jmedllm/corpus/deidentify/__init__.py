"""Finds and replaces what identifies a person in clinical text."""
