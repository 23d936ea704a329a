"""List words that the project no longer uses, with the word to use instead.

python tools/retired_words.py [PATH...]     files or folders; without any: all that users read

Exit code 1 if any is found. Code identifiers count as the words they consist of: `read_sitting` is a sitting.
"""

import re
import sys
from pathlib import Path

DEFAULT = ("src", "docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "recipes", "examples")
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
        r"hold the head of the humerus|held[_ -]out|hold[_ -]out|HELD_OUT|[Hh]eld-out|[Tt]hreshold",
    ),
    ("lie|lies|lay|lying", "is in, is at", ""),
    ("mend|mends|mended|mending", "fix", ""),
    ("goes? on|going on|gone on|went on", "continues, resumes", ""),
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


def compiled() -> list[tuple[re.Pattern[str], str, re.Pattern[str] | None]]:
    """Each word's pattern, its replacement and the lines in which it may stay."""
    words = [(rf"{START}(?i:{words}){END}", instead, stays) for words, instead, stays in WORDS]
    words += [(rf"(?<![A-Za-z_])(?:{words})(?![A-Za-z_])", instead, stays) for words, instead, stays in CODE]
    return [(re.compile(each), instead, re.compile(stays) if stays else None) for each, instead, stays in words]


def main(arguments: list[str]) -> int:
    """Print each place; return 1 if there is any."""
    patterns, found = compiled(), 0
    # What models write, as alternatives of regular expressions; the sentences of the demo.
    data = re.compile(r"\w+\|[\w|]*|- \".*\{(?:subject|answer)\}.*")
    for root in map(Path, arguments or DEFAULT):
        for path in sorted([root] if root.is_file() else root.rglob("*")):
            if path.suffix not in KINDS or not path.is_file():
                continue
            for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
                for pattern, instead, stays in patterns:
                    rest = stays.sub("", data.sub("", line)) if stays else data.sub("", line)
                    if match := pattern.search(rest):
                        found += 1
                        print(f"{path}:{number}: {match.group(0)} → {instead}: {line.strip()[:90]}")
    print(f"{found} retired words" if found else "no retired word")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
