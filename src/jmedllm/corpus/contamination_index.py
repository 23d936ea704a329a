"""The contamination index: hashes of the n-grams by which benchmark questions are found in a text.

A unit is a kana or kanji, or a word or number in other letters. The n-grams of a question are all runs of `LONG` units
that begin in its stem; for a shorter question the whole stem, and the whole stem with its choices, if they have
`SHORT` units or more. N-grams that many questions share are left out. The numbers were chosen on real text, see
docs/decontamination.md.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from jmedllm.corpus.ngrams import Numbers, Places, batches, grams, hasher, words
from jmedllm.evaluation.question import LANGUAGES, Language, Question, label

LONG: Mapping[Language, int] = {"ja": 30, "en": 13}
SHORT: Mapping[Language, int] = {"ja": 12, "en": 8}

COMMON = 4
"""An n-gram of this many questions of one benchmark is boilerplate. Three may share a patient's history."""

_SEED = min(SHORT.values())
_SEED_BITS = 23
_AT_ONCE = 500

_Numbered = Sequence[tuple[int, Question]]


@dataclass(frozen=True, slots=True)
class ContaminationIndex:
    """The n-grams of all questions, 12 bytes each.

    Attributes:
        questions: benchmark and id.
        seeds: true at the upper 23 bits of the hashes of the units that n-grams begin with. A text is searched once
            for these, and for n-grams of each length only where one is found.
        hashes: the hashes of n-grams by length in units, sorted.
        owners: for each of them the index of its question, the first if several questions share it.
    """

    questions: tuple[tuple[str, str], ...]
    seeds: NDArray[np.bool]
    hashes: Mapping[int, Numbers]
    owners: Mapping[int, NDArray[np.int32]]


def build_index(questions: Sequence[Question], texts: Iterable[str] | None = None) -> ContaminationIndex:
    """Index questions; about 4 s and 100 MB for 16,000.

    Args:
        questions: what to find.
        texts: the only texts that will be searched, if they are known. N-grams that cannot be in them are left out,
            which takes a fifth of the time.
    """
    found: dict[int, list[tuple[Numbers, Places]]] = defaultdict(list)
    seeds = np.zeros(1 << _SEED_BITS, np.bool)
    searched = None if texts is None else _seeds_in(texts)
    for language, some in _batches(questions):
        for length, hashes, owners, first in _ngrams(language, some):
            places = _seed_places(first)
            kept = slice(None) if searched is None else searched[places]
            found[length].append((hashes[kept], owners[kept]))
            seeds[places[kept]] = True
    ngrams = {length: _first_owners(*map(np.concatenate, zip(*parts, strict=True))) for length, parts in found.items()}
    everything = ContaminationIndex(
        questions=tuple((question.benchmark, question.id) for question in questions),
        seeds=seeds,
        hashes={length: hashes for length, (hashes, _) in sorted(ngrams.items())},
        owners={length: owners.astype(np.int32) for length, (_, owners) in sorted(ngrams.items())},
    )
    return _without_common(everything, questions)


def save_index(index: ContaminationIndex, handle: BinaryIO) -> None:
    """Write the index as an .npz file, for other processes to load."""
    arrays: dict[str, Any] = {f"hashes {length}": hashes for length, hashes in index.hashes.items()}
    arrays |= {f"owners {length}": owners for length, owners in index.owners.items()}
    questions = np.array(index.questions, np.str_).reshape(-1, 2)
    np.savez(handle, allow_pickle=False, questions=questions, seeds=index.seeds, **arrays)


def load_index(path: Path) -> ContaminationIndex:
    """Load an index that `save_index` wrote."""
    with np.load(path) as arrays:
        lengths = [int(name.split()[1]) for name in arrays if name.startswith("hashes ")]
        return ContaminationIndex(
            questions=tuple((str(benchmark), str(name)) for benchmark, name in arrays["questions"]),
            seeds=arrays["seeds"],
            hashes={length: arrays[f"hashes {length}"] for length in lengths},
            owners={length: arrays[f"owners {length}"] for length in lengths},
        )


def matches(index: ContaminationIndex, numbers: Numbers) -> Iterator[tuple[int, Places, Places]]:
    """Yield the n-grams found in a text: for each length their offsets, and their positions in `index.hashes`."""
    hashes = hasher(numbers)
    begun = np.flatnonzero(index.seeds[_seed_places(grams(numbers, _SEED))])
    for length, known in index.hashes.items():
        starts = begun[begun + length <= len(numbers)]
        if len(starts):
            places = _places(known, hashes(starts, starts + length))
            yield length, starts[places >= 0], places[places >= 0]


def _batches(questions: Sequence[Question]) -> Iterator[tuple[Language, _Numbered]]:
    """Yield all questions with their numbers, in batches of one language."""
    for language in LANGUAGES:
        spoken = [(number, each) for number, each in enumerate(questions) if each.language == language]
        for start in range(0, len(spoken), _AT_ONCE):
            yield language, spoken[start : start + _AT_ONCE]


def _seeds_in(texts: Iterable[str]) -> NDArray[np.bool]:
    """Seeds, as in `ContaminationIndex`, that begin anywhere in the texts."""
    seeds = np.zeros(1 << _SEED_BITS, np.bool)
    for some in batches(texts):
        seeds[_seed_places(grams(words("\n".join(some)).numbers, _SEED))] = True
    return seeds


@dataclass(frozen=True, slots=True)
class _Form:
    """Questions as a text may have them: units of all of them in a row, and where each begins.

    Attributes:
        owners: indices of the questions.
        firsts: place of each question's first unit.
        in_stem: units of its stem.
        counts: units of all of it.
    """

    numbers: Numbers
    owners: Places
    firsts: Places
    in_stem: Places
    counts: Places


def _ngrams(language: Language, some: _Numbered) -> Iterator[tuple[int, Numbers, Places, Numbers]]:
    """For each length the hashes of n-grams, their owners, and the hashes of the seeds they begin with."""
    for form in _forms(some):
        hashes = hasher(form.numbers)
        for length in range(SHORT[language], LONG[language] + 1):
            counts = form.counts
            of = np.flatnonzero(counts >= length if length == LONG[language] else counts == length)
            runs = np.minimum(counts[of] - length + 1, form.in_stem[of])
            starts = np.repeat(form.firsts[of] - np.cumsum(runs) + runs, runs) + np.arange(runs.sum())
            yield (
                length,
                hashes(starts, starts + length),
                np.repeat(form.owners[of], runs),
                hashes(starts, starts + _SEED),
            )


def _forms(some: _Numbered) -> Iterator[_Form]:
    """Yield the stem, and the stem with bare, lettered and numbered choices."""
    texts = [text for _, question in some for text in (question.stem, *question.choices)]
    units = words("\n".join(texts))
    borders = np.searchsorted(units.starts, np.cumsum([0, *(len(text) + 1 for text in texts)]))
    owners = np.array([owner for owner, _ in some])
    choices = np.array([len(question.choices) for _, question in some])
    earlier = np.cumsum(choices) - choices  # choices of earlier questions
    stems = np.arange(len(some)) + earlier  # places among the texts
    firsts, in_stem = borders[stems], borders[stems + 1] - borders[stems]
    yield _Form(units.numbers, owners, firsts, in_stem, in_stem)
    kept = choices > 0
    counts = borders[stems + choices + 1] - firsts
    yield _Form(units.numbers, owners[kept], firsts[kept], in_stem[kept], counts[kept])
    choice_firsts = np.delete(borders[:-1], stems)
    places = np.arange(choices.sum()) - np.repeat(earlier, choices)  # of each choice in its question
    most = max(choices)
    for labels in (map(label, range(most)), map(str, range(1, most + 1))):
        spelled = [words(text).numbers for text in labels]
        numbers = [spelled[place] for place in places]
        added = np.cumsum([0, *map(len, numbers)])
        before, behind = added[earlier], added[earlier + choices]
        yield _Form(
            np.insert(units.numbers, np.repeat(choice_firsts, np.diff(added)), np.concatenate([_NOTHING, *numbers])),
            owners[kept],
            (firsts + before)[kept],
            in_stem[kept],
            (counts + behind - before)[kept],
        )


_NOTHING: Numbers = np.empty(0, np.uint64)


def _first_owners(hashes: Numbers, owners: Places) -> tuple[Numbers, Places]:
    """Return each hash once, sorted, with its first owner."""
    order = np.lexsort((owners, hashes))
    hashes, owners = hashes[order], owners[order]
    first = np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]
    return hashes[first], owners[first]


def _without_common(index: ContaminationIndex, questions: Sequence[Question]) -> ContaminationIndex:
    """Remove n-grams that occur anywhere in `COMMON` questions of a benchmark."""
    found: dict[int, list[tuple[Places, Places]]] = defaultdict(list)
    for _, some in _batches(questions):
        texts = ["\n".join([question.stem, *question.choices]) for _, question in some]
        units = words("\n".join(texts))
        ends = np.cumsum([len(text) + 1 for text in texts])
        owners = np.array([owner for owner, _ in some])[np.searchsorted(ends, units.starts, "right")]
        for length, starts, places in matches(index, units.numbers):
            found[length].append((places, owners[starts]))
    benchmarks = np.unique([question.benchmark for question in questions], return_inverse=True)[1]
    kept = {length: np.ones(len(hashes), bool) for length, hashes in index.hashes.items()}
    for length, parts in found.items():
        places, owners = map(np.concatenate, zip(*parts, strict=True))
        kept[length][_shared(places, owners, benchmarks)] = False
    return ContaminationIndex(
        index.questions,
        index.seeds,
        {length: hashes[kept[length]] for length, hashes in index.hashes.items()},
        {length: owners[kept[length]] for length, owners in index.owners.items()},
    )


def _shared(places: Places, owners: Places, benchmarks: Places) -> Places:
    """Return the n-grams that `COMMON` different owners of one benchmark share."""
    places, owners = np.divmod(np.unique(places * len(benchmarks) + owners), len(benchmarks))
    groups, counts = np.unique(places * len(benchmarks) + benchmarks[owners], return_counts=True)
    shared: Places = groups[counts >= COMMON] // len(benchmarks)
    return shared


def _seed_places(hashes: Numbers) -> Places:
    return (hashes >> np.uint64(64 - _SEED_BITS)).astype(np.int64)


def _places(known: Numbers, wanted: Numbers) -> Places:
    """Return the position of each number among sorted ones, or -1."""
    if not len(known):
        return np.full(len(wanted), -1)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, places, -1)
