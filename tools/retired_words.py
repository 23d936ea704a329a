"""List words that the project no longer uses, with the word to use instead.

python tools/retired_words.py [PATH...]     files or folders; by default the whole project

Exit code 1 if any is found. Identifiers count as the words they consist of: `read_sitting` contains `sitting`. In
tests and benchmarks only names of files, identifiers and comments are checked, because strings are data.
"""

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ("src", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes", "examples", "tests", "benchmarks")
NAMES_ONLY = ("tests", "benchmarks")
KINDS = {".py", ".md", ".yaml", ".yml", ".html", ".js", ".css", ".toml", ".sh"}

# Between letters of one case an identifier has no border: `Board` is in ExamBoard, not in keyboard.
START, END = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))", r"(?![a-z])(?<![A-Z](?=[A-Z]))"

# words (alternatives of a regular expression), what to write instead, and what may stand around them
WORDS = [
    ("sit|sits|sitting|sittings|sat", "evaluate, evaluates, result", ""),
    (
        "papers?",
        "benchmark or task (EvalTask)",
        r"arXiv|publish|Paper 2|(by|that) the paper|papers?\.md|the papers\b|of the paper on",
    ),
    ("tracks?", "scorer", r"\.track\(|DO_NOT_TRACK"),
    ("verdicts?", "item score", ""),
    ("boards?", "outcome (ExamOutcome)", r"[Tt]ensor[Bb]oard|keyboard|[Kk]eyboard"),
    (
        "asking|prompting",
        "prompt format, prompt config",
        r"[Ww]ithout asking|is asking|asking the|asking for|by asking",
    ),
    ("quiz|quizzes", "in-loop evaluation", ""),
    ("census", "expected counts", ""),
    ("leaks?", "contamination index", r"memory leak"),
    ("turns? of (?:the|its) choices", "rotations", ""),
    ("could show", "minimum detectable difference", ""),
    ("expected error", "expected calibration error", ""),
    ("tell|tells|telling|told", "print, report, say, name", r"\.tell\(\)"),
    ("stand|stands|standing|stood", "is, is in, is printed", r"stand-in|standalone|[Uu]nderstand|stands? for"),
    (
        "hold|holds|holding|held",
        "contains, keeps, has",
        r"held[_ -]out|hold[_ -]out|HELD_OUT|[Hh]eld-out|[Tt]hreshold",
    ),
    ("lie|lies|lay|lying", "is in, is at", ""),
    ("mend|mends|mended|mending", "fix", ""),
    ("go on|goes on|going on|gone on|went on", "continues, resumes", ""),
    ("whole way", "end-to-end", ""),
    ("in the small", "on a tiny model", ""),
    ("beforehand", "before it starts", ""),
    ("is nothing an?", "is not supported by", ""),
    ("as[-_]written", "as-configured", ""),
    ("best_by", "early_stopping.metric", ""),
    ("micro_batch", "micro_batch_size", r"micro_batch_size|micro_batches"),
    ("source_tokens", "max_prompt_tokens", ""),
    ("target_tokens", "max_completion_tokens", ""),
    ("step_in_backward|in_backward", "optimizer_in_backward", r"optimizer_in_backward|optimizer-in-backward"),
    ("dryrun|dry_run", "preflight", ""),
    ("on_host", "cpu_offload", ""),
    ("carry_out|carried out|carries out|carry out", "run", ""),
    ("as_first_sees", "broadcast_from_rank0", ""),
    ("may_speak", "is_reporting", ""),
    ("scratch", "random_init", r"from scratch|scratch that"),
    ("engine", "backend", r"[Rr]egex engine|JavaScript engine|llm_engine"),
]
CODE = [  # identifiers only
    ("Paper|Sitting|Verdict|Shown|Asking|Prompting|Board|Keeping|Pace|Scratch|Ways|Workshop|Leaks|Extent"
     "|RoomyLayer|find_ways|Watch|Sat", "see CONTRIBUTING.md, names", r"TensorBoard"),
    ("activations(?=:)", "activation_checkpointing", ""),
    ("clip(?=:)", "max_grad_norm", ""),
    ("warmup(?=:)", "warmup_ratio", ""),
    (r"^\s*evaluate(?=:)", "validation", ""),
    ("tracks(?=:)", "scorers", ""),
]  # fmt: skip


STAYS = [  # part of a path, and text in which a word is right: words of models' replies and of medical sentences
    ("evaluation/reading/", r"pick\|verdict\|selection|vote\|verdict\)|was\) asking|say\|tell\|see"),
    ("deploy/divergence.py", "muscles that hold the head"),
    ("demo/relations.yaml", r"lies in \{"),
]


def word(alternatives: str) -> str:
    """Pattern of a word, in any case and as a part of an identifier."""
    return rf"{START}(?i:{alternatives}){END}"


def name(alternatives: str) -> str:
    """Pattern of a whole identifier."""
    return rf"(?<![A-Za-z_])(?:{alternatives})(?![A-Za-z_])"


@cache
def compiled() -> list[tuple[re.Pattern[str], str, re.Pattern[str] | None]]:
    """Each word's pattern, its replacement and the lines in which it may stay."""
    words = [(word(words), instead, stays) for words, instead, stays in WORDS]
    words += [(name(words), instead, stays) for words, instead, stays in CODE]
    return [(re.compile(each), instead, re.compile(stays) if stays else None) for each, instead, stays in words]


@cache
def any_of_them() -> re.Pattern[str]:
    """One pattern for all words, because few lines contain any."""
    words, names = ("|".join(words for words, *_ in rows) for rows in (WORDS, CODE))
    return re.compile(f"{word(words)}|{name(names)}")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file to check, with their line numbers; line 0 is the file's name."""
    yield 0, path.stem
    content = path.read_text(encoding="utf-8")
    inside = path.resolve().relative_to(ROOT).parts if path.resolve().is_relative_to(ROOT) else ()
    if path.suffix == ".py" and inside and inside[0] in NAMES_ONLY:
        for token in tokenize.generate_tokens(io.StringIO(content).readline):
            if token.type in (tokenize.NAME, tokenize.COMMENT):
                yield token.start[0], token.string
    else:
        yield from enumerate(content.split("\n"), 1)


def find(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Line number, retired word, replacement and text of each place in a file."""
    allowed = [re.compile(text) for part, text in STAYS if part in path.as_posix()]
    for number, text in texts(path):
        rest = text
        for pattern in allowed:
            rest = pattern.sub("", rest)
        for match, instead in words_in(rest):
            yield number, match, instead, text.strip()


@cache
def words_in(text: str) -> list[tuple[str, str]]:
    """Retired words in a line or name, each with its replacement. Most lines and names occur many times."""
    found = []
    for pattern, instead, stays in compiled() if any_of_them().search(text) else ():
        if match := pattern.search(stays.sub("", text) if stays else text):
            found.append((match.group(0), instead))
    return found


def main(arguments: list[str]) -> int:
    """Print each place; return 1 if there is any."""
    found = 0
    for root in map(Path, arguments) if arguments else (ROOT / name for name in DEFAULT):
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            if path.suffix not in KINDS or not path.is_file():
                continue
            for number, word, instead, text in find(path):
                found += 1
                print(f"{path}:{number}: {word} → {instead}: {text[:90]}")
    print(f"{found} retired words" if found else "no retired word")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
