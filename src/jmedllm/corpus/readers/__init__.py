"""Readers of all supported file formats."""
