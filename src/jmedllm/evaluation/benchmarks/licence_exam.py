"""Facts about the Japanese medical licence exam (医師国家試験) that several benchmarks share."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.benchmark import PassMarks
from jmedllm.evaluation.question import Flag

SECTIONS = "ABCDEF"
REQUIRED_SECTIONS = "BE"
"""必修 (required). The other sections are 一般・臨床 (general and clinical)."""

FIRST_CLINICAL = 26
"""Number from which on items of the required sections are 臨床実地 (clinical), worth 3 points instead of 1."""

EXCLUDED = frozenset(
    {
        *("112A43", "113A5", "113C34", "113F42", "113F81", "114E29", "114F63", "116A34", "116B43", "116C36", "116D64"),
        *("117C15", "117C60", "117D38", "117D53", "117F42"),
    }
)
"""Items that were taken out of grading. The 118th and 119th exam, whose maximum is 500 points, have none; those of the
120th are not known."""

EITHER = frozenset({"119E28"})
"""Items for which the ministry accepted each of the letters alone that the data list."""

PASS_MARKS: Mapping[str, PassMarks] = {
    "112": PassMarks(2018, 160, 208),
    "113": PassMarks(2019, 160, 209),
    "114": PassMarks(2020, 158, 217),
    "115": PassMarks(2021, 160, 209),
    "116": PassMarks(2022, 158, 214),
    "117": PassMarks(2023, 160, 220),
    "118": PassMarks(2024, 160, 230),
    "119": PassMarks(2025, 160, 221),
    "120": PassMarks(2026, None, None),
}
"""By exam. Sources: the ministry's notice for 114, press reports of it for 113 and 116; for 112 and 115 its
announcement as quoted at savingdoctor.com/entry/2018/03/19/223235 and newtongym8.com (第115回医師国家試験-合格発表).
For 117 its notice as quoted by Medical Support Net on 16 March 2023 (160 of 200, 220 of 295, five items excluded), and
Tanaka et al. 2024, doi 10.1371/journal.pdig.0000433 (80.0 % and 74.6 %). For 118 a press report of it (160 of 200, 230
of 300), and 76.7 % at informa.medilink-study.com/regularpost/27785. For 119 ranune by NTT Docomo (160 of 200, 221 of
300), and the README of JMLE2026-Bench. For 120 there is one source only, so its marks count as unknown."""

_IDENTITY = re.compile(rf"([0-9]{{3}})([{SECTIONS}])-?([0-9]{{1,2}})")


def pass_marks(exams: Iterable[int], *, prohibited_known: bool) -> dict[str, PassMarks]:
    """Return the pass marks of exams; `prohibited_known` is whether the data list prohibited choices."""
    return {str(exam): replace(PASS_MARKS[str(exam)], prohibited_known=prohibited_known) for exam in exams}


def parse_identity(identity: str) -> tuple[int, str, int]:
    """Return exam, section and number of an item such as "112A1" or "120A-1".

    Raises:
        ValueError: `identity` has another form.
    """
    match = _IDENTITY.fullmatch(identity)
    if match is None:
        raise ValueError(f'{identity!r} is not exam, section and number such as "112A1"')
    return int(match[1]), match[2], int(match[3])


def points(identity: str) -> int:
    """Return the points of an item by the published structure of the exam, for data without points.

    In exams 112 to 116 all graded items but six have these points: there, the border between general and clinical
    items is shifted by one item in 112, 113 and 116.

    Raises:
        InputError: `identity` has another form than "112A1".
    """
    try:
        _, section, number = parse_identity(identity)
    except ValueError as error:
        raise InputError(str(error)) from error
    if identity in EXCLUDED:
        return 0
    return 3 if section in REQUIRED_SECTIONS and number >= FIRST_CLINICAL else 1


def exam_flags(section: str, *, image: bool) -> frozenset[Flag]:
    """Return the flags that follow from the section of an item and from whether it shows a picture."""
    flags: set[Flag] = set()
    if image:
        flags.add("image")
    if section in REQUIRED_SECTIONS:
        flags.add("required")
    return frozenset(flags)
