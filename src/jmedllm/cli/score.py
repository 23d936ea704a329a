"""The command `jmedllm score`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from jmedllm.cli.options import Data, Map, SkipInvalid, question_map, split
from jmedllm.cli.printing import console
from jmedllm.errors import InputError


def score(
    responses: Annotated[list[Path], typer.Option(help="Files of id and response, one or more.")],
    more: Annotated[list[Path] | None, typer.Argument(metavar="[FILE...]", hidden=True)] = None,
    benchmark: Annotated[str | None, typer.Option(help="Benchmark that was answered.")] = None,
    questions: Annotated[Path | None, typer.Option(help="Or your own questions that were answered.")] = None,
    year: Annotated[int | None, typer.Option(help="Only this year of igakuqa.")] = None,
    columns: Map = None,
    columns_of_responses: Annotated[
        str | None, typer.Option("--map-responses", help="Columns of the responses: id=qid,response=output.")
    ] = None,
    skip_invalid: SkipInvalid = False,
    language: Annotated[
        Literal["ja", "en"] | None, typer.Option(help="Language it was answered in [the only one; else ja].")
    ] = None,
    scorer: Annotated[str, typer.Option(help="answer, legacy, official, with commas between.")] = "answer",
    selection: Annotated[str, typer.Option(help="Which items: all, graded or legacy.")] = "all",
    strict_letters: Annotated[
        bool, typer.Option("--strict-letters", help="Read answers by a plain comma split only.")
    ] = False,
    items: Annotated[
        Path | None, typer.Option(help="Write the first track's verdict on each item to this .jsonl file.")
    ] = None,
    data: Data = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Score recorded answers without any model."""
    from jmedllm.evaluation.benchmarks.columns import parse_map
    from jmedllm.evaluation.benchmarks.custom import ReadOptions
    from jmedllm.evaluation.offline import exam_answered, item_rows, score_recorded
    from jmedllm.evaluation.responses import RESPONSE_FIELDS, read_recorded
    from jmedllm.files import to_json, write_jsonl
    from jmedllm.report.offline import print_scored

    answered = [*responses, *(more or ())]
    if items is not None and items.resolve() in {path.resolve() for path in [*answered, questions] if path}:
        raise InputError(f"--items {items}: would overwrite what is scored; choose another file")
    read_options = ReadOptions(tuple(question_map(columns).items()), skip_invalid and questions is not None)
    asked = exam_answered(
        benchmark, questions, language, data, year=year, selection=selection, read_options=read_options
    )
    given = read_recorded(
        answered,
        [question.id for question in asked.questions],
        parse_map(columns_of_responses, RESPONSE_FIELDS),
        skip_invalid=skip_invalid,
    )
    scored = score_recorded(asked, given, split(scorer), strict_letters=strict_letters)
    if items is not None:
        write_jsonl(items, item_rows(scored))
    if as_json:
        typer.echo(to_json(scored.as_json(), indent=2))
    else:
        print_scored(scored, console())
