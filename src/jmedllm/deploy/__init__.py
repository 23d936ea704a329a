"""Merge adapters into plain models."""
