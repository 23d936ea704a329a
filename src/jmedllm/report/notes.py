"""Notes below scores: the meaning of the columns, and the number of items left out."""

from collections.abc import Iterable, Iterator, Sequence

from jmedllm.evaluation.decoding import described
from jmedllm.evaluation.lengths import MOST_TRUNCATED
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.selection import account
from jmedllm.evaluation.task import EvalTask
from jmedllm.report.numbers import interval, percent
from jmedllm.report.published import METRIC, SCORER, published_scores, source
from jmedllm.report.rows import Row

BOUNDS = (
    "All values in %. Floor: the score without any skill on these items, that of an empty answer for scorer "
    f"{SCORER} and of guessing for all others. Ceiling: the score of the right answers themselves. Read a score "
    "between the two."
)
_SAMPLING = "the sampling error of n items; it does not include the choice of prompt or training seed."
INTERVAL = f"95 % interval: Wilson, {_SAMPLING}"
GRADED_INTERVAL = f"95 % interval: bootstrap for graded scores, Wilson for all others; {_SAMPLING}"
LIMITED = "n of a limited evaluation: the first items of the benchmark (--limit), not a random sample of it."
BEST_CONSTANT = (
    "Floor with two values: guessing / the best constant answer on these items, such as always the first choice."
)
AT_FLOOR = "the interval reaches down to the floor or to the best constant answer, so no skill is shown."
SAMPLED = (
    "n × samples: the score is the mean over items and samples; its interval is clustered by item, because the "
    "samples of an item are alike."
)
TRUNCATED = (
    f"more than {100 * MOST_TRUNCATED:.0f} % of the responses were cut off, so the score may be too low; evaluate "
    "again with a larger --max-new-tokens (eval.max_new_tokens in a recipe)."
)
CONTAMINATED = "contaminated: the model was trained on the questions of this test."

PUBLISHED_TEMPLATE = "medpalm_five_choice_cot"
"""Prompt template of the published rows, in both languages."""

FAILURES_SHOWN = 10
"""Number of items that a note names; the summary file names all."""

_FAILURES = {
    "too long": "too long for the model's context",
    "rejected": "refused by the server",
    "judge: too long": "not graded, too long for the judge's context",
    "judge: rejected": "not graded, refused by the judge's server",
}


def footnotes(results: Sequence[EvalResult], rows: Sequence[Row], marks: tuple[str, str] = ("~ ", "* ")) -> list[str]:
    """Return notes on these rows and results.

    Args:
        results: results of the report.
        rows: rows of its table.
        marks: see `score_notes`.
    """
    return [*score_notes(rows, marks), *_differing_prompts(results), *item_notes(results)]


def score_notes(rows: Sequence[Row], marks: tuple[str, str] = ("~ ", "* ")) -> list[str]:
    """Return notes on the columns and marks of these rows.

    Args:
        rows: rows of a table of scores.
        marks: prefixes of the notes on scores at the floor and on contaminated scores.
    """
    is_graded = any(not row.binary for row in rows)
    found = [BOUNDS, GRADED_INTERVAL if is_graded else INTERVAL, *row_notes(rows)]
    if any(row.at_floor for row in rows):
        found.append(f"{marks[0]}{AT_FLOOR}")
    if any(row.contaminated for row in rows):
        found.append(f"{marks[1]}{CONTAMINATED}")
    if any(row.published for row in rows):
        found.append(
            "published: not measured here; zero-shot, greedy, choices not shuffled, number of items not stated; floor "
            f"and ceiling are measured here. {source()}."
        )
    return found


def row_notes(rows: Sequence[Row]) -> list[str]:
    """Return notes on floors with two values, unknown floors, limited evaluations, samples and truncated responses."""
    found = [BEST_CONSTANT] if any(row.best_constant is not None for row in rows) else []
    if unknown := dict.fromkeys(row.scorer for row in rows if row.floor is None and not row.published):
        found.append(
            f"Floor unknown: scorer {', '.join(unknown)} declares none, so a score without skill is not marked."
        )
    found += [LIMITED] if any(row.selected for row in rows) else []
    found += [SAMPLED] if any(row.samples > 1 for row in rows) else []
    return [*found, f"† {TRUNCATED}"] if any(row.is_truncated for row in rows) else found


def item_notes(evaluated: Iterable[EvalTask | EvalResult]) -> list[str]:
    """Return notes on the items that each task leaves out and on how its questions were read, once for all models."""
    found: dict[str, None] = {}
    for each in evaluated:
        settings = each.settings() if isinstance(each, EvalTask) else each.settings
        if each.left_out:
            name = f"{settings['benchmark']} {settings['language']}"
            found[account(name, settings["selection"], each.selected, each.left_out)] = None
        found |= dict.fromkeys(each.notes)
        if isinstance(each, EvalResult):
            found |= dict.fromkeys([*_failures(each), *_pictures(each)])
    return list(found)


def _failures(result: EvalResult) -> Iterator[str]:
    """Yield notes on items without a response."""
    for failure, ids in result.failures.items():
        more = f" and {len(ids) - FAILURES_SHOWN:,} more" if len(ids) > FAILURES_SHOWN else ""
        yield (
            f"{result.model}, {result.settings['benchmark']} {result.settings['language']}: {len(ids):,} of "
            f"{result.asked:,} items count as no answer, {_FAILURES[failure]}: "
            f"{', '.join(ids[:FAILURES_SHOWN])}{more}."
        )


_SEEN = {
    "shown": "whose pictures the model saw",
    "blind": "whose pictures the model does not see",
    "hidden": "whose pictures were not shown",
    "missing": "whose pictures are not in the data",
    "none": "without pictures",
}


def _pictures(result: EvalResult) -> Iterator[str]:
    """Yield notes on the scores of items with pictures, apart from those of the others."""
    for scorer in dict.fromkeys(group.scorer for group in result.pictures):
        parts = ", ".join(
            f"{percent(group.value)} % of {group.n:,} items {_SEEN[group.pictures]} "
            f"({interval((group.low, group.high))})"
            for group in result.pictures
            if group.scorer == scorer
        )
        yield f"{result.model}, {result.settings['benchmark']} {result.settings['language']}, {scorer}: {parts}."


_DID = {"shown": "saw them", "blind": "does not see them", "hidden": "was not shown them"}


def differing_pictures(results: Iterable[EvalResult]) -> list[str]:
    """Return a note for each task with pictures of which its models did not see as much as one another."""
    tasks: dict[str, dict[tuple[str, str], None]] = {}
    for result in results:
        if (images := result.settings.get("images")) is not None:
            task = f"{result.settings['benchmark']} {result.settings['language']}"
            tasks.setdefault(task, {})[result.model, images] = None
    return [
        f"{task}: some items have pictures: {', '.join(f'{model} {_DID[images]}' for model, images in seen)}"
        for task, seen in tasks.items()
        if len({images for _, images in seen}) > 1
    ]


def _differing_prompts(results: Sequence[EvalResult]) -> list[str]:
    """Return a note for each difference of the prompts from those of the published rows."""
    differing: dict[str, list[str]] = {}
    for result in results:
        benchmark, language = result.settings["benchmark"], result.settings["language"]
        measured = any((score.scorer, score.metric) == (SCORER, METRIC) for score in result.scores)
        if measured and published_scores(benchmark, language) and (settings := _differing_settings(result)):
            differing.setdefault(", ".join(settings), []).append(f"{result.model} {benchmark} {language}")
    return [
        f"Prompted differently from the published rows: {'; '.join(names)} ({settings})."
        for settings, names in differing.items()
    ]


def _differing_settings(result: EvalResult) -> list[str]:
    settings = result.settings
    published = {
        "selection": "legacy",
        "split": "test",
        "shots": 0,
        "chat": False,
        "answer_as": "text",
        "max_new_tokens": 256,
        "decoding": "greedy",
    }
    found = [
        f"{key} {described(settings[key]) if key == 'decoding' else settings[key]}"
        for key, value in published.items()
        if settings[key] != value
    ]
    if not settings["prompt_pack"].endswith(PUBLISHED_TEMPLATE):
        found.insert(0, f"prompt pack {settings['prompt_pack']}")
    if result.asked < result.selected:
        found.append(f"first {result.asked:,} of {result.selected:,} items")
    return found
