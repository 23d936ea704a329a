"""List words that the project no longer uses, with the word to use instead.

python tools/retired_words.py [PATH...]     files or folders; by default all text files that git lists

Exit code 1 if any is found. Identifiers count as the words they consist of: `read_sitting` contains `sitting`. Names
of files and folders count too. In tests and benchmarks strings are data: only identifiers, comments, docstrings and
the ids of parametrized tests are checked.
"""

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NAMES_ONLY = ("tests", "benchmarks")
BINARY = {".png", ".sha256", ".crfsuite", ".tsv"}
DATA = {  # lists of these words, replies of models, and the history of names
    "tools/retired_words.py",
    "tests/test_retired_words.py",
    "tests/evaluation/reading/replies.txt",
    "CHANGELOG.md",
    "LICENSE",
}

# Between letters of one case an identifier has no border: `Board` is in ExamBoard, not in keyboard.
START, END = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))", r"(?![a-z])(?<![A-Z](?=[A-Z]))"

# words in any text, what to write instead, and what may stand around them
WORDS = [
    ("sit|sits|sitting|sittings|sat", "evaluate, evaluates, result", ""),
    (
        "paper|papers",
        "benchmark or task (EvalTask)",
        r"arXiv|publish|Paper 2|(by|that) the paper|papers?\.md|the papers\b|of the paper on",
    ),
    ("track|tracks", "scorer", r"\.track\(|DO_NOT_TRACK"),
    ("verdict|verdicts", "item score", ""),
    ("board|boards", "outcome (ExamOutcome)", r"[Tt]ensor[Bb]oard|keyboard|[Kk]eyboard"),
    (
        "asking|prompting",
        "prompt format, prompt config",
        r"[Ww]ithout asking|is asking|asking the|asking for|by asking",
    ),
    ("quiz|quizzes", "in-loop evaluation", ""),
    ("census", "expected counts", ""),
    ("leak|leaks", "contamination index", r"memory leak"),
    (
        "turn of the choices|turns of the choices|turn of its choices|turns of its choices",
        "rotations",
        "",
    ),
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
    ("can no longer be", "cannot be", ""),
    ("whole way", "end-to-end", ""),
    ("in the small", "on a tiny model", ""),
    ("what fits a machine", "memory and time planning", ""),
    ("beforehand", "before it starts", ""),
    ("is nothing a|is nothing an", "is not supported by", ""),
    ("as-written|as_written", "as-configured", ""),
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
    ("streaming", "layer offload", ""),
    ("engine", "backend", r"[Rr]egex engine|JavaScript engine|llm_engine"),
    ("exam item|exam items|exam question|exam questions|jmedllm exam", "benchmark item, jmedllm eval", ""),
    ("read_exam|CustomExam|exams_searched|exam_items|exam_questions|in_exam", "benchmark, custom file", ""),
    ("show_example|show-example", "preview_example", ""),
    ("a file of your own|questions of your own", "custom questions", ""),
]
# whole identifiers in Python, also a class or module with this name
IDENTIFIERS = [
    ("Paper|Sitting|Sat|Shown|Verdict|Board|Asking|Prompting|Given|Reading", "see CONTRIBUTING.md, Style"),
    ("Optimization|Watch|Keeping|Pace|Rule|RoomyLayer|Writing|Ways|find_ways|Scratch", "see CONTRIBUTING.md, Style"),
    ("Order|Workshop|Extent|Leaks|Step|Place|Part|Seen|Base", "see CONTRIBUTING.md, Style"),
    ("examine|tally|spread|watching", "see CONTRIBUTING.md, Style"),
]
# names of files and folders, without suffix
FILES = [
    ("exam|examine|sitting|people|recorded|own", "evaluation, evaluate, task, human_baseline, offline, custom"),
    ("evidence|unseen|tally|spread|together", "contamination_index, train_test_overlap, counts, parallel"),
    ("dryrun|show|on_host|in_backward|ring|quiz|watch|streaming", "preflight, preview, cpu_offload, early_stopping"),
]
# keys of recipes and JSON, attributes and calls: the old use of words that have another one
USES = [
    (
        r"(?m)^\s*(?:activations|clip|warmup|batch|watch|tracks|exam)(?=:(?:\s|$))(?!: (?:list|str|its)\b)",
        "the key of docs/recipes.md",
        ":",
    ),
    (r"(?m)^  offload(?=:)|^evaluate(?=:)", "cpu_offload, validation", ":"),
    (
        r"[\"'`](?:activations|clip|warmup|micro_batch|best_by|tracks)[\"'`](?=\s*[:|])",
        "the key of docs/recipes.md",
        "",
    ),
    (r"(?<=[{,] )(?:activations|clip|warmup|watch|tracks|offload)(?=: (?!Path))", "the key of docs/recipes.md", ": "),
    (r"\brun\.made\b", "outputs", "made"),
    (r"\b(?:stage|step)\.wanted\b|\bwanted\(", "enabled", "wanted"),
    (r"\b(?:stage|step|run)\.identity\b|\bidentity\(", "input_hash", "identity"),
    (r"\bwith together\b|\btogether\(\)", "process_group", "together"),
    (r"\bring of\b|\b(?:a|the) ring\b", "pinned buffers", "ring"),
    (r"\bevidence of an? (?:exam|benchmark|question)", "contamination index", "evidence"),
    (r"\btrained mask\b|\b(?:blocks|sample)\.trained\b", "loss_mask", "trained"),
]

STAYS = [  # part of a path, and text in which a word is right: words of models' replies and of medical sentences
    ("evaluation/reading/", r"pick\|verdict\|selection|vote\|verdict\)|was\) asking|say\|tell\|see"),
    ("deploy/divergence.py", "muscles that hold the head"),
    ("demo/facts.jsonl", "cat scratch"),
    ("demo/relations.yaml", r"lies in \{"),
]


class Row(NamedTuple):
    """A retired word: its pattern, what to write instead, where it may stay, and texts one of which it contains."""

    pattern: re.Pattern[str]
    instead: str
    stays: re.Pattern[str] | None
    hints: tuple[str, ...]


@cache
def compiled() -> list[Row]:
    """Return the rows that are searched in text."""
    words = [
        Row(re.compile(rf"{START}(?i:{each}){END}"), instead, re.compile(stays) if stays else None, hints_of(each))
        for each, instead, stays in WORDS
    ]
    return words + [Row(re.compile(each), instead, None, (hint,) if hint else ()) for each, instead, hint in USES]


def hints_of(words: str) -> tuple[str, ...]:
    """Return the words in small letters, without those that contain another one."""
    every = words.lower().split("|")
    return tuple(each for each in every if not any(other in each for other in every if other != each))


@cache
def whole(rows: str) -> dict[str, str]:
    """Return what to write instead of each identifier, or name of a file."""
    chosen = IDENTIFIERS if rows == "identifiers" else FILES
    return {word: instead for words, instead in chosen for word in words.split("|")}


def texts(path: Path, content: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file to check, with their line numbers."""
    inside = path.resolve().relative_to(ROOT).parts if path.resolve().is_relative_to(ROOT) else ()
    if path.suffix != ".py" or not inside or inside[0] not in NAMES_ONLY:
        yield 1, content
        return
    begins = True
    names: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        is_text = token.type == tokenize.STRING and (
            begins or names[-3:-1] == ["ids", "="] or names[-2:] == ["id", "="]
        )
        if token.type in (tokenize.NAME, tokenize.COMMENT) or is_text:
            yield token.start[0], token.string
        begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT) or (
            begins and token.type in (tokenize.COMMENT, tokenize.NL)
        )
        if token.string != "," and token.type != tokenize.STRING:
            names = [*names[-2:], token.string]


def find(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield line number, retired word, replacement and text of each place in a file; line 0 is its name."""
    content = path.read_text(encoding="utf-8")
    parts = path.resolve().relative_to(ROOT).parts if path.resolve().is_relative_to(ROOT) else path.parts[-2:]
    for name in (*parts[:-1], path.stem):
        if name in whole("files"):
            yield 0, name, whole("files")[name], name
        else:
            yield from search(name, compiled(), path, 0)
    low = content.lower()
    rows = [row for row in compiled() if not row.hints or any(hint in low for hint in row.hints)]
    if rows:
        for number, text in texts(path, content):
            yield from search(text, rows, path, number)
    if path.suffix == ".py":
        for match in re.finditer(r"\b(?:class|def) (\w+)|^(\w+) =", content, re.MULTILINE):
            name = match[1] or match[2]
            if name in whole("identifiers"):
                yield content.count("\n", 0, match.start()) + 1, name, whole("identifiers")[name], match[0]


def search(text: str, rows: list[Row], path: Path, number: int) -> Iterator[tuple[int, str, str, str]]:
    """Yield the places of a text that begins in line `number`."""
    allowed = [re.compile(each) for part, each in STAYS if part in path.as_posix()]
    for row in rows:
        for match in row.pattern.finditer(text):
            start, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.end())
            line = text[start : end if end >= 0 else None]
            rest = line
            for pattern in (*allowed, *([row.stays] if row.stays else [])):
                rest = pattern.sub("", rest)
            if rest == line or row.pattern.search(rest):
                yield number + text.count("\n", 0, match.start()), match[0], row.instead, line.strip()


def files(arguments: list[str]) -> Iterator[Path]:
    """Yield the files to check."""
    if arguments:
        for root in map(Path, arguments):
            yield from sorted(path for path in ([root] if root.is_file() else root.rglob("*")) if path.is_file())
        return
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if name not in DATA and Path(name).suffix not in BINARY and (ROOT / name).is_file():
            yield ROOT / name


def main(arguments: list[str]) -> int:
    """Print each place; return 1 if there is any."""
    found = 0
    for path in files(arguments):
        for number, word, instead, text in find(path):
            found += 1
            print(f"{path}:{number}: {word} → {instead}: {text[:90]}")
    print(f"{found} retired words" if found else "no retired word")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
