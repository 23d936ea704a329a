"""Finds all identifiers of a text: the rules and the model, then one decision a document."""

from collections.abc import Iterator
from dataclasses import replace

from jmedllm.corpus.deidentify.addresses import find_addresses
from jmedllm.corpus.deidentify.crf import find_by_context
from jmedllm.corpus.deidentify.dates import find_ages, find_dates
from jmedllm.corpus.deidentify.decide import decide
from jmedllm.corpus.deidentify.english import find_english
from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.forms import find_contacts, find_numbers
from jmedllm.corpus.deidentify.institutions import find_institutions
from jmedllm.corpus.deidentify.known import Known, find_known, known_from
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.names import find_names
from jmedllm.corpus.deidentify.names_beside import find_beside
from jmedllm.corpus.deidentify.spans import Span, resolve
from jmedllm.corpus.deidentify.tables import find_in_tables
from jmedllm.corpus.deidentify.tokens import tokenize

_SECTION = 20_000
"""Characters that are looked at together: features and look-ups of words cost memory and time for each pair."""


def find(text: str, known: Known | None = None) -> list[Span]:
    """Return the identifiers of a text: disjoint spans in order.

    A long text is divided after lines or sentences. A name that is certain in one section is a name in the others.

    Args:
        text: the text.
        known: lists of known people.
    """
    if len(text) <= _SECTION:
        return _find_in_section(text, known)
    sections = list(_sections(text))
    found = [
        replace(span, start=start + span.start, end=start + span.end)
        for start, end in sections
        for span in _find_in_section(text[start:end], known)
    ]
    folded = fold_names(text)
    names = known_from(folded[s.start : s.end] for s in found if s.label == "NAME" and s.confidence == "certain")
    for start, end in sections:
        part = folded[start:end]
        edges = frozenset(edge for token in tokenize(part) for edge in (token.start, token.end))
        found += [
            replace(span, start=start + span.start, end=start + span.end, confidence="likely", rule="name:document")
            for span in find_known(part, edges, names)
        ]
    return resolve(found)


def _sections(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    while len(text) - start > _SECTION:
        last = start + _SECTION
        ends = (text.rfind(sign, start + _SECTION // 2, last) + 1 for sign in ("\n", "。", "、", " "))
        end = next(filter(None, ends), last)
        yield start, end
        start = end
    yield start, len(text)


def _find_in_section(text: str, known: Known | None) -> list[Span]:
    folded = fold_names(text)
    tokens = tokenize(folded)
    names = lexicon()
    found = (
        *_formed(folded),
        *find_institutions(folded, tokens, names),
        *find_names(folded, tokens, names),
        *find_beside(folded, tokens, names),
        *find_by_context(folded, tokens, names),
    )
    decided = decide(folded, tokens, found, names)
    if known is None:
        return decided
    edges = frozenset(edge for token in tokens for edge in (token.start, token.end))
    return resolve((*decided, *find_known(folded, edges, known)))


def _formed(folded: str) -> Iterator[Span]:
    yield from find_dates(folded)
    yield from find_ages(folded)
    yield from find_contacts(folded)
    yield from find_numbers(folded)
    yield from find_addresses(folded)
    yield from find_english(folded)
    yield from find_in_tables(folded)
