"""The command `jmedllm score`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jmedllm.cli.ending import data_options, print_ending
from jmedllm.cli.options import (
    SCORER_NAMES,
    AsJson,
    Judge,
    JudgeKeyEnv,
    Map,
    MaxReply,
    Proxy,
    SkipInvalid,
    Timeout,
    client_options,
    question_map,
    split,
)
from jmedllm.cli.printing import console, print_json, print_report
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.evaluation.judge import Judge as JudgeModel
    from jmedllm.evaluation.offline import QuestionSet
    from jmedllm.evaluation.rescore import StoredEvaluation
    from jmedllm.named_server import ClientOptions

RECORDED = "Recorded responses"
"""Group of options in --help."""


Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="PATH",
        help="Output directories of `jmedllm eval` or `jmedllm run`, or files of responses that were recorded "
        "elsewhere.",
    ),
]
ScorerNames = Annotated[
    str | None,
    typer.Option(
        help=f"Scorers, separated by commas: {SCORER_NAMES}. For a directory they are added to those it has.",
        show_default="those of the directory, or answer for recorded responses",
    ),
]
Diff = Annotated[
    bool,
    typer.Option("--diff", help="List the items whose score differs from the stored one, and write nothing."),
]
QuestionsFile = Annotated[
    Path | None,
    typer.Option(
        help="File of your own questions that were answered.",
        show_default="the file that was evaluated, or none for recorded responses",
    ),
]
DataFolder = Annotated[
    Path | None,
    typer.Option(
        help="Data directory with the benchmarks.",
        envvar="JMEDLLM_DATA",
        show_default="the one that was used, or data for recorded responses",
    ),
]
BenchmarkName = Annotated[
    str | None,
    typer.Option(help="Benchmark that was answered.", show_default="none", rich_help_panel=RECORDED),
]
LanguageName = Annotated[
    Literal["ja", "en"] | None,
    typer.Option(
        help="Language of the questions: ja (in Japanese), en (in English).",
        show_default="all of a file, the first one of a benchmark",
        rich_help_panel=RECORDED,
    ),
]
Year = Annotated[
    int | None,
    typer.Option(help="Only this year of a benchmark of yearly exams.", show_default="all", rich_help_panel=RECORDED),
]
SelectionName = Annotated[
    str,
    typer.Option(
        help="Which items: all (every single one), graded (no pictures, graded), legacy (as previously published).",
        rich_help_panel=RECORDED,
    ),
]
ResponseColumns = Annotated[
    str | None,
    typer.Option(
        "--map-responses",
        help="Columns of the responses, as OURS=THEIRS separated by commas: id=qid,response=output.",
        show_default="columns with our names",
        rich_help_panel=RECORDED,
    ),
]
StrictLetters = Annotated[
    bool,
    typer.Option(
        "--strict-letters",
        help="Read answers by splitting at commas only, as published result files have them.",
        rich_help_panel=RECORDED,
    ),
]
ItemsFile = Annotated[
    Path | None,
    typer.Option(
        help="Write the first scorer's item scores to this .jsonl file.",
        show_default="none",
        rich_help_panel=RECORDED,
    ),
]


def score(
    paths: Paths,
    scorer: ScorerNames = None,
    diff: Diff = False,
    questions: QuestionsFile = None,
    data: DataFolder = None,
    benchmark: BenchmarkName = None,
    language: LanguageName = None,
    year: Year = None,
    selection: SelectionName = "all",
    columns: Map = None,
    columns_of_responses: ResponseColumns = None,
    skip_invalid: SkipInvalid = False,
    strict_letters: StrictLetters = False,
    judge: Judge = None,
    judge_key_env: JudgeKeyEnv = "JMEDLLM_API_KEY",
    proxy: Proxy = None,
    timeout: Timeout = None,
    max_reply: MaxReply = 16,
    items: ItemsFile = None,
    as_json: AsJson = False,
) -> None:
    """Score stored samples or recorded responses, without the model."""
    folders = [path for path in paths if path.is_dir()]
    if folders:
        if len(folders) < len(paths):
            raise InputError("give directories of jmedllm eval, or files of recorded responses, not both")
        _refuse(
            benchmark=benchmark, language=language, year=year, map=columns, map_responses=columns_of_responses,
            skip_invalid=skip_invalid, strict_letters=strict_letters, judge=judge is not None,
            items=items,
        )  # fmt: skip
        _score_folders(folders, split(scorer or ""), _Stored(data, questions, diff, as_json))
        return
    if diff:
        raise InputError("--diff goes with an output directory of jmedllm eval; recorded files have no scores")
    from jmedllm.evaluation.benchmarks.custom import ReadOptions
    from jmedllm.evaluation.offline import QuestionSet

    read_options = ReadOptions(tuple(question_map(columns).items()), skip_invalid and questions is not None)
    asked = QuestionSet(benchmark, questions, language, data or Path("data"), year, selection, read_options)
    client = client_options(judge_key_env, proxy, timeout, max_reply)
    options = _Recorded(columns_of_responses, skip_invalid, strict_letters, judge, client, items, as_json)
    _score_files(paths, split(scorer or "answer"), asked, options)


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value:
            raise InputError(
                f"--{name.replace('_', '-')} goes with files of recorded responses; a directory of jmedllm eval has "
                "its own settings"
            )


@dataclass(frozen=True, slots=True)
class _Stored:
    """Options for directories of evaluations, named like those of the command."""

    data: Path | None
    questions: Path | None
    diff: bool
    as_json: bool


def _score_folders(folders: Sequence[Path], scorers: Sequence[str], options: _Stored) -> None:
    """Score stored evaluations again."""
    from jmedllm.evaluation.rescore import stored_evaluations
    from jmedllm.evaluation.stored_questions import QuestionPlaces

    custom = [options.questions] if options.questions else []
    stored = stored_evaluations(folders, scorers, QuestionPlaces(options.data, custom))
    if options.diff:
        _print_diff(stored, as_json=options.as_json)
        return
    results = [each.write() for each in stored]
    _report_unfinished(stored)
    if options.as_json:
        print_json(results)
        return
    print_report(results)
    more = [
        *data_options(options.data or Path("data")),
        *(part for file in custom for part in ("--questions", str(file))),
    ]
    if written := [folder for folder in folders if any(each.is_finished and each.is_below(folder) for each in stored)]:
        if interrupted := [folder for folder in written if _is_interrupted(folder)]:
            print_ending("run", "RECIPE.yaml", "--output", interrupted[0], wrote=tuple(written))
            return
        print_ending("report", *written, "--html", written[0] / "report.html", *more, wrote=tuple(written))
    else:
        typer.secho(f"next:  {stored[0].command}", err=True, fg="green")


def _is_interrupted(folder: Path) -> bool:
    """Whether the folder is a run whose evaluation has not finished, so that there is nothing to report yet."""
    from jmedllm.manifest import read_manifest

    manifest = read_manifest(folder)
    return manifest is not None and "eval" not in manifest["stages"]


def _report_unfinished(stored: "Sequence[StoredEvaluation]") -> None:
    for each in stored:
        if not each.is_finished:
            have = f"{len(each.evaluation.questions):,} of {each.asked:,} items"
            typer.echo(f"{each.files.samples}: unfinished, {have}; its scores are not written", err=True)


def _print_diff(stored: "Sequence[StoredEvaluation]", *, as_json: bool) -> None:
    from dataclasses import asdict

    from jmedllm.evaluation.rescore import count_changes, count_item_scores
    from jmedllm.files import to_json
    from jmedllm.report.offline import print_changes

    changes = [change for each in stored for change in each.differences.changes]
    counts = count_changes(changes)
    numbers = count_item_scores(stored)
    truncated = [f"{each.evaluation.settings['model']} {each.name}" for each in stored if each.is_truncated]
    if as_json:
        shown = {
            "counts": counts,
            "item_scores": numbers,
            "truncated": truncated,
            "changes": [asdict(change) for change in changes],
        }
        typer.echo(to_json(shown, indent=2))
    else:
        print_changes(changes, counts, numbers, truncated, console())


@dataclass(frozen=True, slots=True)
class _Recorded:
    """Options for files of recorded responses, named like those of the command."""

    columns_of_responses: str | None
    skip_invalid: bool
    strict_letters: bool
    judge: str | None
    client: "ClientOptions"
    items: Path | None
    as_json: bool


def _prepared_judge(text: str, client: "ClientOptions") -> "JudgeModel":
    from jmedllm.evaluation.judge import prepare_judge

    if "://" in text:
        return prepare_judge(text, None, client)
    from jmedllm.precision import choose_precision  # imports torch, which a judge on a server does not need

    return prepare_judge(text, choose_precision())


def _score_files(paths: Sequence[Path], scorers: Sequence[str], asked: "QuestionSet", options: _Recorded) -> None:
    """Score responses that were recorded elsewhere."""
    from jmedllm.evaluation.benchmarks.columns import parse_map
    from jmedllm.evaluation.offline import item_rows, load_answered, score_recorded
    from jmedllm.evaluation.responses import RESPONSE_FIELDS, read_recorded
    from jmedllm.files import to_json, write_jsonl
    from jmedllm.report.offline import print_scored

    items = options.items
    if items is not None and items.resolve() in {path.resolve() for path in [*paths, asked.file] if path}:
        raise InputError(f"--items {items}: would overwrite what is scored; choose another file")
    if items is not None and items.suffix != ".jsonl":
        raise InputError(f"--items {items}: the item scores are JSON Lines; give a file name that ends in .jsonl")
    answered = load_answered(asked)
    recorded = read_recorded(
        paths,
        [*(question.id for question in answered.questions), *answered.outside],
        parse_map(options.columns_of_responses, RESPONSE_FIELDS),
        skip_invalid=options.skip_invalid,
    )
    judge = None if options.judge is None else _prepared_judge(options.judge, options.client)
    scored = score_recorded(
        answered, recorded, scorers, strict_letters=options.strict_letters, judge=judge,
        skip_invalid=options.skip_invalid,
    )  # fmt: skip
    if items is not None:
        write_jsonl(items, item_rows(scored))
    if options.as_json:
        typer.echo(to_json(scored.as_json(), indent=2))
        return
    print_scored(scored, console())
    if items is not None:
        typer.secho(f"wrote: {items}", err=True, fg="green")
