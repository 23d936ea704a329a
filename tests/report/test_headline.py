"""One sentence for each adapted model: what training changed against its base."""

from dataclasses import replace

import pytest
from test_table import result, score

from jmedllm.report.collect import CollectedItem, CollectedResult
from jmedllm.report.headline import explanation, headlines


def collected(
    model: str, right: int, n: int = 40, *, task: str = "medqa en", scorers=("answer",), base: str | None = None
) -> CollectedResult:
    """A model that has the first `right` of n items right, by every scorer."""
    benchmark, language = task.split()
    evaluated = result(model, score(benchmark, language, scorers[0], "accuracy", n, right, 0.2, 1.0))
    evaluated = replace(evaluated, settings=evaluated.settings | {"scorers": list(scorers)})
    items = {
        f"q{number}": CollectedItem(
            "hash", (), "", False, None, {name: {"value": float(number < right)} for name in scorers}
        )
        for number in range(n)
    }
    return CollectedResult(evaluated, items, {}, base, is_adapted=model != "base")


def pair(before: int, after: int, n: int = 40, task: str = "medqa en") -> list[CollectedResult]:
    return [collected("base", before, n, task=task), collected("tuned", after, n, task=task, base="base")]


CASES = {
    "a gain": (pair(10, 30), ["After tuning: +50 points [+31, +64] on medqa en, gain shown."]),
    "a loss": (pair(30, 10), ["After tuning: −50 points [−64, −31] on medqa en, loss shown."]),
    "no gain": (pair(10, 12), ["After tuning: +5 points [−4, +14] on medqa en, no gain shown."]),
    "no change": (pair(10, 10), ["After tuning: +0 points [−7, +7] on medqa en, no gain shown."]),
    "many items have a decimal": (
        pair(500, 540, 1000),
        ["After tuning: +4.0 points [+2.7, +5.2] on medqa en, gain shown."],
    ),
    "the interval excludes 0, the test does not": (
        pair(10, 15),
        ["After tuning: +12 points [+0, +24] on medqa en, no gain shown (p = 0.062)."],
    ),
    "two tasks, adjusted": (
        [*pair(10, 16), *pair(10, 10, task="medqa ja")],
        [
            "After tuning: +15 points [+2, +27] on medqa en, no gain shown (p = 0.062 after adjusting for 2 "
            "comparisons); +0 points [−7, +7] on medqa ja, no gain shown."
        ],
    ),
    "two adapted models": (
        [*pair(10, 30), collected("mfpt", 10, base="base")],
        [
            "tuned against base: +50 points [+31, +64] on medqa en, gain shown.",
            "mfpt against base: +0 points [−7, +7] on medqa en, no gain shown.",
        ],
    ),
    "the published protocol only where there is no other": (
        [
            collected("base", 10, scorers=("legacy", "likelihood")),
            replace(collected("tuned", 30, scorers=("legacy", "likelihood")), base="base"),
        ],
        ["After tuning: +50 points [+31, +64] on medqa en, gain shown."],
    ),
    "two models that are not related": (
        [replace(collected(name, right), is_adapted=False) for name, right in (("a", 10), ("b", 30))],
        [],
    ),
    "an adapter without its base": (
        [collected("tuned", 30)],
        ["Whether tuning helped on medqa en is not known: the base model was not evaluated there."],
    ),
    "a base on one of three tasks": (
        [*pair(10, 30), collected("tuned", 10, task="medqa ja"), collected("tuned", 10, task="mmlu en")],
        [
            "After tuning: +50 points [+31, +64] on medqa en, gain shown.",
            "Whether tuning helped on medqa ja, mmlu en is not known: the base model was not evaluated there.",
        ],
    ),
    "a base by another scorer": (
        [collected("base", 10, scorers=("likelihood",)), collected("tuned", 30, base="base")],
        ["Whether tuning helped on medqa en is not known: base and tuned model share no scorer there."],
    ),
    "a graded score": (
        [
            collected("base", 10, scorers=("reference",)),
            replace(collected("tuned", 30, scorers=("reference",)), base="base"),
        ],
        ["After tuning: +50 points [+35, +65] on medqa en, gain shown."],
    ),
    "one model": ([collected("base", 10)], []),
    "nothing trained": (
        [replace(collected("base", 10), aliases=("mfpt",), unchanged=("mfpt",))],
        ["mfpt is the same model as base: training changed nothing."],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_headlines(name: str) -> None:
    results, expected = CASES[name]
    lines = headlines(results)
    assert lines == expected
    assert bool(explanation(lines)) == any("points" in line for line in lines)
