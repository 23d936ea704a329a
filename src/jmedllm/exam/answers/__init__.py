"""Free responses to exam questions and what they mean."""

from jmedllm.exam.answers.read import read_answer, same_answer
from jmedllm.exam.answers.reading import NO_ANSWER, Reading

__all__ = ["NO_ANSWER", "Reading", "read_answer", "same_answer"]
