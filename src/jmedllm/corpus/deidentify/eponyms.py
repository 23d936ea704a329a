"""Separates the names of diseases, signs, tests and procedures from those of persons: 川崎病, Billroth I法."""

import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache

from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.lists import rows

_CITED = (
    r"氏(?:病|症候群|反応|斑|徴候|法|硬結|結節)|ら(?:の(?:[A-Za-z]{0,8}[一-龥]{0,4}式|報告|分類|基準|方法"
    r"|研究|提唱|検討|定義)|により|によれ|[（(](?:19|20)\d\d)"
    r"|の(?:分類|[式輪法]|徴候|反応|試験|診断基準|基準|術式|方法|定義|公式|法則|仮説|三?角|[IVXⅠ-Ⅹ\d]{1,3}型"
    r"|[IVXⅠ-Ⅹ\d]{1,3}群)"
)
"""What follows the name of an author: 木村のII型, 山本らの報告."""

_ENGLISH = (
    r"(?:'s?)?\s(?:disease|syndrome|sign|test|reflex|score|scale|criteria|classification|lymphoma|sarcoma"
    r"|tumou?r|anemia|cells?|fracture|procedure|operation"
    r"|maneuver|manoeuvre|law|phenomenon|palsy|ulcer|esophagus|oesophagus|catheter|tube|index|method|stain"
    r"|agar|triad|tetralogy|thyroiditis|arteritis|encephalopathy"
    r"|dementia|hernia|node|body|bodies|point|line|position|breathing|respiration|murmur|angle|block|attack"
    r"|chorea|ataxia|dystrophy|nodule|duct|gland|canal)\b"
)


@lru_cache(maxsize=1)
def _patterns() -> tuple["re.Pattern[str]", "re.Pattern[str]"]:
    listed = "|".join(re.escape(row[0]) for row in sorted(rows("eponyms.tsv"), key=lambda row: -len(row[0])))
    heads = "|".join(
        re.escape(head) + (f"(?![{not_after[0]}])" if not_after else "")
        for head, *not_after in rows("eponym_heads.tsv")
    )
    partner = r"(?:[・･-][一-龥々ァ-ヴーA-Za-z]{1,10}|[ァ-ヴー]{2,10}){0,3}"
    number = r"(?:\s?(?:I{1,3}|IV|V|[0-9ⅠⅡⅢⅣ])\s?)?"
    return re.compile(listed), re.compile(rf"{partner}{number}(?:{heads})|{partner}{_ENGLISH}|{_CITED}", re.IGNORECASE)


def eponyms(folded: str) -> list[tuple[int, int]]:
    """Return (start, end) of the listed eponyms in a text: disjoint, in order."""
    return [match.span() for match in _patterns()[0].finditer(folded)]


def begins_term(folded: str, end: int) -> bool:
    """Return whether what follows a name that ends at `end` makes it part of a medical term."""
    found = _patterns()[1].match(folded, end)
    return found is not None and found[0].lstrip("・･-") not in lexicon().surnames  # 大川・服部


def is_term(folded: str, start: int, end: int, terms: Sequence[tuple[int, int]]) -> bool:
    """Return whether characters `start` to `end` are part of a medical term: of a listed one, or by what follows."""
    at = bisect_right(terms, start, key=lambda each: each[0]) - 1
    return (at >= 0 and end <= terms[at][1]) or begins_term(folded, end)
