"""Evaluation: benchmarks, prompts, scorers, and the evaluation of a model on tasks."""
