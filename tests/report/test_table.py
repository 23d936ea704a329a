"""The table of scores as a reader sees it."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from jmedllm.evaluation.proportions import wilson
from jmedllm.evaluation.result import EvalResult
from jmedllm.evaluation.statistics import Score
from jmedllm.report import build_rows, markdown, print_table
from jmedllm.report.card.scores import scores as card_scores
from jmedllm.report.notes import footnotes
from jmedllm.report.published import published_scores


def score(benchmark, language, scorer, metric, n, correct, floor, ceiling) -> Score:
    low, high = wilson(correct, n)
    return Score(benchmark, language, scorer, metric, n, correct, correct / n, low, high, floor, ceiling)


def result(model: str, *scores: Score) -> EvalResult:
    settings = {
        "model": model,
        "benchmark": scores[0].benchmark,
        "language": scores[0].language,
        "fingerprint": "f" * 16,
        "precision": "float32",
        "selection": "legacy",
        "shots": 0,
        "chat": False,
        "answer_as": "text",
        "max_new_tokens": 256,
        "decoding": "greedy",
        "split": "test",
        "prompt_pack": "instruction",
        "prompt_pack_hash": "p" * 16,
    }
    return EvalResult(
        settings,
        scores[0].n,
        scores[0].n,
        scores,
        (),
        None,
        (),
        {"questions": "q" * 16, "samples": "r" * 16, "jmedllm": "0.1.0"},
    )


def results() -> list[EvalResult]:
    return [
        result(
            model,
            score("igakuqa", "ja", "legacy", "gestalt_match", 1450, gestalt, 0.1697, 0.9924),
            score("igakuqa", "ja", "likelihood", "accuracy", 1450, accuracy, 0.1841, 1.0),
            score("demo", "en", "likelihood", "accuracy", 126, 126, 0.2, 1.0),
        )
        for model, gestalt, accuracy in (("base [tiny]", 250, 300), ("runs/demo/tuned", 700, 720))
    ]


def printed(width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_table(results(), console)
    return console.file.getvalue()


def test_rows_that_may_be_compared_are_together():
    rows = build_rows(results())
    groups = list(dict.fromkeys((row.benchmark, row.language, row.measure) for row in rows))
    assert groups == [
        ("igakuqa", "ja", "legacy gestalt_match"),
        ("igakuqa", "ja", "likelihood accuracy"),
        ("demo", "en", "likelihood accuracy"),
    ]
    first = [row for row in rows if row.measure == "legacy gestalt_match"]
    assert [row.model for row in first][:3] == ["base [tiny]", "runs/demo/tuned", "JMedLLM-v1-7B (ja)"]
    assert [row.published for row in first] == [False, False] + [True] * 13
    assert [row.at_floor for row in first][:2] == [True, False]


@pytest.mark.parametrize(
    ("constant", "at_floor"), [(None, False), (0.3, False), (0.75, True)], ids=["none", "below", "within the interval"]
)
def test_a_score_that_a_constant_answer_may_reach_is_at_the_floor(constant: float | None, at_floor: bool) -> None:
    found = replace(score("demo", "en", "answer", "accuracy", 100, 80, 0.2, 1.0), constant_floor=constant)
    assert build_rows([result("always a", found)])[0].at_floor is at_floor
    floors = "20.0" if constant is None else f"20.0 / {100 * constant:.1f}"
    console = Console(file=io.StringIO(), width=80)
    print_table([result("always a", found)], console)
    assert floors in console.file.getvalue() and f"| {floors} | 100.0 |" in markdown([result("always a", found)])
    card = card_scores([result("always a", found)], [])
    assert f"| {floors} | 100.0 |" in card
    for text in (console.file.getvalue(), card):
        assert ("the best constant answer on these items" in " ".join(text.split())) == (constant is not None)


def test_terminal_table():
    lines = [line.rstrip() for line in printed(100).splitlines()]
    assert lines[:6] == [
        "igakuqa ja                         n  score  95 % interval  floor  ceiling",
        "──────────────────────────────────────────────────────────────────────────",
        "legacy gestalt match",
        "  base [tiny]                  1,450  17.2~   [15.4, 19.3]   17.0     99.2",
        "  runs/demo/tuned              1,450  48.3    [45.7, 50.8]   17.0     99.2",
        "  JMedLLM-v1-7B (ja)               -  52.5       published   17.0     99.2",
    ]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_no_row_wraps(width):
    table = [line for line in printed(width).splitlines() if line.startswith(("  base", "  runs", "  Llama3"))]
    assert len(table) == 9
    assert printed(width).split("All values")[0] == printed(80).split("All values")[0]


def test_markdown():
    text = markdown(results())
    assert text.startswith("## Scores\n\n| Model | Benchmark |")
    assert (
        "| base [tiny] | igakuqa | ja | legacy | gestalt_match | 1,450 | 17.2 | [15.4, 19.3] | 17.0 | 99.2 | 0 "
        "| at the floor |\n"
    ) in text
    assert (
        "| *MedSwallow-70B* | igakuqa | ja | legacy | gestalt_match | - | 46.5 | - | 17.0 | 99.2 | - "
        "| published; 45.5 with shuffled choices |\n"
    ) in text
    scores, trace = ([line for line in part.splitlines() if line.startswith("|")] for part in text.split("## Trace"))
    assert {line.count("|") for line in scores} == {13}
    assert {line.count("|") for line in trace} == {9}
    assert f"| base [tiny] | igakuqa ja | {'f' * 16} | float32 | instruction {'p' * 16} |" in trace[2]
    assert "- published: not measured here" in text
    assert "contaminated" not in text


def test_a_limited_evaluation_names_the_number_of_selected_items():
    limited = replace(result("m", score("medmcqa", "en", "likelihood", "accuracy", 20, 8, 0.25, 1.0)), selected=4183)
    console = Console(file=io.StringIO(), width=80)
    print_table([limited], console)
    assert "20 of 4,183  40.0" in console.file.getvalue()
    assert "first items of the benchmark (--limit), not a random sample" in " ".join(console.file.getvalue().split())
    assert "| 20 of 4,183 | 40.0" in markdown([limited]) and "--limit" not in markdown(results())


def test_contaminated_scores_are_marked():
    evaluated = [result("m", score("medqa", "ja", "legacy", "gestalt_match", 1273, 400, 0.27, 0.97))]
    console = Console(file=io.StringIO(), width=80)
    print_table(evaluated, console)
    assert "79.3*      published" in console.file.getvalue()
    assert "* contaminated: the model was trained" in console.file.getvalue()
    assert "| published; contaminated; 78.8 with shuffled choices |" in markdown(evaluated)


def test_published_rows_are_shown_only_with_scores_of_the_same_measure():
    """A score by another scorer or metric next to 52.5 would be compared with it, wrongly."""
    likelihood = result("m", score("igakuqa", "ja", "likelihood", "accuracy", 1450, 400, 0.2, 1.0))
    exact = result("m", score("medqa", "en", "legacy", "exact_match", 1273, 100, 0.0, 1.0))
    legacy = result("m", score("igakuqa", "en", "legacy", "gestalt_match", 1450, 400, 0.16, 0.93))
    assert not any(row.published for row in build_rows([likelihood, exact]))
    for text in (markdown([likelihood, exact]), "".join(footnotes([exact], build_rows([exact])))):
        assert "ublished" not in text
    rows = build_rows([likelihood, exact, legacy])
    assert {(row.benchmark, row.language, row.measure) for row in rows if row.published} == {
        ("igakuqa", "en", "legacy gestalt_match")
    }


def test_prompts_that_differ_from_the_published_ones_are_reported():
    ours = result("m", score("igakuqa", "ja", "legacy", "gestalt_match", 1450, 400, 0.17, 0.99))
    assert "(prompt pack instruction).\n" in markdown([ours])
    as_published = replace(ours, settings=ours.settings | {"prompt_pack": "sukeda2024:medpalm_five_choice_cot"})
    assert "Prompted differently" not in markdown([as_published])
    few = replace(as_published, settings=as_published.settings | {"shots": 3, "chat": True})
    assert "published rows: m igakuqa ja (shots 3, chat True)." in markdown([few])
    part = replace(as_published, asked=10, settings=as_published.settings | {"split": "train"})
    assert "published rows: m igakuqa ja (split train, first 10 of 1,450 items)." in markdown([part])


def test_a_bar_in_a_name_stays_in_its_cell():
    text = markdown([result("a|b", score("own", "ja", "likelihood", "accuracy", 4, 2, 0.2, 1.0))])
    assert "| a\\|b | own |" in text
    assert "Published" not in text


@pytest.mark.parametrize(
    ("benchmark", "language", "n"),
    [
        ("igakuqa", "ja", 13),
        ("igakuqa", "en", 14),
        ("medqa", "ja", 9),
        ("medqa", "en", 11),
        ("medmcqa", "ja", 9),
        ("medmcqa", "en", 11),
        ("medqa-5", "en", 0),
    ],
)
def test_published_scores(benchmark, language, n):
    scores = published_scores(benchmark, language)
    assert len(scores) == n
    assert scores == sorted(scores, key=lambda score: -score.value)
    assert [s.model for s in scores if s.contaminated] == (["MedSwallow-70B"] if benchmark == "medqa" else [])
