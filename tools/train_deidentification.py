"""Trains the name model of `jmedllm corpus deidentify` on generated notes, and on public medical text without names.

    jmedllm data get igakuqa igakuqa119 jmle2026 jmed-llm --data DATA
    python tools/train_deidentification.py --data DATA --output names.crfsuite

The same inputs and versions (python-crfsuite, SudachiPy, its dictionary) give the same bytes.
"""

import argparse
import hashlib
import random
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pycrfsuite

sys.path.insert(0, str(Path(__file__).parent))
from deidentification_notes import Note, notes

from jmedllm.corpus.deidentify.crf import MODEL, features, sentences
from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.lexicon import build_lexicon, given_rows, surname_rows
from jmedllm.corpus.deidentify.tokens import tokenize
from jmedllm.evaluation.benchmarks import BENCHMARKS

SEED = 17
LEFT_OUT = 4
"""One of so many names is left out of the lists while the model is trained, so that it also learns from context."""

CLEAN = ("igakuqa", "igakuqa119", "jmle2026", "crade", "rrtnm", "smdis")
"""Benchmarks whose Japanese text names nobody: examinations, case reports, radiology reports and posts."""

KEPT_ASIDE = ("115", "116")
"""Examinations of IgakuQA that measure false alarms, and that the model does not see."""

TERMS = Path(__file__).with_name("deidentification_terms.tsv")
CARRIERS = (
    "{}", "・{}", "#1 {}", "{}を認めた。", "{}と診断。", "{}を処方。", "{}の所見。", "診断：{}", "{}に対し治療中。",
    "{}は改善傾向。", "{}が疑われた。", "入院後、{}", "病名　{}　疑い",
)  # fmt: skip
"""Sentences around a term; those of benchmarks/deidentification_data.py are others."""

_NAMED = re.compile("花子|太郎|一郎|次郎")


def clean_texts(data: Path) -> Iterator[str]:
    """Yield the texts of the benchmarks, each once."""
    questions = [each for name in CLEAN for each in BENCHMARKS[name].load(data, "ja", "test")]
    texts = ["\n".join((each.stem, *each.choices)) for each in questions if not each.id.startswith(KEPT_ASIDE)]
    yield from dict.fromkeys(text for text in texts if not _NAMED.search(text))


def terms(seed: int) -> Iterator[str]:
    """Yield the medical terms in four sentences each, and in enumerations."""
    rng = random.Random(seed)
    listed = [line for line in TERMS.read_text("utf-8").splitlines() if not line.startswith("#")]
    for term in listed:
        yield from (carrier.format(term) for carrier in rng.sample(CARRIERS, 4))
    for _ in listed:
        yield rng.choice("、、、・，").join(rng.sample(listed, rng.randrange(2, 7))) + rng.choice(("", "。", "など"))


def is_left_out(name: str) -> bool:
    """Return whether a name is left out of the lists while the model is trained."""
    return hashlib.sha256(name.encode()).digest()[0] % LEFT_OUT == 0


def tags(note: Note) -> list[str]:
    """Return the tag of each character."""
    found = ["O"] * len(note.text)
    for start, end, label in note.spans:
        found[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return found


def train(texts: Iterable[Note], iterations: int, output: Path) -> str:
    """Train a model on texts with marked names; return its SHA-256. One of four names is in no list meanwhile."""
    names = build_lexicon(
        (row for row in surname_rows() if not is_left_out(row[0])),
        (row for row in given_rows() if not is_left_out(row[0])),
    )
    trainer = pycrfsuite.Trainer(verbose=False)
    for note in texts:
        text = fold_names(note.text)
        found, wanted = features(text, tokenize(text), names), tags(note)
        for start, end in sentences(text):
            trainer.append(found[start:end], wanted[start:end])
    trainer.set_params(
        {
            "c1": 0.15,
            "c2": 0.02,
            "max_iterations": iterations,
            "feature.minfreq": 3,
            "feature.possible_transitions": False,
        }
    )
    trainer.train(str(output))
    return hashlib.sha256(output.read_bytes()).hexdigest()


def main() -> None:
    """Train the model of the package."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="data directory with the benchmarks of `CLEAN`")
    parser.add_argument("--notes", type=int, default=8000)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--output", type=Path, default=MODEL)
    args = parser.parse_args()
    texts = notes(SEED, args.notes) + [Note(text, ()) for text in (*clean_texts(args.data), *terms(SEED))]
    print(f"{len(texts):,} texts, {sum(len(each.text) for each in texts):,} characters")
    digest = train(texts, args.iterations, args.output)
    args.output.with_suffix(".sha256").write_text(f"{digest}  {args.output.name}\n")
    print(f"{args.output}: {args.output.stat().st_size:,} bytes, SHA-256 {digest}")


if __name__ == "__main__":
    main()
