"""Adapt an open LLM to medicine, in Japanese and English, and measure honestly whether it worked."""

__version__ = "0.2.0"
