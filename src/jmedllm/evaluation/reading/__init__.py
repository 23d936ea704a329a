"""Extract answers from free responses to benchmark questions."""

from jmedllm.evaluation.reading.extracted import NO_ANSWER, ExtractedAnswer
from jmedllm.evaluation.reading.read import read_answer, same_answer

__all__ = ["NO_ANSWER", "ExtractedAnswer", "read_answer", "same_answer"]
