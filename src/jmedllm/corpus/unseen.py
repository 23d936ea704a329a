"""What is to be trained on in stage 2 and stands in an exam."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from rapidfuzz.distance import Indel

from jmedllm.corpus.decontaminate import find
from jmedllm.corpus.evidence import LONG, index
from jmedllm.corpus.ngrams import words
from jmedllm.errors import MOST_NAMED, InputError
from jmedllm.exam.question import Question

SAME = 0.85
"""Similarity from which two questions are one item. Different items of real benchmarks reach 0.78, an item with
one word in twenty replaced 0.9 and more: docs/decontamination.md."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A question to train on that is an exam item."""

    trained: Question
    item: Question
    similarity: float


def require_unseen(train: Iterable[Question], exam: Sequence[Question]) -> None:
    """Check that no question to train on is an exam item.

    Raises:
        InputError: some are; names each with its item.
    """
    seen = list(exam_items(train, exam))
    if not seen:
        return
    named = [
        f"{each.trained.benchmark} {each.trained.id} is {each.item.benchmark} {each.item.id}" for each in seen
    ]
    raise InputError(
        f"mpeft.questions: {len(seen):,} of the questions to train on are exam items: {_first(named)}; "
        "train on a .jsonl file of your own without them"
    )


def require_unseen_in(texts: Iterable[tuple[str, str]], exam: Sequence[Question]) -> None:
    """Check that no text to train on gives an exam item away, by the measure that a corpus is cleaned by.

    Args:
        texts: name and text of each.

    Raises:
        InputError: some do; names each with its item.
    """
    leaks = index(exam)
    found = ((name, find(leaks, text)) for name, text in texts)
    named = [f"{name} gives away {hits[0].benchmark} {hits[0].question}" for name, hits in found if hits]
    if named:
        raise InputError(f"mpeft.instructions: exam items in {len(named):,}: {_first(named)}; take them out")


def _first(named: Sequence[str]) -> str:
    return "; ".join(named[:MOST_NAMED]) + f" and {len(named) - MOST_NAMED:,} more" * (len(named) > MOST_NAMED)


def exam_items(train: Iterable[Question], exam: Sequence[Question]) -> Iterator[Seen]:
    """Those of the questions to train on that are exam items, each with the item it is most similar to."""
    # With the choices in one order a question that offers them in another is found, too.
    leaks = index([_sorted(question) for question in exam])
    items = dict[tuple[str, str], list[Question]]()
    for item in exam:
        items.setdefault((item.benchmark, item.id), []).append(item)
    for question in train:
        names = dict.fromkeys((hit.benchmark, hit.question) for hit in find(leaks, _text(_sorted(question))))
        likely = [item for name in names for item in items[name]]
        if likely:
            item = max(likely, key=lambda item: similarity(question, item))
            if similarity(question, item) >= SAME:
                yield Seen(question, item, similarity(question, item))


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
