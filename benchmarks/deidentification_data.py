"""Reads the texts that measure the de-identification, and splits them into a part to look at and one to keep aside.

The split is by hashes of names, not of lines: of the template of a note, of an institution, of an article, of a text.
The errors of the part "test" are never looked at; its figures are.
"""

import csv
import hashlib
import itertools
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from jmedllm.corpus.deidentify.evaluate import AnnotatedText, GoldSpan
from jmedllm.evaluation.benchmarks import BENCHMARKS

Split = Literal["dev", "test"]
TEST_EXAMINATIONS = ("115", "116")
"""Examinations of IgakuQA that the model is not trained on (`KEPT_ASIDE` of tools/train_deidentification.py)."""

CARRIERS = {
    "dev": (
        "{}より紹介。",
        "前医（{}）で加療された。",
        "{}に転院搬送した。",
        "かかりつけ：{}\n",
        "2年前に{}で手術歴あり。",
        "紹介元 {}　内科",
    ),
    "test": (
        "{}を受診。",
        "{}からの紹介患者。",
        "当日、{}へ救急搬送。",
        "転院先：{}",
        "近くの{}に通院中である。",
        "{}　御中",
    ),
}
HOMES = {
    "dev": ("住所：{}\n", "現在{}に一人暮らし。", "自宅（{}）で転倒。"),
    "test": ("現住所　{}　電話なし", "{}在住。", "居住地は{}である。"),
}

TERM_CARRIERS = ("{}", "「{}」", "既往に{}がある。", "{}について説明した。")
WORKS = re.compile(
    "ディスコグラフィ|フィルモグラフィ|ビブリオグラフィ|の(?:全?作品|著作|アルバム|シングル|楽曲|出演|受賞|ビデオ|映画)"
)
"""Titles among the terms that name a person, such as discographies: 35 of the part "test"."""


def is_test(key: str, of: int = 2) -> bool:
    """Return whether a key belongs to the part that is kept aside: one of so many."""
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % of == 0


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _annotated(rows: Sequence[dict[str, Any]]) -> list[AnnotatedText]:
    return [
        AnnotatedText(
            row["text"], tuple(GoldSpan(each["start"], each["end"], each["label"]) for each in row["spans"]), row["id"]
        )
        for row in rows
    ]


def template_notes(shared: Path, split: Split) -> list[AnnotatedText]:
    """Read the notes of the templates for development."""
    rows = _rows(shared / "deid" / "notes_dev.jsonl")
    return _annotated([row for row in rows if is_test(row["kind"], 3) == (split == "test")])


def asq_phi(shared: Path, split: Split) -> list[AnnotatedText]:
    """Read English clinical queries."""
    rows = _rows(shared / "deid" / "asq_phi_dev.jsonl")
    return _annotated([row for row in rows if is_test(row["id"]) == (split == "test")])


def institutions(shared: Path, split: Split) -> list[list[str]]:
    """Read (name, postal code, address) of real institutions."""
    lines = (shared / "deid" / "institutions_dev.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    return [row for row in rows if is_test(row[0]) == (split == "test")]


def hospitals(shared: Path, split: Split) -> list[AnnotatedText]:
    """Put 1,500 real institutions into sentences."""
    draw = random.Random(17)
    rows = draw.sample(institutions(shared, split), 1500)
    return list(_inserted([row[0] for row in rows], "HOSPITAL", CARRIERS[split], draw))


def addresses(shared: Path, split: Split) -> list[AnnotatedText]:
    """Put 1,500 real addresses into sentences."""
    draw = random.Random(18)
    rows = draw.sample(institutions(shared, split), 1500)
    return list(_inserted([row[2] for row in rows], "ADDRESS", HOMES[split], draw))


def _inserted(
    values: Sequence[str], label: str, carriers: Sequence[str], draw: random.Random
) -> Iterator[AnnotatedText]:
    for value in values:
        carrier = draw.choice(carriers)
        start = carrier.index("{")
        yield AnnotatedText(carrier.format(value), (GoldSpan(start, start + len(value), label),), value)


def examinations(shared: Path, split: Split) -> list[AnnotatedText]:
    """Read examination items, which name nobody."""
    questions = [
        each
        for each in BENCHMARKS["igakuqa"].load(shared, "ja", "test")
        if each.id.startswith(TEST_EXAMINATIONS) == (split == "test")
    ]
    return [AnnotatedText("\n".join((each.stem, *each.choices)), (), each.id) for each in questions]


def case_reports(shared: Path, split: Split) -> list[AnnotatedText]:
    """Read real case reports without identifiers, but with dates."""
    with (shared / "deid" / "jmed_llm_crner.csv").open(encoding="utf-8") as handle:
        questions = sorted({row["question"] for row in csv.DictReader(handle)})
    # Several questions ask about one text.
    reports = dict.fromkeys(re.sub(r"^.*?「|」[^」]*$", "", each, flags=re.DOTALL) for each in questions)
    return [
        AnnotatedText(text, (), f"case/{n}")
        for n, text in enumerate(reports)
        if is_test(re.sub(r"\s", "", text)[:80]) == (split == "test")
    ]


def listed_terms(shared: Path, split: Split) -> list[str]:
    """Read the medical terms of Wikidata, without the titles in `WORKS`."""
    with (shared / "terminology/wikidata_large_en_ja_pairs.csv").open(encoding="utf-8-sig") as handle:
        listed = sorted({row["ja_label"] for row in csv.DictReader(handle)})
    return [term for term in listed if is_test(term) == (split == "test") and not WORKS.search(term)]


def term_texts(shared: Path, split: Split) -> dict[str, list[AnnotatedText]]:
    """Put each term into each of `TERM_CARRIERS`, and into an enumeration of five. A span marks each term."""
    listed = listed_terms(shared, split)
    texts = {carrier: list(_inserted(listed, "TERM", (carrier,), random.Random(19))) for carrier in TERM_CARRIERS}
    random.Random(20).shuffle(listed)
    texts["enumeration"] = [_enumeration(listed[at : at + 5]) for at in range(0, len(listed), 5)]
    return texts


def _enumeration(members: Sequence[str]) -> AnnotatedText:
    starts = itertools.accumulate((len(each) + 1 for each in members), initial=0)
    spans = tuple(GoldSpan(start, start + len(each), "TERM") for start, each in zip(starts, members, strict=False))
    return AnnotatedText("、".join(members), spans, members[0])


def terms(shared: Path, split: Split) -> list[AnnotatedText]:
    """Put medical terms into all their sentences."""
    return [AnnotatedText(each.text, (), each.where) for texts in term_texts(shared, split).values() for each in texts]


SOURCES: dict[str, Callable[[Path, Split], list[AnnotatedText]]] = {
    "notes": template_notes,
    "hospitals": hospitals,
    "addresses": addresses,
    "asq-phi": asq_phi,
    "examinations": examinations,
    "case reports": case_reports,
    "terms": terms,
}
