"""What is to be trained on in stage 2 and stands in an exam."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rapidfuzz.distance import Indel, LCSseq

from jmedllm.corpus.contamination_index import LONG, build_index
from jmedllm.corpus.decontaminate import Hit, find
from jmedllm.corpus.ngrams import words
from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.evaluation.question import Question

SAME = 0.85
"""Similarity from which two questions are one item. Different items of real benchmarks reach 0.78, an item with
one word in twenty replaced 0.9 and more: docs/decontamination.md."""


HELD = 0.9
"""Share of an item's words from which a text holds it. MedQA's dev items hold 0.87 of a test item at most."""

_Items = dict[tuple[str, str], list[Question]]
"""Exam items by benchmark and id."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A question to train on that is an exam item."""

    trained: Question
    item: Question
    similarity: float


def require_no_exam_items(train: Iterable[Question], exam: Sequence[Question]) -> None:
    """Check that no question to train on is an exam item.

    Raises:
        InputError: some are; names each with its item.
    """
    seen = list(find_overlaps(train, exam))
    if not seen:
        return
    named = [f"{each.trained.benchmark} {each.trained.id} is {each.item.benchmark} {each.item.id}" for each in seen]
    raise InputError(
        f"mpeft.questions: {len(seen):,} of the questions to train on are exam items: {_first(named)}; "
        "train on a .jsonl file of your own without them"
    )


def require_no_exam_items_in_texts(texts: Iterable[tuple[str, str]], exam: Sequence[Question]) -> None:
    """Check that no text to train on holds an exam item.

    Args:
        texts: name and text of each.

    Raises:
        InputError: some do; names each with its item.
    """
    index, items = build_index(exam), _by_name(exam)
    named = []
    for name, text in texts:
        likely = _likely(find(index, text), items)
        if held := next((item for item in likely if share_held(text, item) >= HELD), None):
            named.append(f"{name} holds {held.benchmark} {held.id}")
    if named:
        raise InputError(f"mpeft.instructions: exam items in {len(named):,}: {_first(named)}; take them out")


def _first(named: Sequence[str]) -> str:
    return "; ".join(named[:MOST_NAMED]) + f" and {len(named) - MOST_NAMED:,} more" * (len(named) > MOST_NAMED)


def find_overlaps(train: Iterable[Question], exam: Sequence[Question]) -> Iterator[Overlap]:
    """Those of the questions to train on that are exam items, each with the item it is most similar to."""
    # With the choices in one order a question that offers them in another is found, too.
    index = build_index([_sorted(question) for question in exam])
    items = _by_name(exam)
    for question in train:
        if likely := _likely(find(index, _text(_sorted(question))), items):
            item = max(likely, key=lambda item: similarity(question, item))
            if similarity(question, item) >= SAME:
                yield Overlap(question, item, similarity(question, item))


def _by_name(exam: Iterable[Question]) -> _Items:
    items: _Items = {}
    for item in exam:
        items.setdefault((item.benchmark, item.id), []).append(item)
    return items


def _likely(hits: Iterable[Hit], items: _Items) -> list[Question]:
    """The items, in both languages, that some evidence was found of."""
    return [item for name in dict.fromkeys((hit.benchmark, hit.question) for hit in hits) for item in items[name]]


def share_held(text: str, item: Question) -> float:
    """Share of an item's words, kana and kanji that stand in a text in the same order, from 0 to 1.

    Of a long stem the stem alone counts, of a short one the stem with its choices or with its answer.
    """
    answer = replace(item, choices=tuple(item.choices[right] for right in sorted(item.gold)))
    long = len(_words(item.stem)) >= LONG[item.language]
    whole = [item.stem] if long else [_text(each) for each in (item, _sorted(item), answer)]
    return max(LCSseq.similarity(_words(text), words) / max(1, len(words)) for words in map(_words, whole))


def similarity(one: Question, two: Question) -> float:
    """Share of the words, kana and kanji that two questions have in common and in the same order, from 0 to 1.

    The stems are compared with the sorted choices behind them and, where both are long, alone: the higher share.
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
