"""The exam: questions, prompts, tracks, and the sitting that brings a model and a benchmark together."""
