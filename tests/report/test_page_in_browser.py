"""The HTML page as people use it, in headless Chromium."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import GRADED, HOSTILE, Scripted, evaluate_exam, evaluate_igakuqa, gold, trained

from jmedllm.evaluation.benchmarks.custom import read_all
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.stored_questions import QuestionPlaces
from jmedllm.files import to_json
from jmedllm.report import collect, questions_of
from jmedllm.report.page import write_page

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine; on Debian: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    collected = collect(evaluate_igakuqa(shared, folder))
    write_page(folder / "page.html", collected, questions_of(collected, QuestionPlaces(shared)), "test", [trained()])
    return (folder / "page.html").as_uri()


class Page:
    """An open page, and all that went wrong on it."""

    def __init__(self, browser: Any, address: str, fragment: str = "") -> None:
        self.problems: list[str] = []
        self.page = browser.new_page(viewport={"width": 1366, "height": 900})
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("dialog", lambda dialog: self.problems.append(dialog.message))
        self.page.on("request", lambda request: self.problems.append(request.url))
        self.page.goto(address + fragment)
        self.page.wait_for_selector("html[data-ready]")
        assert self.problems.pop(0) == address + fragment.partition("#")[0]

    def count(self) -> str:
        return self.page.inner_text("#count")

    def choose(self, **filters: str) -> str:
        for name, value in filters.items():
            self.page.select_option(f"#{name}", value)
        return self.count()

    def item(self) -> str:
        return self.page.inner_text("#detail h3")


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Page]:
    opened = Page(browser, address)
    yield opened
    assert opened.problems == []
    opened.page.close()


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({}, "80 of 80 items"),
        ({"language": "ja"}, "40 of 80 items"),
        ({"language": "en", "outcome": "right"}, "40 of 80 items"),
        ({"model": "knows", "outcome": "wrong"}, "0 of 80 items"),
        ({"model": "knows", "outcome": "right"}, "80 of 80 items"),
        ({"model": "hostile <b>", "outcome": "none"}, "8 of 80 items"),
        ({"outcome": "prohibited", "language": "ja"}, "{prohibited} of 80 items"),
        ({"outcome": "disagree", "language": "ja"}, "{disagree} of 80 items"),
        ({"scorer": "likelihood", "model": "knows", "outcome": "right", "language": "ja"}, "{first} of 80 items"),
    ],
)
def test_filters(opened: Page, shared: Path, filters: dict[str, str], count: str) -> None:
    from jmedllm.evaluation.benchmarks import load

    questions = load("igakuqa", "ja", shared)[:40]
    silent = {q.id for q in questions if q.id.endswith("1")}
    reckless = {q.id for q in questions if q.prohibited}
    known = {
        "prohibited": len(reckless),
        "disagree": len(reckless | silent),
        "first": sum(q.gold == frozenset(range(len(q.gold))) for q in questions),
    }
    assert opened.choose(**filters) == count.format(**known)


def test_subjects_are_those_of_the_language(opened: Page) -> None:
    opened.choose(language="ja")
    subjects = opened.page.eval_on_selector_all("#subject option", "options => options.map(o => o.value)")
    assert "小児科" in subjects
    assert opened.choose(subject="小児科") == "2 of 80 items"
    assert "小児科" in opened.page.inner_text("#detail .chips")


@pytest.mark.parametrize("query", ["gaucher", "ＧＡＵＣＨＥＲ", "112a1 高アンモニア", "Gaucher ammon"])
def test_search_folds_width_and_case(opened: Page, query: str) -> None:
    opened.page.fill("#q", query)
    assert opened.item().startswith("112A1 ") and opened.count() != "80 of 80 items"


def test_search_without_a_hit(opened: Page) -> None:
    opened.page.fill("#q", "壊血病でない何か")
    assert opened.count() == "0 of 80 items"
    assert "No item matches" in opened.page.inner_text("#detail")


def test_an_item_shows_everything(opened: Page) -> None:
    opened.page.fill("#q", "112A16")
    opened.choose(language="ja")
    detail = opened.page.inner_text("#detail")
    assert "examinees" in detail and "✓ right" in detail and "⚠ prohibited" in detail
    assert opened.page.locator("#detail pre").all_inner_texts() == ["b", "b", "c"]


def test_an_empty_response_that_the_protocol_counts_is_not_shown_as_right(
    browser: Any, shared: Path, tmp_path: Path
) -> None:
    silent = evaluate_igakuqa(shared, tmp_path, scorers=["legacy"], scripts={"silent": lambda question: ""})
    collected = collect(silent)
    write_page(tmp_path / "page.html", collected, questions_of(collected, QuestionPlaces(shared)), "test", [])
    opened = Page(browser, (tmp_path / "page.html").as_uri())
    assert opened.choose(outcome="right") == "0 of 80 items"
    assert not opened.choose(outcome="counted").startswith("0 ")
    item_score = opened.page.inner_text("#detail .scores")
    assert "○ no answer, counted as right" in item_score and "✓" not in item_score
    opened.page.set_viewport_size({"width": 390, "height": 900})
    [row] = [each.bounding_box() for each in opened.page.locator("#detail .scores tr").all()]
    assert row["height"] < 100 and row["width"] <= 390
    assert opened.page.locator("#detail .picked").count() == 0
    assert opened.problems == []


def test_the_choice_per_byte_is_called_right_or_wrong(browser: Any, shared: Path, tmp_path: Path) -> None:
    options = {"scorers": ["likelihood"], "scripts": {"knows": gold}, "answer_as": "text", "limit": 2}
    collected = collect(evaluate_igakuqa(shared, tmp_path, **options))
    write_page(tmp_path / "page.html", collected, questions_of(collected, QuestionPlaces(shared)), "test", [])
    detail = Page(browser, (tmp_path / "page.html").as_uri()).page.inner_text("#detail .scores")
    assert re.search(r"per byte: (right|wrong)", detail) and "correct" not in detail


def test_generated_text_stays_text(opened: Page) -> None:
    opened.choose(model="hostile <b>", outcome="none", language="ja")
    assert opened.page.locator("#detail pre").first.inner_text() == HOSTILE
    assert opened.page.locator("#detail img, #detail pre b").count() == 0
    assert "– no answer" in opened.page.inner_text("#detail .scores >> nth=0")


THOUGHTS = {
    "thinks": lambda question: f"<think>{HOSTILE * 900}</think>{gold(question)}",
    "is cut": lambda question: f"<think>{HOSTILE}",
}


def test_a_thought_is_folded_and_stays_text(browser: Any, shared: Path, tmp_path: Path) -> None:
    collected = collect(evaluate_igakuqa(shared, tmp_path, limit=1, scorers=["answer"], scripts=THOUGHTS))
    write_page(tmp_path / "page.html", collected, questions_of(collected, QuestionPlaces(shared)), "test")
    opened = Page(browser, (tmp_path / "page.html").as_uri())
    opened.page.set_viewport_size({"width": 390, "height": 844})
    assert opened.page.locator(".thought pre:visible").count() == 0
    assert "ended inside its thought" in opened.page.inner_text("#detail")
    assert opened.page.locator("#detail pre:visible").all_inner_texts() == ["e"]
    for summary in opened.page.locator(".thought summary").all():
        summary.click()
    cut, whole = opened.page.locator(".thought pre:visible").all_inner_texts()
    assert cut == HOSTILE and whole.startswith(HOSTILE) and "characters are left out here" in whole
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.problems == []
    opened.page.close()


@pytest.mark.parametrize(
    ("fragment", "item", "count"),
    [
        ("#items?item=igakuqa.ja/112A16", "112A16 igakuqa ja", "80 of 80 items"),
        ("#items?language=en&item=igakuqa.en/112A2", "112A2 igakuqa en", "40 of 80 items"),
        ("#items?benchmark=igakuqa&language=en&item=igakuqa.en/112A2", "112A2 igakuqa en", "40 of 80 items"),
        ("#items?q=gaucher", "112A1 igakuqa ja", "2 of 80 items"),
    ],
)
def test_deep_links(browser: Any, address: str, fragment: str, item: str, count: str) -> None:
    opened = Page(browser, address, fragment)
    assert (opened.item(), opened.count(), opened.problems) == (item, count, [])
    assert opened.page.evaluate("document.getElementById('items').getBoundingClientRect().top < innerHeight / 2")
    opened.page.close()


def test_a_link_to_a_missing_item_is_reported(browser: Any, address: str) -> None:
    opened = Page(browser, address, "#items?item=igakuqa.ja/999Z9")
    assert "No item igakuqa.ja/999Z9 on this page" in opened.page.inner_text("#detail")
    assert opened.problems == []
    opened.page.close()


def test_by_keyboard(opened: Page) -> None:
    keyboard = opened.page.keyboard
    keyboard.press("/")
    assert opened.page.evaluate("document.activeElement.id") == "q"
    keyboard.type("112A")
    keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "list"
    first = opened.item()
    keyboard.press("ArrowDown")
    keyboard.press("j")
    assert opened.item() == "112A3 igakuqa ja" and first == "112A1 igakuqa ja"
    assert opened.page.evaluate("location.hash") == "#items?q=112A&item=igakuqa.ja/112A3"
    keyboard.press("End")
    last = opened.item()
    keyboard.press("ArrowDown")
    assert opened.item() == last
    selected = opened.page.get_attribute("#list", "aria-activedescendant")
    assert opened.page.get_attribute(f"#{selected}", "aria-selected") == "true"


def test_the_other_language_is_a_click_away(opened: Page) -> None:
    opened.choose(language="ja")
    opened.page.click("#detail .chips a")
    opened.page.wait_for_selector("#detail h3:has-text('igakuqa en')")
    assert opened.item() == "112A1 igakuqa en"


def test_tabs_show_one_measure(opened: Page) -> None:
    def visible() -> list[str]:
        return [
            panel.get_attribute("id") for panel in opened.page.query_selector_all(".measure") if panel.is_visible()
        ]

    assert visible() == ["measure-1"]
    opened.page.click("#tab-2")
    assert visible() == ["measure-2"]
    opened.page.keyboard.press("ArrowLeft")
    assert visible() == ["measure-1"]


def test_light_and_dark(opened: Page) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)
        grounds.append(opened.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] == "rgb(255, 255, 255)" and grounds[1] == "rgb(17, 22, 28)"


def test_in_print(opened: Page) -> None:
    opened.page.emulate_media(media="print")
    hidden = {name: opened.page.is_visible(name) for name in ("nav", "#items", "#measure-2", "#licence")}
    assert hidden == {"nav": False, "#items": False, "#measure-2": True, "#licence": True}


def test_training_is_drawn(opened: Page) -> None:
    opened.page.click("nav a[href='#training']")
    titles = opened.page.locator("#training figcaption b").all_inner_texts()
    assert titles == [
        "Loss",
        "Bits per byte",
        "Change since the start",
        "In-loop evaluation",
        "Learning rate",
        "Gradient norm",
        "Speed",
        "Peak memory",
    ]
    for box in opened.page.locator("#training svg.curve").all():
        size = box.bounding_box()
        assert size is not None and size["width"] > 200 and size["height"] > 80
    strokes = [
        opened.page.locator("#training figure >> nth=1")
        .locator(f".s{n} polyline")
        .evaluate("e => getComputedStyle(e).stroke")
        for n in range(2)
    ]
    assert strokes[0] != strokes[1] and "none" not in strokes


@pytest.mark.parametrize("width", [390, 1366])
def test_the_page_fits_the_screen(opened: Page, width: int) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


LONG = ["Qwen2.5-72B-Instruct-GPTQ-Int4-checkpoints/step-12000", "日本語医療大規模言語モデル七十億パラメータ版第二版"]


@pytest.fixture(scope="module")
def long_names(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("long")
    collected = collect(evaluate_igakuqa(shared, folder, limit=3, scripts=dict.fromkeys(LONG, lambda question: "a")))
    write_page(folder / "page.html", collected, questions_of(collected, QuestionPlaces(shared)), "long names")
    return (folder / "page.html").as_uri()


@pytest.mark.parametrize(
    ("names", "width", "is_below"),
    [("short", 1366, False), ("short", 390, True), ("long", 1366, True), ("long", 390, True)],
)
def test_probabilities_are_below_the_choice_where_columns_would_break_words(
    browser: Any, address: str, long_names: str, names: str, width: int, is_below: bool
) -> None:
    opened = Page(browser, {"short": address, "long": long_names}[names])
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.wait_for_timeout(100)
    row = opened.page.locator("#detail .choices tbody tr").first
    text, *shares = (cell.bounding_box() for cell in row.locator("td:nth-child(n + 2)").all())
    assert all((share["y"] >= text["y"] + text["height"]) == is_below for share in shares)
    # One line for each choice and model: no word is cut in pieces.
    assert text["height"] < 60 and all(share["height"] < 60 for share in shares)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.problems == []
    opened.page.close()


def test_terms_are_explained(opened: Page) -> None:
    explained = set(opened.page.locator("#glossary dt").all_inner_texts())
    tooltips = opened.page.locator("abbr").evaluate_all("all => all.map(e => [e.textContent, e.title])")
    assert {text.replace(" accuracy", "") for text, _ in tooltips} <= explained and all(title for _, title in tooltips)
    assert {"n", "95 % interval", "ECE", "p (Holm)", "min. detectable", "scorer"} <= {text for text, _ in tooltips}


def test_training_in_print(opened: Page) -> None:
    opened.page.emulate_media(media="print")
    assert opened.page.is_visible("#training svg.curve")


def test_free_text_questions_show_their_reference_and_partial_credit(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCORERS, "letters", GRADED)
    exam = tmp_path / "free.jsonl"
    exam.write_text(
        '{"id": "q9", "question": "Why?", "reference": "scurvy <b>", "language": "en"}\n', encoding="utf-8"
    )
    folder = evaluate_exam(exam, tmp_path / "out", "m", 0, ["en"], scorers=["letters"])
    collected = collect([folder])
    write_page(
        tmp_path / "page.html", collected, questions_of(collected, QuestionPlaces(tmp_path, [exam])), "free text"
    )
    opened = Page(browser, (tmp_path / "page.html").as_uri())
    detail = opened.page.inner_text("#detail")
    assert "scurvy <b>" in detail and "◐ partly right" in detail and "50 %" in detail
    assert opened.choose(outcome="partial") == "1 of 1 items" and opened.choose(outcome="right") == "0 of 1 items"
    assert opened.problems == []
    opened.page.close()


UUIDS = ["0b7c2a90-1f7e-4a55-9d3e-52f1a3c6e8d1", "3f0a5c1e-77aa-4c0b-8f6a-0d9be2b1c7f4"]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One model on own questions with long ids, a long file name and subjects."""
    folder = tmp_path_factory.mktemp("clinic")
    exam = folder / "clinic_2026_internal_questions_final_version.jsonl"
    row = {"language": "en", "question": "A 67-year-old woman " * 30, "choices": ["x", "y"], "answer": ["a"]}
    rows = [to_json(row | {"id": id, "subject": f"subject {n}"}) for n, id in enumerate(UUIDS)]
    exam.write_text("\n".join(rows) + "\n", encoding="utf-8")
    config = EvalConfig(benchmarks=[str(exam)], scorers=["answer"], selection="all", limit=2)
    questions = {question.id: question for question in read_all(exam)}
    model = PreparedModel({"model": "m", "fingerprint": "m"}, lambda: Scripted("m", questions, gold))
    evaluate_tasks(tasks(config, PromptConfig(), folder), model, folder / "out")
    found = collect([folder / "out"])
    write_page(folder / "page.html", found, questions_of(found, QuestionPlaces(folder, [exam])), "clinic")
    return (folder / "page.html").as_uri()


@pytest.mark.parametrize("width", [390, 1366])
def test_one_model_on_long_ids(browser: Any, clinic: str, width: int) -> None:
    opened = Page(browser, clinic)
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.wait_for_timeout(100)
    heights = {
        name: [box["height"] for each in opened.page.locator(name).all() if (box := each.bounding_box())]
        for name in (".groups tbody tr", ".row .top", ".row .stem")
    }
    assert all(len(found) == 2 and max(found) < 30 for found in heights.values()), heights
    assert opened.page.inner_text(".row >> nth=0").startswith(UUIDS[0])
    assert opened.page.get_attribute(".row b >> nth=0", "title") == UUIDS[0] and UUIDS[0] in opened.item()
    # A filter with a single value is not shown.
    assert opened.page.is_visible("#outcome") and not opened.page.is_visible("#benchmark")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.problems == []
    opened.page.close()


@pytest.mark.parametrize(("width", "is_cut"), [(390, True), (1366, False)])
def test_a_table_that_is_cut_says_that_it_scrolls(opened: Page, width: int, is_cut: bool) -> None:
    opened.page.set_viewport_size({"width": width, "height": 900})
    opened.page.wait_for_timeout(100)
    wide = opened.page.locator("#overview .wide").first
    says = "e => getComputedStyle(e, '::before').content"
    assert ("scroll sideways" in wide.evaluate(says)) == is_cut
    wide.evaluate("e => { e.scrollLeft = e.scrollWidth }")
    opened.page.wait_for_timeout(100)
    assert wide.evaluate(says) == "none"
