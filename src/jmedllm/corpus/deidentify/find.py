"""Finds all identifiers of a text: the rules and the model, then one decision a document."""

from collections.abc import Iterator

from jmedllm.corpus.deidentify.addresses import find_addresses
from jmedllm.corpus.deidentify.crf import find_by_context
from jmedllm.corpus.deidentify.dates import find_ages, find_dates
from jmedllm.corpus.deidentify.decide import decide
from jmedllm.corpus.deidentify.english import find_english
from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.forms import find_contacts, find_numbers
from jmedllm.corpus.deidentify.institutions import find_institutions
from jmedllm.corpus.deidentify.known import Known, find_known
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.names import find_names
from jmedllm.corpus.deidentify.spans import Span, resolve
from jmedllm.corpus.deidentify.tables import find_in_tables
from jmedllm.corpus.deidentify.tokens import tokenize


def find(text: str, known: Known | None = None) -> list[Span]:
    """Return the identifiers of a text: disjoint spans in order.

    Args:
        text: the text.
        known: lists of known people.
    """
    folded = fold_names(text)
    tokens = tokenize(folded)
    names = lexicon()
    found = (
        *_formed(folded),
        *find_institutions(folded, tokens, names),
        *find_names(folded, tokens, names),
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
