"""One sentence for each adapted model: what training changed against its base."""

from dataclasses import replace

import pytest
from test_table import result, score

from jmedllm.report.collect import CollectedItem, CollectedResult
from jmedllm.report.headline import headlines


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
    return CollectedResult(evaluated, items, {}, base)


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
    "two models that are not related": ([collected("a", 10), collected("b", 30)], []),
    "one model": ([collected("base", 10)], []),
    "nothing trained": (
        [replace(collected("base", 10), aliases=("mfpt",), unchanged=("mfpt",))],
        ["mfpt is the same model as base: training changed nothing."],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_headlines(name: str) -> None:
    results, expected = CASES[name]
    assert headlines(results) == expected


def test_an_adapter_without_its_base_is_not_judged() -> None:
    tuned = collected("tuned", 30)
    settings = tuned.result.settings | {"adapter_fingerprint": "a" * 16}
    [line] = headlines([replace(tuned, result=replace(tuned.result, settings=settings))])
    assert line == "Whether tuning helped is not known: the base model was not evaluated on the same benchmark."
