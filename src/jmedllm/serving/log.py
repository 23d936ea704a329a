"""One line for each request, without text of prompts or answers."""

import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jmedllm.serving.reply import Reply


@dataclass
class RequestLog:
    """What is logged of a request.

    Attributes:
        id: its identifier, which is also in the answer and in the header `X-Request-Id`.
        route: method and path.
        status: status of the response; 499 if the client left first, as nginx writes it.
        prompt: number of tokens of the prompt; None if there was none.
        completion: number of generated tokens.
        note: what else happened, such as that the client left.
        reply: the answer, if there is one.
        began: when it began, on the monotonic clock.
    """

    id: str
    route: str
    status: int = 500
    prompt: int | None = None
    completion: int = 0
    note: str = ""
    reply: "Reply | None" = None
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Time since it began."""
        return time.monotonic() - self.began

    def line(self) -> str:
        """Return the line."""
        tokens = "" if self.prompt is None else f" prompt={self.prompt} completion={self.completion}"
        note = f" ({self.note})" if self.note else ""
        return f"{self.id} {self.route} {self.status}{tokens} ms={self.seconds * 1000:.0f}{note}"


def write_log(text: str) -> None:
    """Write a line with the time to standard error."""
    sys.stderr.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")
    sys.stderr.flush()
