"""What is held out of training, for evaluation in the loop."""

from collections.abc import Iterable

from pydantic import Field, model_validator

from jmedllm.settings import Settings
from jmedllm.training.mixing import draw

OTHER = "other"
"""Set of those held-out documents whose language is not known."""


class ValidationConfig(Settings):
    """What both stages are measured on while they train; when, stands in their `early_stopping`."""

    held_out: float = Field(
        0.0, ge=0, le=0.5, description="share of documents never trained on, by the hash of their text"
    )
    texts: dict[str, list[str]] = Field(
        {}, description="name of a set, such as ja, en, general → files or folders of further held-out text"
    )
    max_bytes: int = Field(200_000, ge=1_000, description="UTF-8 bytes read of each set at most, in whole documents")
    benchmarks: list[str] = Field([], description="benchmarks or .jsonl files of a small exam by likelihood; NAME:ja")
    split: str = Field("test", description="of the small exam")
    limit: int = Field(50, ge=1, description="items of each paper of the small exam")

    @model_validator(mode="after")
    def _something(self) -> "ValidationConfig":
        if not (self.held_out or self.texts or self.benchmarks):
            raise ValueError("give held_out, texts or benchmarks: something to measure")
        return self


def is_held_out(text: str, share: float) -> bool:
    """Whether a text belongs to the `share` that is never trained on: equal texts always fall on one side."""
    return draw(text, "evaluate") < share


def chosen(texts: Iterable[str], limit: int) -> list[str]:
    """Whole texts of at most `limit` UTF-8 bytes together, at least one; the same from any order."""
    kept: list[str] = []
    size = 0
    for text in sorted(set(texts), key=lambda text: draw(text, "choose")):
        size += len(text.encode())
        if kept and size > limit:
            break
        kept.append(text)
    return kept
