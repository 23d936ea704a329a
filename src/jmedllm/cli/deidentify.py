"""The command `jmedllm corpus deidentify`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jmedllm.cli.ending import print_ending
from jmedllm.cli.options import AsJson
from jmedllm.errors import InputError

if TYPE_CHECKING:
    from jmedllm.corpus.deidentify.evaluate import DeidentificationScores, Share
    from jmedllm.corpus.deidentify.known import Known
    from jmedllm.corpus.deidentify.report import DeidentificationReport


def corpus_deidentify(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Files and folders: .txt .md .jsonl .html .pdf .docx, also .gz, .zst.",
            show_default="none with --evaluate",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Directory for the text. An interrupted run resumes from here.", show_default="none with --evaluate"
        ),
    ] = None,
    replacement: Annotated[
        Literal["surrogate", "mask"],
        typer.Option(help="Replace by surrogate (other names, moved dates) or mask (a tag of the kind)."),
    ] = "surrogate",
    known: Annotated[
        list[Path] | None,
        typer.Option(
            help="CSV list of known patients or staff; repeat for several. It is read, never stored or logged.",
            show_default="none",
        ),
    ] = None,
    known_column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HEADER=KIND",
            help="What a column of the lists is, such as 'Pt name=name'; repeatable.",
            show_default="known headers",
        ),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Keep the key of the surrogates in this file, so that a later run draws the same ones.",
            show_default="dropped",
        ),
    ] = None,
    patient_field: Annotated[
        str | None,
        typer.Option(
            help="Key of the patient in .jsonl files: the same surrogates in all documents of a patient.",
            show_default="a patient's number in the text, else each document apart",
        ),
    ] = None,
    review: Annotated[
        bool,
        typer.Option("--review", help="Also write review.jsonl: uncertain finds and rare facts, with their text."),
    ] = False,
    field: Annotated[str, typer.Option(help="Key of the text in .jsonl files.")] = "text",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of parallel processes.", show_default="one per CPU core")
    ] = None,
    evaluate: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Measure instead: lines with text and spans of start, end and label.",
            show_default="none",
        ),
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LABEL=KIND",
            help="With --evaluate: our kind for a label of the file, or keep if it marks no identifier; repeatable.",
            show_default="none",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replace names, dates, places and numbers in clinical text."""
    from jmedllm.corpus.deidentify.lexicon import lexicon
    from jmedllm.processes import available_cores

    columns = _columns(known_column or [])
    if evaluate is not None:
        if paths or output or key_file or patient_field or review:
            raise InputError(
                "--evaluate measures and writes nothing; leave out PATH, --output, --key-file, --patient-field and "
                "--review"
            )
        from jmedllm.corpus.deidentify.known import read_known

        lists = read_known(known, columns, lexicon()) if known else None
        _evaluate(evaluate, _labels(label or []), lists, as_json=as_json)
        return
    if not paths or output is None:
        raise InputError("name the files and --output DIR, or --evaluate FILE.jsonl")
    if label:
        raise InputError("--label is part of --evaluate FILE.jsonl; add that, or leave it out")
    from jmedllm.corpus.deidentify.config import DeidentifyConfig
    from jmedllm.corpus.deidentify.run import deidentify
    from jmedllm.files import to_json

    config = DeidentifyConfig(
        replacement=replacement,
        known=[str(path) for path in known or ()],
        known_columns=columns,
        key_file=str(key_file) if key_file else None,
        patient_field=patient_field,
        review=review,
    )
    report = deidentify(paths, field, config, output, processes or available_cores())
    if as_json:
        typer.echo(to_json(report.as_json(), indent=2))
        return
    _print_report(report, output)


def _print_report(report: "DeidentificationReport", output: Path) -> None:
    from jmedllm.corpus.deidentify.report import REPORT, WARNING

    typer.echo(f"{report.documents:,} documents, {report.characters:,} characters")
    for kind, count in report.by_label().items():
        typer.echo(f"{kind:13} {count:>9,}")
    rare = report.rare_facts
    typer.echo(
        f"rare facts: {rare['rare']:,} of {rare['documents']:,} documents with age, sex and disease share them with "
        f"fewer than {rare['k'] - 1} others"
    )
    patients = ", ".join(f"{name} ({count:,})" for name, count in report.patients.items())
    typer.echo(f"documents by what identifies their patient: {patients}")
    if report.skipped:
        typer.secho(
            f"{len(report.skipped):,} files or lines were not read; see {output / REPORT}", err=True, fg="yellow"
        )
    typer.secho(WARNING, err=True, fg="yellow")
    print_ending("corpus", "build", output, "--output", "CORPUS", wrote=(output, output / REPORT))


def _columns(options: list[str]) -> dict[str, str]:
    from jmedllm.corpus.deidentify.known_list import COLUMNS
    from jmedllm.errors import unknown

    found = {}
    for option in options:
        header, sign, kind = option.rpartition("=")
        if not sign or not header:
            raise InputError(f"--known-column {option!r}: expected HEADER=KIND, such as 'Pt name=name'")
        if kind not in COLUMNS:
            raise unknown("kind of --known-column", kind, COLUMNS)
        found[header] = kind
    return found


def _labels(options: list[str]) -> dict[str, str]:
    from jmedllm.corpus.deidentify.evaluate import KEEP
    from jmedllm.corpus.deidentify.spans import LABELS
    from jmedllm.errors import unknown

    found = {}
    for option in options:
        theirs, sign, ours = option.rpartition("=")
        if not sign or not theirs:
            raise InputError(f"--label {option!r}: expected LABEL=KIND, such as PERSON=NAME")
        if ours not in (*LABELS, KEEP):
            raise unknown("kind of --label", ours, (*LABELS, KEEP))
        found[theirs] = ours
    return found


def _evaluate(file: Path, labels: dict[str, str], known: "Known | None", *, as_json: bool) -> None:
    from dataclasses import asdict
    from functools import partial
    from time import process_time

    from jmedllm.corpus.deidentify.evaluate import evaluate, read_annotated, unknown_labels
    from jmedllm.corpus.deidentify.find import find
    from jmedllm.files import to_json
    from jmedllm.output import visible

    texts = read_annotated(file, labels)
    if others := unknown_labels(texts):
        listed = ", ".join(map(visible, others))
        typer.secho(f"counted as identifiers, though no kind of ours: {listed}; see --label", err=True, fg="yellow")
    find("")  # loads lists and model, which the speed does not count
    began = process_time()
    scores = evaluate(texts, partial(find, known=known))
    speed = round(sum(len(each.text) for each in texts) / max(process_time() - began, 1e-9))
    if as_json:
        row = asdict(scores) | {
            "false_alarms_per_10000": scores.false_alarms_per_10000,
            "characters_per_second": speed,
        }
        typer.echo(to_json(row, indent=2))
        return
    _print_scores(scores, len(texts), speed)


def _print_scores(scores: "DeidentificationScores", texts: int, speed: int) -> None:
    from jmedllm.output import visible

    typer.echo(f"{texts:,} texts; {speed:,} characters a second on one core\n")
    width = max(16, *(len(row.name) for row in scores.recall))

    def line(name: str, row: "Share") -> str:
        return f"{visible(name):{width}} {row.count:>7,} {row.of:>7,}  {_percent(row)}"

    typer.echo(f"{'recall':{width}} {'found':>7} {'of':>7}  share [95 % interval]")
    for row in scores.recall:
        typer.echo(line(row.name, row))
    typer.echo("\n" + line("precision", scores.precision))
    if scores.touched.of and scores.false_alarms_per_10000 is not None:  # None: the clean texts are all empty
        typer.echo(line("clean, touched", scores.touched))
        alarms = ", ".join(f"{label} {count:,}" for label, count in scores.false_alarms.items()) or "none"
        typer.echo(f"false alarms per 10,000 characters of clean text: {scores.false_alarms_per_10000:.2f} ({alarms})")


def _percent(row: "Share") -> str:
    if row.value is None or row.low is None or row.high is None:
        return "-"
    return f"{100 * row.value:.1f} % [{100 * row.low:.1f}, {100 * row.high:.1f}]"
