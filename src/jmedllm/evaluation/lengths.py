"""Lengths of responses, and how many of them were cut off."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from jmedllm.evaluation.records import Sample

MOST_TRUNCATED = 0.02
"""Share of truncated responses from which a score is marked."""


@dataclass(frozen=True, slots=True)
class ResponseLengths:
    """Lengths of the generated responses of an evaluation, in tokens; None where unknown.

    Attributes:
        n: number of responses, with all samples and rotations.
        truncated: number of those that were cut off.
        tokens_median: of the tokens that the model generated, with its thought.
        tokens_p99: their 99th percentile.
        thought_median: of the tokens of thoughts.
        thought_p99: their 99th percentile.
        forced: number of thoughts that were closed at the thinking budget.
    """

    n: int
    truncated: int
    tokens_median: int | None
    tokens_p99: int | None
    thought_median: int | None = None
    thought_p99: int | None = None
    forced: int = 0


def is_marked(truncated: int | None, n: int) -> bool:
    """Return whether so many of `n` responses are truncated that a score of them must be marked."""
    return truncated is not None and truncated > MOST_TRUNCATED * n


def is_cut(sample: Sample) -> bool:
    """Return whether a response was cut off, in its answer or in its thought."""
    return sample.truncated or sample.thought_cut


def measure(samples: Iterable[Sample]) -> ResponseLengths | None:
    """Measure the responses of samples; None if there are none."""
    written = [sample for sample in samples if sample.response is not None]
    if not written:
        return None
    tokens = [sample.new_tokens for sample in written if sample.new_tokens is not None]
    thoughts = [sample.reasoning_tokens for sample in written if sample.reasoning_tokens is not None]
    return ResponseLengths(
        n=len(written),
        truncated=sum(is_cut(sample) for sample in written),
        tokens_median=_percentile(tokens, 50),
        tokens_p99=_percentile(tokens, 99),
        thought_median=_percentile(thoughts, 50),
        thought_p99=_percentile(thoughts, 99),
        forced=sum(sample.forced for sample in written),
    )


def _percentile(tokens: Sequence[int], share: int) -> int | None:
    """Return the smallest length that `share` % of the responses do not exceed."""
    return int(np.percentile(tokens, share, method="inverted_cdf")) if tokens else None
