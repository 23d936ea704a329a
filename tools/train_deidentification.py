"""Trains the name model of `jmedllm corpus deidentify`: generated notes, and clean medical text without names.

    python tools/train_deidentification.py --clean TEXT.jsonl --output src/jmedllm/corpus/deidentify/names.crfsuite

The same inputs give the same bytes.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import pycrfsuite

sys.path.insert(0, str(Path(__file__).parent))
from deidentification_notes import Note, notes

from jmedllm.corpus.deidentify.crf import MODEL, features, sentences
from jmedllm.corpus.deidentify.fold import fold_names
from jmedllm.corpus.deidentify.lexicon import build_lexicon, given_rows, surname_rows
from jmedllm.corpus.deidentify.tokens import tokenize

SEED = 17
LEFT_OUT = 4
"""One of so many names is left out of the lists while the model is trained, so that it also learns from context."""


def is_left_out(name: str) -> bool:
    """Return whether a name is left out of the lists while the model is trained."""
    return hashlib.sha256(name.encode()).digest()[0] % LEFT_OUT == 0


def tags(note: Note) -> list[str]:
    """Return the tag of each character."""
    found = ["O"] * len(note.text)
    for start, end, label in note.spans:
        found[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
    return found


def main() -> None:
    """Train the model."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--clean", type=Path, nargs="*", default=[], help="lines of JSON with a text that names nobody"
    )
    parser.add_argument("--notes", type=int, default=5000)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--output", type=Path, default=MODEL)
    args = parser.parse_args()
    names = build_lexicon(
        (row for row in surname_rows() if not is_left_out(row[0])),
        (row for row in given_rows() if not is_left_out(row[0])),
    )
    texts = notes(SEED, args.notes)
    for path in args.clean:
        texts += [Note(json.loads(line)["text"], ()) for line in path.open(encoding="utf-8")]
    trainer = pycrfsuite.Trainer(verbose=False)
    count = 0
    for note in texts:
        text = fold_names(note.text)
        found, wanted = features(text, tokenize(text), names), tags(note)
        for start, end in sentences(text):
            trainer.append(found[start:end], wanted[start:end])
            count += end - start
    trainer.set_params(
        {
            "c1": 0.15,
            "c2": 0.02,
            "max_iterations": args.iterations,
            "feature.minfreq": 3,
            "feature.possible_transitions": False,
        }
    )
    print(f"{len(texts):,} texts, {count:,} characters")
    trainer.train(str(args.output))
    digest = hashlib.sha256(args.output.read_bytes()).hexdigest()
    print(f"{args.output}: {args.output.stat().st_size:,} bytes, {digest[:16]}")


if __name__ == "__main__":
    main()
