"""Ends an answer at stop texts, which can be split between two pieces."""

from collections.abc import Sequence


class StopFinder:
    """Passes text on up to the first stop text.

    Attributes:
        found: whether a stop text has occurred; it and everything after it are dropped.
        kept: text that may be the beginning of a stop text.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops, self.found, self.kept = stops, False, ""

    def feed(self, text: str) -> str:
        """Return the text that is certain with this piece."""
        text = self.kept + text
        places = [place for stop in self.stops if (place := text.find(stop)) >= 0]
        if places:
            self.found, self.kept = True, ""
            return text[: min(places)]
        length = max((_overlap(text, stop) for stop in self.stops), default=0)
        self.kept = text[len(text) - length :]
        return text[: len(text) - length]


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest end of a text that is a beginning of a stop text."""
    return next(
        (length for length in range(min(len(text), len(stop) - 1), 0, -1) if stop.startswith(text[-length:])), 0
    )
