"""Finds identifiers in English text: names, places and providers, and numbers (HIPAA, 45 CFR 164.514(b)(2))."""

import re
from collections.abc import Iterator
from functools import lru_cache

from jmedllm.corpus.deidentify.dates import MONTHS
from jmedllm.corpus.deidentify.eponyms import begins_term
from jmedllm.corpus.deidentify.lists import words
from jmedllm.corpus.deidentify.spans import Label, Span

_CAP = r"[A-Z](?:[a-z]+|'[A-Z][a-z]+|[a-z]*[A-Z][a-z]+)(?:[-'][A-Z]?[a-z]+)*"
_INITIAL = r"[A-Z]\.?(?![A-Za-z'])"
_REST = rf"(?:[ ](?:{_INITIAL}|{_CAP}|[A-Z][a-z]?\.(?=[ ][A-Z])))"
_TITLED = re.compile(
    rf"\b(?:Dr|Mr|Mrs|Ms|Miss|Prof|Professor|Nurse|Doctor|Sr|Sra)\b\.?[ ]((?:{_CAP}|[A-Z]\.)(?:{_REST}){{0,2}})"
)
_CAP_THEN = re.compile(rf"\b({_CAP})((?:{_REST}){{1,2}})")
_NAMED = re.compile(
    rf"\b(?:[Nn]amed|[Nn]ame(?: is|:)|[Pp]atient(?: is|:)?|[Pp]t(?: is|:)?|[Ll]ike(?: pt| patient)?|[Cc]alled"
    rf"|[Ss]igned by|[Ss]een by|[Tt]reated by|[Mm]other|[Ff]ather|[Ww]ife|[Hh]usband"
    rf"|[Ss]on|[Dd]aughter|[Bb]rother|[Ss]ister)[ ,(]{{1,2}}({_CAP}(?:{_REST}){{1,2}})"
)
_LAST_FIRST = re.compile(rf"\b({_CAP}), ({_CAP}|[A-Z]\.)")
_EPONYMS = frozenset(
    [
        "Duke",
        "Glasgow",
        "Apgar",
        "Barthel",
        "Karnofsky",
        "Nash",
        "Babinski",
        "Kernig",
        "Brudzinski",
        "Murphy",
        "Rinne",
        "Weber",
        "Romberg",
        "Chaddock",
        "Alzheimer",
        "Parkinson",
        "Crohn",
        "Cushing",
        "Marfan",
        "Huntington",
        "Kawasaki",
        "Hodgkin",
        "Graves",
        "Wells",
        "Gleason",
    ]
)
"""Names that are those of persons only after a title."""

_NOT_NAMES = frozenset(
    [
        "Hepatitis",
        "Vitamin",
        "Type",
        "Group",
        "Factor",
        "Stage",
        "Grade",
        "Class",
        "Protein",
        "Influenza",
        "Phase",
        "Child",
        "Hemophilia",
        "Haemophilia",
        "Category",
        "Level",
        "Section",
        "Part",
        "Table",
        "Figure",
        "Plan",
        "Medicare",
        "Medicaid",
        "Score",
        "Complex",
        "Region",
        "Zone",
        "Unit",
        "Ward",
        "Room",
        "Bed",
        "Lot",
        "Dose",
        "Day",
        "Week",
        "Month",
        "Year",
        "Apolipoprotein",
        "Immunoglobulin",
        "Strep",
        "Streptococcus",
        "Staph",
        "Coronary",
        "Modified",
        "Framingham",
        "Lyme",
        "Hispanic",
        "Asian",
        "African",
        "Caucasian",
        "American",
        "Latino",
        "Latina",
        "European",
        "Native",
        "The",
        "This",
        "That",
        "What",
        "Which",
        "When",
        "Where",
        "Why",
        "How",
        "Is",
        "Are",
        "Can",
        "Could",
        "Should",
        "Would",
        "Does",
        "Do",
        "Please",
        "Best",
        "Latest",
        "Updated",
        "Recommended",
        "Management",
        "Treatment",
        "Guidelines",
        "Guidance",
        "Is",
        "There",
        "In",
        "For",
        "With",
        "Patient",
        "Pt",
        "Case",
        "Re",
        "Ref",
        "Need",
        "Looking",
        "Seeking",
        "Considering",
        "Discuss",
        "Describe",
        "Explain",
        "Provide",
        "Review",
        "Suggest",
        "Evaluate",
        "Assess",
        "Compare",
        *MONTHS,
        "Monday",
        "Tuesday",
        "Wednesday",
        "Thursday",
        "Friday",
        "Saturday",
        "Sunday",
    ]
)
_PROVIDER_END = (
    r"(?:Hospitals?|Hosp\.?|Clinics?|Medical Cent(?:er|re)|Med\.? C(?:en)?te?r\.?|Med Cntr|Health(?:care| "
    r"Care| System| Center| Services)?|Medical Group|Infirmary|Nursing Home|Hospice|Rehab(?:ilitation)?(?: "
    r"Center)?"
    r"|Cancer Cent(?:er|re)|Heart Institute|Institute|University|Children's|Medical|Med|Memorial|General"
    r"|Sanatorium|Pharmacy|Laborator(?:y|ies)|Labs?|Care Cent(?:er|re)|Surgery Center|Urgent Care|Medicine"
    r"|Presbyterian)"
)
_NAME_WORD = r"(?:[A-Z][A-Za-z]*(?:['’][A-Za-z]+)?(?:-[A-Z][a-z]+)*|St\.|Mt\.|and|of|the|&|for)"
_PROVIDER = re.compile(
    rf"\b(?!The\b|A\b|What\b|Is\b)((?:[A-Z][A-Za-z]*(?:['’][A-Za-z]+)?(?:-[A-Z][a-z]+)*|St\.|Mt\.)(?:[ "
    rf"]{_NAME_WORD}){{0,5}}?[ ](?:{_PROVIDER_END}|hospital|clinic|med center|medical center))"
    rf"(?![a-z])((?:[ ](?:{_PROVIDER_END})|[ ](?:of|at|in|for)[ ](?:[A-Z][a-z]+[ ]?){{1,3}}|,? (?:Los Angeles"
    rf"|New York|[A-Z][a-z]+)(?=[,. )?]|$))*)"
)
_SAINT = re.compile(
    r"\b(?:St\.?|Saint|Mt\.?|Mount)[ ][A-Z][a-z]+(?:['’]s)?(?:[ ](?:Hospital|Hosp|Clinic|Medical Center|Med "
    r"Ctr|Health|Regional|General|University))*"
)
_CAPS = r"(?:[A-Z][A-Za-z]*(?:['’-][A-Z]?[a-z]+)*\.?)"
_AT = re.compile(
    rf"\b(?:at|[Aa]dmitted to|[Tt]ransferred to|[Pp]resented to|[Rr]eferred to|[Vv]isited|[Aa]ttended|[Ff]rom"
    rf"|[Rr]esid(?:es|ing) in|[Ll]iv(?:es|ing) in|[Bb]orn in|[Mm]oved (?:to|from)|[Cc]linic in|[Hh]ospital "
    rf"in)[ ]"
    rf"(?:the[ ]|our[ ])?({_CAPS}(?:[ ](?:{_CAPS}|of|and)){{0,4}})(?![A-Za-z])"
)
_NOT_PLACES = re.compile(
    r"^(?:ICU|ER|ED|OR|PACU|NICU|CCU|PCP|OB|GP|I|A|The|CT|MRI|ECG|EKG|Type|Stage|Grade|Alzheimer|Parkinson"
    r"|January|February|March|April|May|June|July|August|September|October|November|December"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Medicare|AHA|ACC|AAOS|KDIGO|ADA|NICE|WHO|CDC|FDA|COPD"
    r"|DVT|TIA|HIV|AIDS|COVID|Dr|Mr|Mrs|Ms|Emergency|Hispanic|African|Asian|ARISTOTLE|SPRINT|GUSTO)\b"
)
_STREET = (
    r"(?:Street|St|Avenue|Ave|Road|Rd|Drive|Dr|Lane|Ln|Boulevard|Blvd|Court|Ct|Place|Pl|Way|Terrace|Parkway|Pkwy"
    r"|Circle|Highway|Hwy|Square|Sq|Trail|Alley|Crescent|Close|Row|Loop)\b\.?"
)
_ADDRESS = re.compile(
    rf"\b\d{{1,6}}[A-Za-z]?[ ](?:[NSEW]\.?[ ])?(?:[A-Z][A-Za-z'.-]*[ ]|\d{{1,3}}(?:st|nd|rd|th)[ "
    rf"]){{1,4}}{_STREET}(?:[ ,]{{1,2}}(?:Apt|Apartment|Suite|Ste|Unit|#)\.?[ ]?\w+)?"
    r"(?:,[ ]?(?:[SFM]t\.[ ])?[A-Z][A-Za-z'-]+(?:[ ][A-Z][A-Za-z'-]+){0,2})?(?:,[ ]?[A-Z]{2}\b)?"
    r"(?:,?[ ]\d{5}(?:-\d{4})?)?"
)
_STATES = (
    r"(?:A[LKZR]|C[AOT]|DE|FL|GA|HI|I[DLNA]|K[SY]|LA|M[EDAINSOT]|N[EVHJMYCD]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[TA]"
    r"|W[AVIY]|DC)"
)
_CITY_STATE = re.compile(rf"\b(?:[A-Z][a-z]+(?:[ ][A-Z][a-z]+){{0,2}}),[ ]?{_STATES}\b(?:[ ]\d{{5}}(?:-\d{{4}})?)?")
_VALUE = r"#?[ ]?((?:#[ ]?)?(?:[A-Z]{1,8}[- ]?)?\d[\dA-Z]*(?:-[\dA-Z]+)*)(?![A-Za-z\d])"
_SAYS = r"(?:[ ]?(?:number|no\.?|num|ID|id|#|code|card))?(?:[ ]?(?:is|was|of|with))?[\s:#.)]{0,4}"
_NUMBERS: tuple[tuple[Label, str, "re.Pattern[str]"], ...] = (
    ("INSURANCE_ID", "number:ssn", re.compile(r"(?<![\dA-Za-z-])(\d{3}-\d{2}-\d{4})(?![\d-])")),
    (
        "INSURANCE_ID",
        "number:insurance",
        re.compile(
            rf"(?i:\b(?:health[ -]plan(?: beneficiary)?|beneficiary|insurance|insur\.?|ins|member|policy"
            rf"|medicare|medicaid|group|subscriber|ssn|social security|hpb?n?|hic))\b{_SAYS}{_VALUE}"
        ),
    ),
    (
        "PATIENT_ID",
        "number:record",
        re.compile(
            rf"(?i:\b(?:MRN|MR|medical record|med rec|record|chart|patient id|pt id|patient|account|acct|case"
            rf"|id|identifier|uid|unique|specimen|accession|encounter|visit|study))\b{_SAYS}{_VALUE}"
        ),
    ),
    (
        "LICENSE_ID",
        "number:licence",
        re.compile(rf"(?i:\b(?:licen[cs]e|DEA|NPI|certificate|passport|driver'?s?))\b{_SAYS}{_VALUE}"),
    ),
    (
        "DEVICE_ID",
        "number:device",
        re.compile(rf"(?i:\b(?:serial|device|implant|VIN|vehicle|plate|model))\b{_SAYS}{_VALUE}"),
    ),
    ("ACCOUNT_ID", "number:account", re.compile(rf"(?i:\b(?:bank|credit card|iban|routing))\b{_SAYS}{_VALUE}")),
    ("PATIENT_ID", "number:code", re.compile(r"(?<![A-Za-z\d-])(#?[ ]?[A-Z]{2,5}-\d{4,10})(?![\d-])")),
    ("PATIENT_ID", "number:groups", re.compile(r"(?<![A-Za-z\d-])(#?\d{3}-\d{2,4}-\d{3,4}|#\d{5,})(?![\d-])")),
)


def find_english(folded: str) -> Iterator[Span]:
    """Yield what English names and numbers of a text identify a person."""
    yield from _find_people(folded)
    yield from _find_places(folded)
    for label, rule, pattern in _NUMBERS:
        for match in pattern.finditer(folded):
            if sum(map(str.isdigit, match[1])) >= 3:
                yield Span(match.start(1), match.end(1), label, "likely", rule)


def _find_people(folded: str) -> Iterator[Span]:
    names = words("english_given_names.tsv")
    for pattern in (_TITLED, _NAMED):
        for match in pattern.finditer(folded):
            titled_eponym = pattern is _TITLED and match[1].split()[0] in _EPONYMS
            if (titled_eponym or not _is_no_name(match[1])) and not begins_term(folded, match.end()):
                yield Span(
                    match.start() if pattern is _TITLED else match.start(1),
                    match.end(),
                    "NAME",
                    "certain",
                    "name:english-title",
                )
    for match in _CAP_THEN.finditer(folded):
        first = match[1].partition("-")[0]
        is_initial = re.fullmatch(r"[ ][A-Z]\.?", match[2]) and match[2].endswith(".")
        if (
            not _is_no_name(match[1])
            and (first in names or (is_initial and not _is_no_name(first)))
            and not begins_term(folded, match.end())
        ):
            yield Span(match.start(), match.end(), "NAME", "likely", "name:english")
    for match in _LAST_FIRST.finditer(folded):
        if match[2] in names and not _is_no_name(match[1]) and match[1] not in words("english_places.tsv"):
            yield Span(match.start(), match.end(), "NAME", "possible", "name:english-last-first")


def _is_no_name(name: str) -> bool:
    return name.split()[0].strip(".") in _NOT_NAMES | _EPONYMS


_BEFORE_JAPANESE = re.compile(r" [A-Z][a-z]+[ぁ-んァ-ヴー一-龥]")
"""What follows the first author of an eponym: Austin Flint雑音."""


def _find_places(folded: str) -> Iterator[Span]:
    for pattern, label, rule in (
        (_ADDRESS, "ADDRESS", "address:english"),
        (_CITY_STATE, "LOCATION", "place:city-state"),
    ):
        for match in pattern.finditer(folded):
            yield Span(match.start(), match.end(), _LABEL[label], "likely", rule)
    for match in _PROVIDER.finditer(folded):
        if not _NOT_PLACES.match(match[1]) and match[1].split()[0] not in _NOT_NAMES | _EPONYMS:
            yield Span(
                match.start(), match.start() + len(match[0].rstrip()), "HOSPITAL", "likely", "institution:english"
            )
    for match in _SAINT.finditer(folded):
        yield Span(match.start(), match.end(), "HOSPITAL", "likely", "institution:saint")
    for match in _AT.finditer(folded):
        text = match[1].removesuffix(" of").removesuffix(" and").rstrip(".")
        if not _NOT_PLACES.match(text) and not begins_term(folded, match.start(1) + len(text)):
            yield Span(match.start(1), match.start(1) + len(text), "LOCATION", "likely", "place:preposition")
    for match in _cities().finditer(folded):
        if not begins_term(folded, match.end()) and not _BEFORE_JAPANESE.match(folded, match.end()):
            yield Span(match.start(), match.end(), "LOCATION", "likely", "place:list")


_LABEL: dict[str, Label] = {"ADDRESS": "ADDRESS", "LOCATION": "LOCATION"}


@lru_cache(maxsize=1)
def _cities() -> "re.Pattern[str]":
    listed = sorted(words("english_places.tsv"), key=lambda place: (-len(place), place))
    return re.compile(
        rf"(?<![A-Za-z-])(?:{'|'.join(map(re.escape, listed))})(?:[ ](?:clinic|hospital|area|metro "
        rf"area))?(?![A-Za-z-])"
    )
