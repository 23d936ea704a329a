"""Conversion of other formats to plain model directories."""
