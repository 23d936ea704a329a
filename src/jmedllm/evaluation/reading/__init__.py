"""Free responses to exam questions and what they mean."""

from jmedllm.evaluation.reading.extracted import NO_ANSWER, Reading
from jmedllm.evaluation.reading.read import read_answer, same_answer

__all__ = ["NO_ANSWER", "Reading", "read_answer", "same_answer"]
