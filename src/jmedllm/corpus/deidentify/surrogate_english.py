"""Replaces English names: given names by others of their sex, surnames by others of a list."""

from collections.abc import Sequence
from functools import lru_cache

from jmedllm.corpus.deidentify.keyed import Keyed
from jmedllm.corpus.deidentify.lists import rows

ENGLISH_TITLES = frozenset({"Dr", "Mr", "Mrs", "Ms", "Miss", "Prof", "Nurse", "Doctor", "Jr", "Sr"})

_MALE_RUNS = (("James", "Mary"), ("Carlos", "Clara"))
_FEMALE_RUNS = (("Mary", "Alex"), ("Liz", "Carlos"), ("Clara", "Priya"))
"""First name of each run of men's or women's names in the list, and the one after it."""

_FEMALE_ENDS = ("a", "e", "i", "y", "el")

_SURNAMES = (
    "Abbott", "Alden", "Ashby", "Barker", "Barlow", "Beckett", "Bowen", "Briggs", "Calloway", "Carver", "Coleman",
    "Conway", "Crane", "Dalton", "Draper", "Easton", "Ellison", "Everett", "Fairbanks", "Farrell", "Fenton", "Foster",
    "Garner", "Gibbs", "Granger", "Hadley", "Hale", "Hobbs", "Holloway", "Hurst", "Ingram", "Irwin", "Jarvis",
    "Keller", "Kendrick", "Langley", "Lowell", "Marlow", "Mercer", "Merritt", "Norris", "Norwood", "Osborne", "Paxton",
    "Porter",
    "Prescott", "Quincy", "Radcliffe", "Ramsey", "Ridley", "Sawyer", "Sheldon", "Sinclair", "Stafford", "Tate",
    "Thornton", "Tucker", "Underwood", "Vaughn", "Wakefield", "Walsh", "Weston", "Whitaker", "Winslow", "Yates",
    "York", "Ziegler",
)  # fmt: skip


@lru_cache(maxsize=1)
def _listed() -> frozenset[str]:
    return frozenset(row[0].lower() for row in rows("english_given_names.tsv"))


@lru_cache(maxsize=2)
def _pool(female: bool) -> Sequence[str]:
    """Return the given names of women or men, in lower case."""
    names = [row[0] for row in rows("english_given_names.tsv")]
    runs = _FEMALE_RUNS if female else _MALE_RUNS
    return [name.lower() for start, end in runs for name in names[names.index(start) : names.index(end)]]


def other_english(lower: str, keyed: Keyed) -> str:
    """Return another name in lower case: a given name for one that is listed, else a surname."""
    if lower not in _listed():
        return keyed.choose("english-family", lower, [each.lower() for each in _SURNAMES])
    female = lower in _pool(True) or (lower not in _pool(False) and lower.endswith(_FEMALE_ENDS))
    return keyed.choose("english", lower, _pool(female))


def is_english(lower: str) -> bool:
    """Return whether a name is a listed English given name."""
    return lower in _listed()
