"""Counters of a server in the text format of Prometheus. They have no text of prompts or answers."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Upper limits of the histograms' buckets."""


@dataclass
class Histogram:
    """Seconds by bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(_SECONDS) + 1))
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds


@dataclass
class Metrics:
    """What is counted since the start.

    Attributes:
        requests: number of requests by route and status.
        tokens: number of tokens by `prompt` and `completion`.
        seconds: durations of requests by route.
        first: times to the first part of an answer.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, Histogram] = field(default_factory=dict)
    first: Histogram = field(default_factory=Histogram)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return all metrics.

        Args:
            gauges: present values by name, each with its description.
        """
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, tuple[str, float]]) -> Iterator[str]:
        yield from _head("jmedllm_requests_total", "counter", "Requests by route and status.")
        for (route, status), count in sorted(self.requests.items()):
            yield f'jmedllm_requests_total{{route="{route}",status="{status}"}} {count}'
        for kind in ("prompt", "completion"):
            yield from _head(f"jmedllm_{kind}_tokens_total", "counter", f"Tokens of {kind}s.")
            yield f"jmedllm_{kind}_tokens_total {self.tokens[kind]}"
        for name, (description, value) in gauges.items():
            yield from _head(name, "gauge", description)
            yield f"{name} {value:g}"
        yield from _head("jmedllm_request_seconds", "histogram", "Durations of requests by route.")
        for route, histogram in sorted(self.seconds.items()):
            yield from _buckets("jmedllm_request_seconds", histogram, f'route="{route}"')
        yield from _head("jmedllm_first_token_seconds", "histogram", "Times to the first part of an answer.")
        yield from _buckets("jmedllm_first_token_seconds", self.first)


def _head(name: str, kind: str, description: str) -> Iterator[str]:
    yield f"# HELP {name} {description}"
    yield f"# TYPE {name} {kind}"


def _buckets(name: str, histogram: Histogram, label: str = "") -> Iterator[str]:
    total, comma = 0, "," if label else ""
    for limit, count in zip([*map("{:g}".format, _SECONDS), "+Inf"], histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{label}{comma}le="{limit}"}} {total}'
    braces = f"{{{label}}}" if label else ""
    yield f"{name}_sum{braces} {histogram.total:.6f}"
    yield f"{name}_count{braces} {total}"
