"""The HTML page as text: what is packed into it, and what can never be in it."""

import base64
import gzip
import json
import re
from pathlib import Path

import pytest
from scripted import HOSTILE, SCRIPTS, evaluate_exam, evaluate_igakuqa

from jmedllm.errors import InputError
from jmedllm.evaluation.scorers.legacy import NO_TEXT_RIGHT, NO_TEXT_WRONG
from jmedllm.evaluation.stored_questions import QuestionPlaces
from jmedllm.files import to_json
from jmedllm.report import collect, questions_of
from jmedllm.report.page import page, write_page
from jmedllm.report.page.items import pack


@pytest.fixture(scope="module")
def collected(shared: Path, tmp_path_factory: pytest.TempPathFactory):
    return collect(evaluate_igakuqa(shared, tmp_path_factory.mktemp("results"), rotations=2))


@pytest.fixture(scope="module")
def html(collected, shared: Path) -> str:
    return page(collected, questions_of(collected, QuestionPlaces(shared)), "three models & more")


def test_every_item_with_every_answer_is_packed(collected, shared: Path) -> None:
    japanese, english = pack(collected, questions_of(collected, QuestionPlaces(shared)))
    assert (japanese.name, japanese.n, english.name) == ("igakuqa.ja", 40, "igakuqa.en")
    assert japanese.models == ("hostile <b>", "knows", "reckless")
    assert japanese.scorers == ("answer", "likelihood", "official")
    items = json.loads(gzip.decompress(base64.b64decode(japanese.packed)))
    item = next(item for item in items if item["id"] == "112A16")
    assert item["prohibited"] and sum(item["examinees"]) == pytest.approx(100, abs=1)
    assert item["examineesRight"] == pytest.approx(item["examinees"][item["gold"][0]], abs=0.1)
    knows, reckless = item["answers"][1:]
    assert knows["scores"]["answer"] == {
        "chosen": item["gold"],
        "number": None,
        "how": "label",
        "correct": True,
        "value": 1.0,
        "outcome": "right",
    }
    assert reckless["scores"]["official"]["chosen"] == item["prohibited"][:1]
    assert knows["probabilities"] == sorted(knows["probabilities"], reverse=True)
    assert sum(knows["probabilities"]) == pytest.approx(1, abs=1e-3)
    # The first presentation is as printed; the second begins with b.
    assert "order" not in knows and [rotation["order"][0] for rotation in knows["rotations"]] == [1]


def test_an_empty_response_that_the_protocol_counts_is_marked(shared: Path, tmp_path: Path) -> None:
    folders = evaluate_igakuqa(
        shared, tmp_path, limit=20, scorers=["legacy"], scripts={"silent": lambda question: "."}
    )
    collected = collect(folders)
    [japanese, *_] = pack(collected, questions_of(collected, QuestionPlaces(shared)))
    items = json.loads(gzip.decompress(base64.b64decode(japanese.packed)))
    item_scores = [item["answers"][0]["scores"]["legacy"] for item in items]
    assert {(v["outcome"], v["how"]) for v in item_scores if v["value"]} == {("counted", NO_TEXT_RIGHT)}
    assert {(v["outcome"], v["how"]) for v in item_scores if not v["value"]} == {("none", NO_TEXT_WRONG)}


def test_the_page_is_the_same_for_the_same_results(collected, shared: Path, html: str) -> None:
    assert page(collected, questions_of(collected, QuestionPlaces(shared)), "three models & more") == html


def test_only_the_owner_may_read_the_page(collected, shared: Path, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("an older page", encoding="utf-8")
    write_page(tmp_path / "page.html", collected, questions_of(collected, QuestionPlaces(shared)), "models")
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600


def test_no_foreign_text_becomes_html(html: str) -> None:
    assert "<title>three models &amp; more</title>" in html
    assert "hostile &lt;b&gt;" in html and "hostile <b>" not in html
    assert HOSTILE not in html and "onerror" not in html
    # The only script elements are ours: settings, items and the one script whose hash the policy names.
    assert len(re.findall(r"<script\b", html)) == html.count("</script>") == 1 + 2 + 1


def test_no_text_of_a_question_becomes_html(tmp_path: Path) -> None:
    exam = tmp_path / "exam<img src=x>.jsonl"
    row = {
        "id": HOSTILE,
        "question": f"{HOSTILE}どれか。",
        "choices": [HOSTILE, "b"],
        "answer": ["a"],
        "language": "ja",
    }
    exam.write_text("".join(to_json(row | {"id": f"q{number}"}) + "\n" for number in range(4)), encoding="utf-8")
    collected = collect([evaluate_exam(exam, tmp_path / "results", HOSTILE, 2)])
    questions = questions_of(collected, QuestionPlaces(tmp_path))
    html = page(collected, questions, HOSTILE)
    assert HOSTILE not in html
    assert "<img" not in html
    assert len(re.findall(r"<script\b", html)) == html.count("</script>")
    [packed] = pack(collected, questions)
    assert HOSTILE in gzip.decompress(base64.b64decode(packed.packed)).decode()


def test_the_page_makes_no_network_requests(html: str) -> None:
    assert "default-src 'none'" in html
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|url\(|@import|https?://(?!\S*&#)""", html.split("<main>")[0])
    assert not re.search(r"""\b(?:src|srcset|action|data|poster)\s*=\s*["']""", html)
    assert all(link.startswith("#") for link in re.findall(r'href="([^"]*)"', html))


@pytest.mark.parametrize(
    "section",
    ["overview", "languages", "models", "licence", "years", "groups", "responses", "calibration", "order", "glossary"],
)
def test_sections(html: str, section: str) -> None:
    assert f'<section id="{section}">' in html and f'<a href="#{section}">' in html


def test_numbers_are_those_of_the_table(collected, html: str) -> None:
    [score] = [
        score
        for each in collected
        for score in each.result.scores
        if (each.result.model, each.task[1], score.scorer) == ("reckless", "ja", "answer")
    ]
    cell = f'<b>{100 * score.value:.1f}</b> <span class="interval">{100 * score.low:.1f}–{100 * score.high:.1f}'
    assert cell in html


def test_questions_must_be_those_that_were_answered(collected, shared: Path, tmp_path: Path) -> None:
    changed = tmp_path / "igakuqa"
    folder = changed / "data" / "2018"
    folder.mkdir(parents=True)
    for year in range(2018, 2023):
        (changed / "data" / str(year)).mkdir(exist_ok=True)
        for file in (shared / "igakuqa" / "data" / str(year)).iterdir():
            (changed / "data" / str(year) / file.name).write_bytes(file.read_bytes())
    first = folder / "112-A.jsonl"
    text = first.read_text(encoding="utf-8")
    first.write_text(text.replace("どれか", "何か", 1), encoding="utf-8")
    with pytest.raises(InputError, match=r"another version of igakuqa ja than the one here \(question 112A1\)"):
        questions_of(collected, QuestionPlaces(tmp_path))
    with pytest.raises(InputError, match="no such file; fetch it with: jmedllm data get igakuqa"):
        questions_of(collected, QuestionPlaces(tmp_path / "nowhere"))


def test_every_script_is_a_model(collected) -> None:
    assert {each.result.model for each in collected} == set(SCRIPTS)
