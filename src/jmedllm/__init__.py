"""Adapt an open LLM to medicine, in Japanese and English, and measure honestly whether it worked."""

from jmedllm.offline import set_variables

set_variables()

__version__ = "0.2.0"
