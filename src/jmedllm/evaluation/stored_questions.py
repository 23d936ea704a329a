"""Load the questions of stored evaluations again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS, load
from jmedllm.evaluation.benchmarks.custom import ReadOptions
from jmedllm.evaluation.question import Question


@dataclass(frozen=True, slots=True)
class QuestionPlaces:
    """Where questions are now.

    Attributes:
        data: data directory; None for the one that each evaluation used.
        custom: files of custom questions that have been moved, matched by file name.
    """

    data: Path | None = None
    custom: Sequence[Path] = ()


def load_questions(
    settings: Mapping[str, Any], source: Mapping[str, str], places: QuestionPlaces
) -> dict[str, Question]:
    """Load all questions of an evaluation's benchmark and language, by id.

    Args:
        settings: settings of the evaluation.
        source: where its questions were.
        places: where to look for them instead.

    Raises:
        InputError: questions are missing or invalid.
    """
    # An evaluation from Python gets its questions as an argument, so their split is unknown.
    split = "test" if settings["split"] == "given" else settings["split"]
    folder = places.data or Path(source.get("data", "data"))
    name = _name_or_file(settings["benchmark"], source, places)
    loaded = load(name, settings["language"], folder, split, ReadOptions.from_settings(dict(settings)))
    return {question.id: question for question in loaded}


def require_evaluated(custom: Iterable[Path], benchmarks: Iterable[str]) -> None:
    """Check that each file of custom questions exists and belongs to an evaluation.

    Raises:
        InputError: one does not.
    """
    known = list(dict.fromkeys(benchmarks))
    for path in custom:
        if not path.is_file():
            raise InputError(f"--questions {path}: no such file")
        if path.stem not in known:
            raise InputError(
                f"--questions {path}: no evaluation here is named {path.stem}; evaluated are {', '.join(known)}"
            )


def _name_or_file(benchmark: str, source: Mapping[str, str], places: QuestionPlaces) -> str:
    files = {path.stem: str(path) for path in places.custom}
    name = files.get(benchmark) or (benchmark if benchmark in BENCHMARKS else source.get("file"))
    if name is None or (name != benchmark and not Path(name).exists()):
        here = "" if name is None or Path(name).is_absolute() else f" in {Path.cwd()}"
        where = "" if name is None else f"{name}: no such file{here}; "
        raise InputError(f"{where}{benchmark} has your own questions; give their file with --questions")
    return name
