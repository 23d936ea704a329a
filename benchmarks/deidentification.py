"""Measures the de-identification, and prints a table: what was found, of how many, and what was asked for.

    pip install gimei==0.2.3
    python benchmarks/deidentification.py

The data directory is `--data`, or the one that JMEDLLM_SHARED_DATA names. `--split dev` measures the part whose errors
may be looked at, and `--errors N` prints N of them; the part that is kept aside has no errors to print.
"""

import argparse
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deidentification_data import SOURCES, Split, institutions, term_texts
from deidentification_notes import Pools, WrittenNote, batches, is_listed, notes

from jmedllm.corpus.deidentify.evaluate import AnnotatedText, DeidentificationScores, Share, evaluate, share
from jmedllm.corpus.deidentify.find import find
from jmedllm.corpus.deidentify.known import Known, read_known
from jmedllm.corpus.deidentify.lexicon import lexicon
from jmedllm.corpus.deidentify.spans import covered, touches

SEED = 17
OF_EACH = 20
FORMED = {
    "dates": ("DATE",), "phone": ("PHONE",), "fax": ("FAX",), "postal code": ("POSTAL",), "e-mail": ("EMAIL",),
    "URL": ("URL",), "numbers": ("PATIENT_ID", "INSURANCE_ID", "LICENSE_ID", "ACCOUNT_ID", "DEVICE_ID"),
    "個人番号": ("MYNUMBER",),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table: a share, or a figure, and what was asked for."""

    name: str
    figure: str
    interval: str
    of: str
    ask: str


def of_share(name: str, part: Share, ask: str) -> Row:
    """Return the line of a share."""
    if part.value is None or part.low is None or part.high is None:
        return Row(name, "-", "", "0", ask)
    return Row(
        name, f"{100 * part.value:.1f} %", f"{100 * part.low:.1f} to {100 * part.high:.1f}", f"{part.of:,}", ask
    )


def recall_of(scores: DeidentificationScores, labels: Sequence[str]) -> Share:
    """Return the recall of some kinds together."""
    rows = [row for row in scores.recall if row.name in labels]
    return share(", ".join(labels), sum(row.count for row in rows), sum(row.of for row in rows))


def without_lists(texts: Sequence[AnnotatedText], name: str) -> Iterator[Row]:
    """Yield the lines of notes."""
    scores = evaluate(texts, find)
    yield of_share(f"{name}: recall, all kinds", scores.recall[-1], "98.8")
    yield of_share(f"{name}: names", recall_of(scores, ["NAME"]), "97.5")
    for kind, labels in FORMED.items():
        if any(row.name in labels for row in scores.recall):
            yield of_share(f"{name}: {kind}", recall_of(scores, labels), "99.8")
    yield of_share(f"{name}: hospitals", recall_of(scores, ["HOSPITAL"]), "92")
    yield of_share(f"{name}: addresses", recall_of(scores, ["ADDRESS"]), "95")
    yield of_share(f"{name}: precision", scores.precision, "96")


def with_lists(written: Sequence[WrittenNote], name: str) -> Iterator[Row]:
    """Yield the lines of notes whose patients and staff are on lists. Relatives and others are on none."""
    known = lists_of(written)
    scores = evaluate([each.text for each in written], partial(find, known=known))
    found = [find(each.text.text, known) for each in written]
    for who, ask, spans in (
        ("patients", "100", [each.patients for each in written]),
        ("patients and staff", "100", [each.listed for each in written]),
    ):
        hits = [covered(at, span.start, span.end) for at, each in zip(found, spans, strict=True) for span in each]
        yield of_share(f"{name}, with lists: {who}", share(who, sum(hits), len(hits)), ask)
    yield of_share(f"{name}, with lists: names", recall_of(scores, ["NAME"]), "99.3")
    yield of_share(f"{name}, with lists: all kinds", scores.recall[-1], "99.6")


def lists_of(written: Sequence[WrittenNote]) -> Known:
    """Return lists of the patients and the staff of notes."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "people.csv"
        people = [person for each in written for slot, person in each.people.items() if is_listed(slot)]
        lines = [f"{person.written('space')},{person.written('kata')}" for person in people]
        file.write_text("\n".join(["氏名,カナ", *lines]), encoding="utf-8")
        return read_known([file], {}, lexicon())


def sources(shared: Path, split: Split) -> Iterator[Row]:
    """Yield the lines of the data for development, or of its part that is kept aside."""
    yield from without_lists(SOURCES["notes"](shared, split), "templates for development")
    for name, ask in (("hospitals", "92"), ("addresses", "95")):
        yield of_share(f"real {name} in sentences", evaluate(SOURCES[name](shared, split), find).recall[-1], ask)
    clean = [*SOURCES["examinations"](shared, split), *SOURCES["case reports"](shared, split)]
    alarms = evaluate(clean, find)
    count = sum(number for label, number in alarms.false_alarms.items() if label != "DATE")
    per_10000 = 1e4 * count / alarms.clean_characters
    # Dates in case reports are dates.
    yield Row(
        "false alarms per 10,000 characters of examinations and case reports, without dates",
        f"{per_10000:.2f}", "", f"{alarms.clean_characters:,}", "2",
    )  # fmt: skip
    carrier, altered = max(altered_terms(shared, split).items(), key=lambda each: each[1].count)
    yield of_share(f"medical terms altered, in the worst of five sentences: {carrier}", altered, "0.5")
    asq = evaluate(SOURCES["asq-phi"](shared, split), find)
    yield of_share("ASQ-PHI: recall", asq.recall[-1], "96")
    yield of_share("ASQ-PHI: queries without identifiers touched", asq.touched, "12")


def altered_terms(shared: Path, split: Split) -> dict[str, Share]:
    """Return the share of the medical terms that are touched, by the sentence around them."""
    shares = {}
    for carrier, texts in term_texts(shared, split).items():
        hits = [touches(find(each.text), span.start, span.end) for each in texts for span in each.spans]
        shares[carrier] = share(carrier, sum(hits), len(hits))
    return shares


def speed(texts: Sequence[AnnotatedText]) -> Row:
    """Return the line of the speed: CPU seconds of one core."""
    find("")
    began = time.process_time()
    for each in texts:
        find(each.text)
    rate = sum(len(each.text) for each in texts) / (time.process_time() - began)
    return Row("characters a second, one core", f"{rate:,.0f}", "", "", "10,000")


def print_table(rows: Iterable[Row]) -> None:
    """Print the table in Markdown."""
    print("| what was measured | found | 95 % interval | of | ask |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.name} | {row.figure} | {row.interval} | {row.of} | {row.ask} |", flush=True)


def print_errors(texts: Sequence[AnnotatedText], most: int) -> None:
    """Print a sample of what was missed and of what was wrong."""
    missed, wrong = Counter[str](), Counter[str]()
    for each in texts:
        found = find(each.text)
        for span in each.spans:
            if span.label != "AGE" and not covered(found, span.start, span.end):
                missed[f"{span.label}: {_shown(each.text, span.start, span.end)}"] += 1
        for alarm in found:
            if not any(touches([alarm], span.start, span.end) for span in each.spans):
                wrong[f"{alarm.label} {alarm.rule}: {_shown(each.text, alarm.start, alarm.end)}"] += 1
    draw = random.Random(1)
    for title, counts in (("missed", missed), ("wrong", wrong)):
        print(f"-- {title}: {counts.total()}")
        for line, count in draw.sample(sorted(counts.items()), min(most, len(counts))):
            print(f"   {count} x {line}")


def _shown(text: str, start: int, end: int) -> str:
    shown = f"{text[max(0, start - 10) : start]}[{text[start:end]}]{text[end : end + 8]}"
    return shown.replace("\n", "⏎")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("JMEDLLM_SHARED_DATA", "../shared/data")))
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--batch", help="measure this batch of notes only; by default the last one, and the data")
    parser.add_argument("--source", choices=SOURCES, help="with --errors: print errors of this source, part dev")
    parser.add_argument("--errors", type=int, default=0)
    args = parser.parse_args()
    pools = Pools.read(args.data / "deid", institutions(args.data, "test"))
    if args.source:
        texts = SOURCES[args.source](args.data, "dev")
        scores = evaluate(texts, find)
        print_table(of_share(row.name, row, "") for row in (*scores.recall, scores.precision, scores.touched))
        print_errors(texts, args.errors)
        return
    batch = args.batch or batches()[-1]
    written = list(notes(batch, pools, SEED, OF_EACH))
    texts = [each.text for each in written]
    rows = [*without_lists(texts, batch), *with_lists(written, batch)]
    if not args.batch:
        rows += [*sources(args.data, args.split), speed(texts)]
    print_table(rows)
    if args.errors:
        print_errors(texts, args.errors)


if __name__ == "__main__":
    main()
