"""The table of scores, for the terminal and as Markdown, published rows beside ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jmedllm.evaluation.question import Language
from jmedllm.evaluation.statistics import Score
from jmedllm.evaluation.task import EvalResult
from jmedllm.report.accounts import accounts
from jmedllm.report.details import detail_markdown, details, print_detail
from jmedllm.report.published import METRIC, TRACK, PublishedScore, published_scores, source

_BOUNDS_NOTE = (
    "All values in %. Floor: what no skill earns on these items, an empty answer in scorer legacy and chance "
    "elsewhere. Ceiling: what the right answer itself earns. A score means something only between."
)
_INTERVAL_NOTE = "95 % interval: Wilson, the sampling error of n items. It says nothing of prompt or training seed."
_FLOOR_NOTE = "the interval reaches down to the floor, so no skill is shown."
_CONTAMINATED_NOTE = "contaminated: the model was trained on the questions of this test."


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Values are shares from 0 to 1; None where a published source does not say."""

    model: str
    benchmark: str
    language: Language
    scorer: str
    metric: str
    n: int | None
    value: float
    interval: tuple[float, float] | None
    floor: float | None
    ceiling: float | None
    published: bool = False
    contaminated: bool = False
    note: str = ""
    no_answer: int | None = None

    @property
    def measure(self) -> str:
        """Track and metric, which rows of one paper must share to be compared."""
        return f"{self.scorer} {self.metric}"

    @property
    def at_floor(self) -> bool:
        """Whether the interval reaches down to the floor."""
        return self.interval is not None and self.floor is not None and self.interval[0] <= self.floor

    @property
    def mark(self) -> str:
        """The sign at its score that a note explains; empty where there is nothing to say."""
        return "*" if self.contaminated else "~" if self.at_floor else ""


def build_rows(results: Sequence[EvalResult]) -> list[Row]:
    """Rows for our sittings, and for what is published on the same benchmarks by the same track and metric.

    Rows that may be compared stand together, ours in the order given and then the published ones, best first.
    """
    ours = [_our_row(result.model, score) for result in results for score in result.scores]
    sets = list(dict.fromkeys((row.benchmark, row.language) for row in ours))
    beside = dict.fromkeys((row.benchmark, row.language) for row in ours if row.measure == f"{TRACK} {METRIC}")
    published = [_published_row(score) for sat in beside for score in published_scores(*sat)]
    rows = [*ours, *published]
    measures = list(dict.fromkeys((row.scorer, row.metric) for row in rows))
    return sorted(
        rows,
        key=lambda row: (
            sets.index((row.benchmark, row.language)),
            measures.index((row.scorer, row.metric)),
        ),
    )


def print_table(results: Sequence[EvalResult], console: Console) -> None:
    """Print one table for each benchmark and language, a section for each metric in it, and the footnotes."""
    rows = build_rows(results)
    widest = max((cell_len(name) for row in rows for name in (_INDENT + row.model, row.measure)), default=0)
    room = max(12, console.width - sum(_GAP + width for _, width in _COLUMNS))
    for (benchmark, language), members in groupby(rows, key=lambda row: (row.benchmark, row.language)):
        console.print(_terminal_table(f"{benchmark} {language}", list(members), min(widest, room)))
        console.print()
    for note in notes(results, rows):
        console.print(Text(note, style="dim"))
    for detail in details(results):
        console.print()
        print_detail(detail, console)


def markdown(results: Sequence[EvalResult]) -> str:
    """The same rows as a Markdown section: heading, table, footnotes, and what the scores can be traced by."""
    rows = build_rows(results)
    head = ("Model", "Benchmark", "Language", "Track", "Metric", "n", "Score", "95 % interval", "Floor")
    lines = [_markdown_line((*head, "Ceiling", "No answer", "Note"))]
    lines.append("|---|---|---|---|---|---:|---:|---:|---:|---:|---:|---|")
    lines += [_markdown_line(_markdown_cells(row)) for row in rows]
    said = [_BOUNDS_NOTE, _INTERVAL_NOTE]
    if any(row.at_floor for row in rows):
        said.append(f"At the floor: {_FLOOR_NOTE}")
    if any(row.contaminated for row in rows):
        said.append(_CONTAMINATED_NOTE.capitalize())
    if any(row.published for row in rows):
        said.append(f"Published: {_published_note()}")
    said += [*_asked_otherwise(results), *accounts(results)]
    scores = "\n".join(lines) + "\n\n" + "\n".join(f"- {note}" for note in said)
    more = "".join(f"{detail_markdown(detail)}\n" for detail in details(results))
    return f"## Scores\n\n{scores}\n\n{more}## Trace\n\n{_trace(results)}\n"


def _trace(results: Sequence[EvalResult]) -> str:
    """Hashes of model, prompt, questions and records for every paper."""
    head = ("Model", "Paper", "Model fingerprint", "Precision", "Prompt pack", "Questions", "Records")
    lines = [_markdown_line((*head, "jmedllm")), "|---|---|---|---|---|---|---|---|"]
    for result in results:
        settings, trace = result.settings, result.trace
        adapter = settings.get("adapter_fingerprint")
        cells = (
            result.model,
            f"{settings['benchmark']} {settings['language']}",
            settings["fingerprint"] + (f" + {adapter}" if adapter else ""),
            settings["precision"],
            f"{settings['prompt_pack']} {settings['prompt_pack_hash']}",
            trace["questions"],
            trace["records"][:16],
            trace["jmedllm"],
        )
        lines.append(_markdown_line(cells))
    return "\n".join(lines)


def _our_row(model: str, score: Score) -> Row:
    return Row(
        model=model,
        benchmark=score.benchmark,
        language=score.language,
        scorer=score.scorer,
        metric=score.metric,
        n=score.n,
        value=score.value,
        interval=(score.low, score.high),
        floor=score.floor,
        ceiling=score.ceiling,
        no_answer=score.no_answer,
    )


def _published_row(score: PublishedScore) -> Row:
    return Row(
        model=score.model,
        benchmark=score.benchmark,
        language=score.language,
        scorer=TRACK,
        metric=METRIC,
        n=None,
        value=score.value,
        interval=None,
        floor=score.floor,
        ceiling=score.ceiling,
        published=True,
        contaminated=score.contaminated,
        note=score.note,
    )


_COLUMNS = (("n", 5), ("score", 6), ("95 % interval", 13), ("floor", 5), ("ceiling", 7))
"""Headings after the model's, and their widths in terminal cells."""

PUBLISHED_TEMPLATE = "medpalm_five_choice_cot"
"""Template that the published rows were asked with, in both languages."""

_INDENT = "  "
"""Before a model's name, below the metric it was measured by."""

_GAP = 2
"""Cells between two columns: the box's divider and one of padding."""


def _terminal_table(title: str, rows: Sequence[Row], model_width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), show_edge=False, pad_edge=False)
    table.add_column(title, width=model_width, overflow="fold")
    for name, width in _COLUMNS:
        heading = Text(name, style="not bold dim")
        table.add_column(heading, justify="right", min_width=width, no_wrap=True)
    for measure, members in groupby(rows, key=lambda row: row.measure):
        table.add_row(Text(measure, style="italic"))
        for row in members:
            _add_row(table, row)
    return table


def _add_row(table: Table, row: Row) -> None:
    table.add_row(
        Text(_INDENT + row.model),
        _count(row.n),
        _percent(row.value) + (row.mark or " "),
        "published" if row.published else _interval(row.interval),
        _percent(row.floor),
        _percent(row.ceiling),
        style="dim" if row.published else "",
    )


def notes(results: Sequence[EvalResult], rows: Sequence[Row]) -> list[str]:
    """What must be said of these rows, with the marks that stand at their scores."""
    found = [_BOUNDS_NOTE, _INTERVAL_NOTE]
    if any(row.at_floor for row in rows):
        found.append(f"~ {_FLOOR_NOTE}")
    if any(row.contaminated for row in rows):
        found.append(f"* {_CONTAMINATED_NOTE}")
    if any(row.published for row in rows):
        found.append(f"published: {_published_note()}")
    return [*found, *_asked_otherwise(results), *accounts(results)]


def _published_note() -> str:
    return (
        "not measured here; zero-shot, greedy, choices not shuffled, number of items not stated; floor and "
        f"ceiling are ours. {source()}."
    )


def _asked_otherwise(results: Sequence[EvalResult]) -> list[str]:
    """For each way in which ours were asked otherwise than the published rows beside them, a note."""
    differing: dict[str, list[str]] = {}
    for result in results:
        benchmark, language = result.settings["benchmark"], result.settings["language"]
        measured = any((score.scorer, score.metric) == (TRACK, METRIC) for score in result.scores)
        if measured and published_scores(benchmark, language) and (ways := _ways(result)):
            differing.setdefault(", ".join(ways), []).append(f"{result.model} {benchmark} {language}")
    return [
        f"Asked otherwise than the published rows: {'; '.join(names)} ({ways})." for ways, names in differing.items()
    ]


def _ways(result: EvalResult) -> list[str]:
    settings = result.settings
    published = {
        "selection": "legacy",
        "split": "test",
        "shots": 0,
        "chat": False,
        "answer_as": "text",
        "max_new_tokens": 256,
    }
    ways = [f"{key} {settings[key]}" for key, value in published.items() if settings[key] != value]
    if not settings["prompt_pack"].endswith(PUBLISHED_TEMPLATE):
        ways.insert(0, f"prompt pack {settings['prompt_pack']}")
    if result.asked < result.selected:
        ways.append(f"first {result.asked:,} of {result.selected:,} items")
    return ways


def _markdown_cells(row: Row) -> tuple[str, ...]:
    marks = (("published", row.published), ("contaminated", row.contaminated), ("at the floor", row.at_floor))
    notes = [name for name, holds in marks if holds] + ([row.note] if row.note else [])
    return (
        f"*{row.model}*" if row.published else row.model,
        row.benchmark,
        row.language,
        row.scorer,
        row.metric,
        _count(row.n),
        _percent(row.value),
        _interval(row.interval),
        _percent(row.floor),
        _percent(row.ceiling),
        _count(row.no_answer),
        "; ".join(notes),
    )


def _markdown_line(cells: Sequence[str]) -> str:
    # A bar inside a cell would end it.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _count(n: int | None) -> str:
    return "-" if n is None else f"{n:,}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _interval(interval: tuple[float, float] | None) -> str:
    return "-" if interval is None else f"[{_percent(interval[0])}, {_percent(interval[1])}]"
