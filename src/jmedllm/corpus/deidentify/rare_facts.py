"""Facts that are no identifiers but may single a patient out together: age, sex, disease and place."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jmedllm.corpus.deidentify.addresses import PREFECTURE, prefecture_of
from jmedllm.corpus.deidentify.fold import fold
from jmedllm.corpus.deidentify.spans import Span

K = 5
"""Facts that fewer documents share are rare."""

_AGE = re.compile(r"(?<![\d.])(\d{1,3})\s?(?:歳|才|[- ]?(?:years?|yrs?)[- ]old|[- ]?y/?o\b)|(?i:\bage:?\s(\d{1,3})\b)")
_SEX = re.compile(
    r"(?P<f>女[性児]|女(?=[、。\s）)])|(?i:\b(?:woman|female|girl)\b))"
    r"|(?P<m>男[性児]|男(?=[、。\s）)])|(?i:\b(?:man|male|boy)\b))"
)
_DISEASE = re.compile(
    r"(?:[一-龥々ァ-ヴーA-Za-z]{1,12}?(?:性|型))?[一-龥々ァ-ヴー]{1,10}?"
    r"(?:症候群|白血病|骨折|梗塞|結核|不全|出血|(?<!主)(?<!無)(?<!合併)症(?!状|例)|(?<!発)(?<!疾)(?<!持)病(?![院棟室歴名理日気床])|炎"
    r"|癌|がん|腫瘍?(?!瘍|大|脹|れ))"
    r"|(?i:\b[a-z]+(?:itis|oma|osis|emia|pathy)\b|\b(?:cancer|diabetes|hypertension|stroke)\b)"
)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a document says first of age, sex, disease and place; "" for what it does not."""

    age: str
    sex: str
    disease: str
    place: str


def facts(text: str, spans: Sequence[Span]) -> Facts | None:
    """Return the facts of a document; None if it lacks age, sex or disease.

    The place is the prefecture, which surrogates keep.

    Args:
        text: the text.
        spans: its identifiers. What is inside them is no fact.
    """
    folded = fold(text)
    hidden = list(folded)
    for span in spans:
        if span.label != "AGE90":
            hidden[span.start : span.end] = "\n" * (span.end - span.start)
    shown = "".join(hidden)
    age, sex, disease = _AGE.search(shown), _SEX.search(shown), _DISEASE.search(shown)
    if not (age and sex and disease):
        return None
    number = int(age[1] or age[2])
    return Facts(
        "90+" if number >= 90 else str(number), sex.lastgroup or "", disease[0].lower(), _place(folded, shown, spans)
    )


def _place(folded: str, shown: str, spans: Sequence[Span]) -> str:
    for span in spans:
        if span.label in ("ADDRESS", "LOCATION"):
            place = folded[span.start : span.end]
            named = PREFECTURE.match(place)
            return named[0] if named else prefecture_of(place) or ""
    named = PREFECTURE.search(shown)
    return named[0] if named else ""


def rare_counts(found: Counter[Facts]) -> dict[str, int]:
    """Return k, the number of documents with facts, of different facts, and of documents with rare ones."""
    return {
        "k": K,
        "documents": found.total(),
        "combinations": len(found),
        "rare": sum(count for count in found.values() if count < K),
    }
