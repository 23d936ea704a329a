"""Data mixture of stage 1: held-out documents, weights by source and language, and general text.

A document is repeated as often as the integer part of its weight, and once more if its hash falls below the fractional
part. The number of repetitions therefore does not depend on the document's position and is the same in every run. The
mixture is fixed before packing, so the rows of a training step depend only on the step number.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from pydantic import Field, model_validator

from jmedllm.corpus.documents import Document
from jmedllm.errors import InputError, unknown
from jmedllm.settings import Settings

GENERAL = "general"

DocumentReader = Callable[[], Iterable[Document]]
"""Returns a new iterator over the documents, which may not all fit in memory."""


class MixingConfig(Settings):
    """Data mixture of stage 1; by default a pass reads every medical document once."""

    weights: dict[str, float] = Field(
        {},
        description="source or language → how often a pass reads its documents; where both are named, the product",
    )
    general: list[str] = Field([], description="files or folders of general text, replayed against forgetting")
    replay: float = Field(0.0, ge=0, lt=1, description="share of the bytes of a pass that are general text")

    @model_validator(mode="after")
    def _whole(self) -> "MixingConfig":
        if bool(self.general) != bool(self.replay):
            raise ValueError("general and replay must be given together: the text, and its share of the bytes")
        if any(weight < 0 for weight in self.weights.values()):
            raise ValueError("weights must be 0 or more")
        return self


@dataclass(frozen=True, slots=True)
class SourceCount:
    """Amount of text that a pass reads from one source.

    Attributes:
        documents: number of distinct documents.
        bytes: size of these documents in UTF-8 bytes.
        read: UTF-8 bytes that a pass reads, with repetitions.
    """

    documents: int
    bytes: int
    read: int

    @property
    def epochs(self) -> float:
        """Mean number of times that a pass reads the source."""
        return self.read / self.bytes


def hash_fraction(text: str, purpose: str) -> float:
    """Hash a text to a number from 0 to 1; each purpose gives an independent number."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\n{text}".encode()).digest()[:8], "big") / 2**64


def repetitions(text: str, times: float) -> int:
    """Return how often a pass reads a text with weight `times`: an integer with this mean."""
    return int(times) + (hash_fraction(text, "mixing") < times % 1)


def weight(document: Document, weights: Mapping[str, float]) -> float:
    """Return the weight of a document's source times that of its language; 1 where neither has one."""
    return weights.get(document.source or "", 1.0) * weights.get(document.language or "", 1.0)


def mixture(
    medical: DocumentReader, general: DocumentReader, mixing: MixingConfig
) -> Iterator[tuple[str, Document, int]]:
    """Yield each document once, medical ones first, with its part of the mixture and its repetitions per pass.

    A part is a source of the corpus; all general text is one part called general.

    Raises:
        InputError: a weight names a source or language that no document has, or the general text is empty.
    """
    known: set[str] = set()
    size = 0
    for document in medical():
        known |= {name for name in (document.source, document.language) if name}
        times = repetitions(document.text, weight(document, mixing.weights))
        size += times * len(document.text.encode())
        yield document.source or "unnamed", document, times
    for name in mixing.weights:
        if name not in known:
            raise unknown("source or language in weights", name, known)
    if not mixing.replay:
        return
    there = sum(len(document.text.encode()) for document in general())
    if not there:
        raise InputError(f"general text {', '.join(mixing.general)}: contains no text; give files that do")
    share = size * mixing.replay / (1 - mixing.replay) / there
    for document in general():
        yield GENERAL, document, repetitions(document.text, share)


def count_sources(members: Iterable[tuple[str, Document, int]]) -> dict[str, SourceCount]:
    """Count what a pass reads of each part of a mixture."""
    found: dict[str, SourceCount] = {}
    for name, document, times in members:
        size = len(document.text.encode())
        before = found.get(name, SourceCount(0, 0, 0))
        found[name] = SourceCount(before.documents + 1, before.bytes + size, before.read + times * size)
    return found


OTHER = "other"
"""Name of the set of held-out documents whose language is not known."""


def is_held_out(text: str, share: float) -> bool:
    """Return whether a text belongs to the `share` that is never trained on; equal texts get the same result."""
    return hash_fraction(text, "evaluate") < share


def choose_texts(texts: Iterable[str], limit: int) -> list[str]:
    """Choose complete texts of at most `limit` UTF-8 bytes in total, at least one, independent of their order."""
    kept: list[str] = []
    size = 0
    for text in sorted(set(texts), key=lambda text: hash_fraction(text, "choose")):
        size += len(text.encode())
        if kept and size > limit:
            break
        kept.append(text)
    return kept
