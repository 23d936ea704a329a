"""Measures a de-identification against annotated notes: recall by kind, precision, and false alarms."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jmedllm.corpus.deidentify.spans import LABELS, Span, covered, touches
from jmedllm.errors import InputError
from jmedllm.evaluation.proportions import wilson
from jmedllm.files import read_jsonl

KEPT = frozenset({"AGE"})
"""Annotated kinds that the program keeps by design: ages below 90."""

KEEP = "keep"
"""What a label is mapped to if it marks no identifier."""


@dataclass(frozen=True, slots=True)
class GoldSpan:
    """An annotated identifier: characters `start` to `end` (exclusive), and its kind as the file names it."""

    start: int
    end: int
    label: str


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A text with its annotated identifiers; `where` is its file and line."""

    text: str
    spans: tuple[GoldSpan, ...]
    where: str


@dataclass(frozen=True, slots=True)
class Share:
    """A share with the ends of Wilson's 95 % interval; all None if `of` is 0."""

    name: str
    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DeidentificationScores:
    """Scores of one file.

    Attributes:
        recall: one share per annotated kind, then "all". A span counts only if every character of it was found, under
            whatever kind.
        precision: share of the spans found that share a character with an annotated one.
        touched: share of the texts without any identifier in which something was found.
        false_alarms: spans found in those texts, by kind.
        clean_characters: characters of those texts.
    """

    recall: tuple[Share, ...]
    precision: Share
    touched: Share
    false_alarms: dict[str, int]
    clean_characters: int

    @property
    def false_alarms_per_10000(self) -> float | None:
        """False alarms per 10,000 characters of text without identifiers; None without such text."""
        return 1e4 * sum(self.false_alarms.values()) / self.clean_characters if self.clean_characters else None


def evaluate(texts: Iterable[AnnotatedText], find: Callable[[str], Sequence[Span]]) -> DeidentificationScores:
    """Score what `find` finds, which are disjoint spans in order, on annotated texts."""
    hits, gold = Counter[str](), Counter[str]()
    alarms = Counter[str]()
    found_count = right = clean = touched = clean_characters = 0
    for each in texts:
        found = find(each.text)
        found_count += len(found)
        right += sum(touches(_as_spans(each.spans), span.start, span.end) for span in found)
        for span in each.spans:
            if span.label not in KEPT:
                gold[span.label] += 1
                hits[span.label] += covered(found, span.start, span.end)
        if not each.spans:
            clean += 1
            clean_characters += len(each.text)
            touched += bool(found)
            alarms.update(span.label for span in found)
    rows = [share(label, hits[label], gold[label]) for label in sorted(gold)]
    return DeidentificationScores(
        recall=(*rows, share("all", hits.total(), gold.total())),
        precision=share("precision", right, found_count),
        touched=share("texts without identifiers that were touched", touched, clean),
        false_alarms=dict(sorted(alarms.items())),
        clean_characters=clean_characters,
    )


def _as_spans(spans: Iterable[GoldSpan]) -> list[Span]:
    """Return annotated spans as spans; their kind does not matter here."""
    return [Span(span.start, span.end, "NAME") for span in spans]


def share(name: str, count: int, of: int) -> Share:
    """Return a share with its interval."""
    if not of:
        return Share(name, count, of, None, None, None)
    return Share(name, count, of, count / of, *wilson(count, of))


def read_annotated(path: Path, labels: Mapping[str, str] | None = None) -> list[AnnotatedText]:
    """Read lines of JSON with `text` and `spans` of `start`, `end` (characters), `label`, and maybe their `text`.

    Args:
        path: the file.
        labels: our kind for labels of the file, or `KEEP` for those of no identifier.

    Raises:
        InputError: the file cannot be read or is empty, a line has no such keys, or a span has wrong offsets.
    """
    texts = [_annotated(row, f"{path}:{number}", labels or {}) for number, row in read_jsonl(path)]
    if not texts:
        raise InputError(f'{path}: no lines; expected lines of JSON with "text" and "spans"')
    return texts


def unknown_labels(texts: Iterable[AnnotatedText]) -> list[str]:
    """Return the labels that are none of our kinds."""
    found = {span.label for each in texts for span in each.spans}
    return sorted(found - {*LABELS, *KEPT})


def _annotated(row: dict[str, object], where: str, labels: Mapping[str, str]) -> AnnotatedText:
    text, spans = row.get("text"), row.get("spans")
    if not isinstance(text, str) or not isinstance(spans, list):
        raise InputError(f'{where}: expected "text" (a string) and "spans" (a list)')
    read = [_span(span, text, where) for span in spans]
    mapped = [replace(span, label=labels.get(span.label, span.label)) for span in read]
    return AnnotatedText(text, tuple(span for span in mapped if span.label != KEEP), where)


def _span(span: object, text: str, where: str) -> GoldSpan:
    start, end, label = (span.get(key) for key in ("start", "end", "label")) if isinstance(span, dict) else (None,) * 3
    if not (type(start) is int and type(end) is int and isinstance(label, str)):
        raise InputError(f'{where}: each span needs "start" and "end" (integers) and "label" (a string)')
    if not 0 <= start < end <= len(text):
        raise InputError(f"{where}: span {start} to {end} is outside the text of {len(text)} characters")
    said = span.get("text") if isinstance(span, dict) else None
    if said is not None and said != text[start:end]:
        raise InputError(
            f'{where}: span {start} to {end} is not what its "text" says; count characters from 0, not bytes'
        )
    return GoldSpan(start, end, label)
