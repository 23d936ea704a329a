"""Measure size and loading time of a results page with 20,000 items.

    python benchmarks/page.py --data ../shared/data --output build/page-speed

A script answers real questions of all benchmarks on disk with 120 characters and probabilities. Needs Chromium.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

TASKS = {"test": "igakuqa,medqa:en,medqa-5:en,medmcqa:en,mmlu:en,jmmlu:ja", "train": "yakugakuqa:ja"}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


class Scripted:
    """Returns an answer with reasoning, and probabilities that differ between items."""

    name = "scripted"

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        """Never called: the prompts are plain."""
        return ""

    def answer(self, requests: Any, generation_config: Any) -> Any:
        """Answer one request after another."""
        from random import Random

        from jmedllm.models.backends.base import Completion, Response

        for index, request in enumerate(requests):
            draw = Random(request.id)
            words = draw.sample(request.prompt.split() or [request.prompt], 1)[0][:60]
            text = f"{words} {request.prompt[-60:]} 答え：{draw.choice('abcde')}"
            scores = tuple(-5 * draw.random() for _ in request.choices or request.labels)
            yield index, Response(Completion(text, text), scores or None)


def main() -> None:
    """Evaluate, write the page and open it."""
    from playwright.sync_api import sync_playwright

    from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
    from jmedllm.evaluation.evaluate_task import PreparedModel
    from jmedllm.evaluation.prompts.format import PromptConfig
    from jmedllm.evaluation.stored_questions import QuestionPlaces
    from jmedllm.report import collect, questions_of
    from jmedllm.report.page import write_page

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("build/page-speed"))
    options = parser.parse_args()
    model = {"model": "scripted", "fingerprint": "scripted", "precision": "none"}
    for split, names in TASKS.items():
        settings = EvalConfig(benchmarks=names.split(","), selection="all", split=split)
        evaluated = tasks(settings, PromptConfig(answer_as="letter"), options.data)
        evaluate_tasks(evaluated, PreparedModel(model, Scripted), options.output)
    began = time.perf_counter()
    found = collect([options.output])
    html = options.output / "page.html"
    write_page(html, found, questions_of(found, QuestionPlaces(options.data)), "20,000 items")
    made = time.perf_counter() - began
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1366, "height": 850})
        page.goto(html.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        ready = page.evaluate("performance.now()")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        search = page.evaluate(
            """() => { const q = document.getElementById("q"); const began = performance.now(); q.value = "贫血";
            q.dispatchEvent(new Event("input")); return performance.now() - began; }"""
        )
        again = page.evaluate(
            """() => { const q = document.getElementById("q"); const began = performance.now(); q.value = "貧血";
            q.dispatchEvent(new Event("input")); return performance.now() - began; }"""
        )
        browser.close()
    measured = {
        "items": sum(len(each.items) for each in found),
        "megabytes": html.stat().st_size / 1e6,
        "written_s": made,
        "first_paint_ms": paint,
        "items_ready_ms": ready,
        "first_search_ms": search,
        "next_search_ms": again,
    }
    print(json.dumps({name: round(value, 2) for name, value in measured.items()}, indent=2))


if __name__ == "__main__":
    main()
