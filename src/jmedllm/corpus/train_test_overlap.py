"""Refuse training data of stage 2 that overlaps with a benchmark."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter

from rapidfuzz.distance import Indel, LCSseq

from jmedllm.corpus.contamination_index import LONG, build_index
from jmedllm.corpus.decontaminate import Hit, find_in_each
from jmedllm.corpus.ngrams import words
from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.evaluation.question import Question

SAME = 0.85
"""Minimum similarity of two questions that are the same item. Different items of real benchmarks reach 0.78, and an
item with one word in twenty replaced has 0.9 or more; see docs/decontamination.md."""


CONTAINED = 0.9
"""Minimum share of the words of an item in a text that contains it. MedQA's dev items have at most 0.87."""

_Items = dict[tuple[str, str], list[Question]]
"""Benchmark items by benchmark and id."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A training question that is a benchmark item."""

    trained: Question
    item: Question
    similarity: float


def require_no_benchmark_items(train: Iterable[Question], benchmarks: Sequence[Question]) -> None:
    """Check that no training question is a benchmark item.

    Raises:
        InputError: some are; the message names each with its item.
    """
    overlaps = list(find_overlaps(train, benchmarks))
    if not overlaps:
        return
    named = [
        f"{each.trained.benchmark} {each.trained.id} is {each.item.benchmark} {each.item.id}" for each in overlaps
    ]
    raise InputError(
        f"mpeft.questions: test questions among the training questions: {len(overlaps):,}: {_first(named)}; "
        "remove them from your file, or train on another split or benchmark"
    )


def require_no_benchmark_items_in_texts(texts: Iterable[tuple[str, str]], benchmarks: Sequence[Question]) -> None:
    """Check that no training text contains a benchmark item.

    Args:
        texts: name and text of each.

    Raises:
        InputError: some do; the message names each with its item.
    """
    named = []
    searched = list(texts)
    index, items = build_index(benchmarks, (text for _, text in searched)), _by_name(benchmarks)
    every_hit = find_in_each(index, (text for _, text in searched))
    for (name, text), hits in zip(searched, every_hit, strict=True):
        likely = _likely(hits, items)
        if found := next((item for item in likely if share_contained(text, item) >= CONTAINED), None):
            named.append(f"{name} contains {found.benchmark} {found.id}")
    if named:
        raise InputError(f"mpeft.instructions: {len(named):,} contain benchmark items: {_first(named)}; remove them")


def _first(named: Sequence[str]) -> str:
    return "; ".join(named[:MOST_NAMED]) + f" and {len(named) - MOST_NAMED:,} more" * (len(named) > MOST_NAMED)


def find_overlaps(train: Iterable[Question], benchmarks: Sequence[Question]) -> Iterator[Overlap]:
    """Find training questions that are benchmark items, each with the item it is most similar to."""
    # Sorted choices also find a question that has them in another order.
    trained = list(train)
    texts = [_text(_sorted(question)) for question in trained]
    index = build_index([_sorted(question) for question in benchmarks], texts)
    items = _by_name(benchmarks)
    for question, hits in zip(trained, find_in_each(index, texts), strict=True):
        if likely := _likely(hits, items):
            most, item = max(((similarity(question, item), item) for item in likely), key=itemgetter(0))
            if most >= SAME:
                yield Overlap(question, item, most)


def _by_name(benchmarks: Iterable[Question]) -> _Items:
    items: _Items = {}
    for item in benchmarks:
        items.setdefault((item.benchmark, item.id), []).append(item)
    return items


def _likely(hits: Iterable[Hit], items: _Items) -> list[Question]:
    """Return the items, in both languages, of which an n-gram was found."""
    return [item for name in dict.fromkeys((hit.benchmark, hit.question) for hit in hits) for item in items[name]]


def share_contained(text: str, item: Question) -> float:
    """Return the share of the words, kana and kanji of an item that a text contains in the same order, from 0 to 1.

    A long stem is compared alone, a short one with its choices or with its answer.
    """
    answer = replace(item, choices=tuple(item.choices[right] for right in sorted(item.gold)))
    long = len(_words(item.stem)) >= LONG[item.language]
    whole = [item.stem] if long else [_text(each) for each in (item, _sorted(item), answer)]
    return max(LCSseq.similarity(_words(text), words) / max(1, len(words)) for words in map(_words, whole))


def similarity(one: Question, two: Question) -> float:
    """Return the share of words, kana and kanji that two questions have in common in the same order, from 0 to 1.

    The stems are compared with the sorted choices and, if both are long, alone; the higher share counts.
    """
    texts = _words(_text(_sorted(one))), _words(_text(_sorted(two)))
    stems = _words(one.stem), _words(two.stem)
    long = min(map(len, stems)) >= LONG[two.language]
    return max(Indel.normalized_similarity(*pair) for pair in ([texts, stems] if long else [texts]))


def _sorted(question: Question) -> Question:
    return replace(question, choices=tuple(sorted(question.choices)))


def _text(question: Question) -> str:
    return "\n".join([question.stem, *question.choices])


def _words(text: str) -> list[int]:
    numbers: list[int] = words(text).numbers.tolist()
    return numbers
