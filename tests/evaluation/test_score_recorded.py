"""Recorded answers scored without a model: in any order, with what is missing, and every bad file."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from conftest import Cli
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.columns import parse_map
from jmedllm.evaluation.offline import (
    QuestionSet,
    item_rows,
    load_answered,
    read_responses,
    score_recorded,
    score_responses,
)
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.responses import RESPONSE_FIELDS, Recorded, read_recorded, recorded_sample
from jmedllm.report.notes import AT_FLOOR, BEST_CONSTANT, BOUNDS, INTERVAL
from jmedllm.report.offline import print_scored

EXAM = [
    {"id": "1", "language": "ja", "question": "壊血病は", "choices": ["鉄", "ビタミンC", "亜鉛"], "answer": ["b"]},
    {"id": "2", "language": "ja", "question": "2つ選べ", "choices": ["胃", "肺", "肝"], "answer": ["a", "c"]},
    {"id": "3", "language": "ja", "question": "何mgか", "choices": [], "answer": "7.2"},
]


def questions_answered(*asked: Any, **options: Any) -> list[Question]:
    return list(load_answered(QuestionSet(*asked, **options)).questions)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def exam(tmp_path: Path) -> Path:
    return write(tmp_path / "mine.jsonl", EXAM)


def test_answers_in_any_order_under_either_name(exam: Path, tmp_path: Path) -> None:
    questions = questions_answered(None, exam, "ja", tmp_path)
    first = write(tmp_path / "a.jsonl", [{"id": "3", "response": "答えは７．２ mg"}])
    second = write(tmp_path / "b.jsonl", [{"problem_id": "1", "prediction": "b", "explanation": "x"}])
    responses = read_responses([first, second], [question.id for question in questions])
    scored = score_responses(questions, responses, ["answer", "legacy"])
    assert scored.missing == ("2",)
    accuracy, exact, gestalt = scored.scores
    assert (accuracy.scorer, accuracy.n, accuracy.correct, accuracy.no_answer) == ("answer", 3, 2, 1)
    assert accuracy.floor == pytest.approx((1 / 3 + 1 / 3) / 3)
    assert accuracy.constant_floor == pytest.approx(2 / 3)  # both have the choice b
    assert (exact.metric, exact.n, gestalt.metric) == ("exact_match", 2, "gestalt_match")
    assert item_rows(scored) == [
        {"id": "1", "chosen": ["b"], "value": 1.0, "how": "label"},
        {"id": "2", "chosen": [], "value": 0.0, "how": "missing"},
        {"id": "3", "chosen": "7.2", "value": 1.0, "how": "stated number"},
    ]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['{"id": "1", "response": "b"}'] * 2, r"r\.jsonl:2: question 1 was answered in .*r\.jsonl:1; remove one"),
        (['{"id": "9", "response": "b"}'], r"r\.jsonl:1: unknown question '9'"),
        (['{"id": "1"}'], r'r\.jsonl:1: field "response": expected a text, found nothing'),
        (['{"response": "b"}'], r'r\.jsonl:1: field "id": expected a text, found nothing'),
        (['{"id": "1", "response": 3}'], r'r\.jsonl:1: field "response": expected a text, found 3'),
        (["", "", '{"id": "1", "respo'], r"r\.jsonl:3: broken JSON: .*; fix or remove the line"),
    ],
)
def test_a_bad_line_is_named(exam: Path, tmp_path: Path, lines: list[str], problem: str) -> None:
    (tmp_path / "r.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        read_responses([tmp_path / "r.jsonl"], ["1", "2", "3"])


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda exam: questions_answered(None, None, "ja", exam), "give either --benchmark or --questions"),
        (lambda exam: questions_answered("igakuqa", exam, "ja", exam), "give either --benchmark or --questions"),
        (
            lambda exam: questions_answered(None, exam, "ja", exam, year=2022),
            "--year needs a benchmark of yearly exams",
        ),
        (lambda exam: questions_answered(None, exam, "en", exam), 'no question with "language": "en"'),
        (lambda exam: score(exam, "likelihood"), "scorer likelihood needs a model's probabilities"),
        (
            lambda exam: score(exam, "official"),
            "scorer official cannot score any of these questions; choose another scorer: answer, legacy, likelihood$",
        ),
        (lambda exam: score(exam, "answr"), "unknown scorer 'answr': did you mean answer?"),
    ],
)
def test_items_that_cannot_be_scored_are_reported(exam: Path, call: Callable[[Path], object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        call(exam)


def score(exam: Path, scorer: str) -> object:
    return score_responses(questions_answered(None, exam, "ja", exam), {}, [scorer])


def test_a_year_that_never_was(shared: Path) -> None:
    with pytest.raises(InputError, match="no exam of 2011; there are 2018 to 2022"):
        questions_answered("igakuqa", None, "ja", shared, year=2011)


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("igakuqa", "ja"),
        ("igakuqa", "en"),
        ("medqa", "en"),
        ("medqa-5", "en"),
        ("medmcqa", "en"),
        ("mmlu", "en"),
        ("jmmlu", "ja"),
    ],
)
@pytest.mark.parametrize(
    "every",
    [
        pytest.param(4, id="every fourth", marks=pytest.mark.slow),
        pytest.param(1, id="all", marks=pytest.mark.exhaustive),
    ],
)
def test_gold_fed_back_is_all_right_and_nothing_is_all_wrong(
    shared: Path, name: str, language: Any, every: int
) -> None:
    asked = [q for q in questions_answered(name, None, language, shared) if q.gold or q.number is not None][::every]
    texts = {q.id: q.number or ",".join(q.gold_choices) for q in asked}
    letters = {q.id: q.number or ",".join(label(index) for index in sorted(q.gold)) for q in asked}
    [as_text], [as_letters] = (score_responses(asked, given, ["answer"]).scores for given in (texts, letters))
    # The right choice of 114C11 is a space in the data, which as a text is nothing.
    blank = sum(not text.strip() for text in texts.values())
    assert blank == (language == "ja" and "114C11" in texts)
    assert as_letters.correct == as_letters.n and as_text.correct == as_text.n - blank
    [empty] = score_responses(asked, {}, ["answer"]).scores
    assert (empty.correct, empty.no_answer) == (0, len(asked))


def test_reasons_and_what_the_protocol_counts_are_reported(exam: Path, tmp_path: Path) -> None:
    questions = questions_answered(None, exam, "ja", tmp_path)
    scored = score_responses(questions, {"1": ".", "2": "a", "3": "不明な点がある"}, ["legacy", "answer"])
    [first, *_] = item_rows(scored)
    assert first["how"].startswith("no answer")
    text = io.StringIO()
    print_scored(scored, Console(file=text, width=200))
    message = " ".join(text.getvalue().split())
    assert "too few 1" in message and "Too few: named fewer choices than the question asks for." in message
    assert "no answer: no number 1" in message and "Empty: nothing was written" in message


ROWS = [{"id": "1", "response": "b"}, {"id": "2", "response": None}, {"id": "9", "response": "a"}]


def test_all_bad_rows_are_named_at_once_and_can_be_skipped(exam: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [*ROWS, ROWS[0]])
    with pytest.raises(InputError) as error:
        read_responses([path], ["1", "2", "3"])
    assert str(error.value).split("\n") == [
        "3 rows are invalid; fix them, or skip them with --skip-invalid:",
        f'{path}:2: field "response": expected a text, found null',
        f"{path}:3: unknown question '9': known: 1, 2, 3",
        f"{path}:4: question 1 was answered in {path}:1; remove one",
    ]
    given = read_recorded([path], ["1", "2", "3"], skip_invalid=True)
    assert given == Recorded({"1": recorded_sample("1", "b")}, (f"{path}:2", f"{path}:3", f"{path}:4"))
    scored = score_recorded(load_answered(QuestionSet(None, exam, None, tmp_path)), given, ["answer"])
    assert (scored.skipped, scored.missing, scored.scores[0].n) == (given.skipped, ("2", "3"), 3)
    text = io.StringIO()
    print_scored(scored, Console(file=text, width=300))
    assert "Invalid rows of responses, skipped: 3 (" in text.getvalue()
    bad = write(tmp_path / "bad.jsonl", ROWS[1:])
    with pytest.raises(InputError, match=r"has no response; .* every row is invalid, the first one: .*:1: field"):
        read_recorded([bad], ["1", "2", "3"], skip_invalid=True)


RESPONSES = {
    "our names": ("r.csv", "id,response\n1,b\n", None),
    "byte order mark and CRLF": ("r.csv", "\ufeffid,response\r\n1,b\r\n", None),
    "list": ("r.json", '[{"problem_id": "1", "prediction": "b"}]', None),
    "mapping": ("r.jsonl", '{"qid": 1, "response": "x", "out": {"text": "b"}}', "id=qid,response=out.text"),
    "a batch of OpenAI's": (
        "r.jsonl",
        '{"custom_id": "1", "response": {"body": {"choices": [{"message": {"content": "b"}}]}}}',
        "id=custom_id,response=response.body.choices.0.message.content",
    ),
    "samples of lm-eval": ("r.jsonl", '{"doc_id": 1, "resps": [["b"]]}', "id=doc_id,response=resps"),
    "mapping over our own name": ("r.tsv", "problem_id\tqid\toutput\n7\t1\tb\n", "id=qid,response=output"),
}


def test_further_fields_of_a_response_can_be_mapped(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", [{"id": "1", "response": "b", "end": ["length"], "open": True}])
    columns = parse_map("finish_reason=end,thought_open=open", RESPONSE_FIELDS)
    assert read_recorded([path], ["1"], columns).samples == {
        "1": recorded_sample("1", "b", finish_reason="length", thought_open=True)
    }


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_read_from_the_files_that_others_write(tmp_path: Path, name: str) -> None:
    file, content, columns = RESPONSES[name]
    (tmp_path / file).write_text(content, encoding="utf-8", newline="")
    recorded = read_recorded([tmp_path / file], ["1"], parse_map(columns, RESPONSE_FIELDS))
    assert {name: sample.response for name, sample in recorded.samples.items()} == {"1": "b"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "response_text": "b"}, '"response_text" is called "response" here', ),
        ({"id": "1", "generated_text": "b"}, "with --map-responses response=generated_text"),
        ({"qid": "1", "output": "b"}, "with --map-responses id=qid,response=output"),
    ],
)  # fmt: skip
def test_names_that_others_use_are_answered_with_ours(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        read_responses([write(tmp_path / "r.jsonl", [row, row])], ["1"])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_table_and_its_notes_are_those_of_the_report(exam: Path, tmp_path: Path) -> None:
    responses = {"1": "b", "2": "b", "3": "1"}
    scored = score_responses(questions_answered(None, exam, None, tmp_path), responses, ["answer"])
    text = io.StringIO()
    print_scored(scored, Console(file=text, width=300))
    assert "33.3~" in text.getvalue() and "22.2 / 66.7" in text.getvalue()
    for note in (BOUNDS, INTERVAL, BEST_CONSTANT, f"~ {AT_FLOOR}"):
        assert note in text.getvalue()


def test_a_language_is_needed_only_where_there_are_two(exam: Path, tmp_path: Path) -> None:
    english = [{"id": "1", "question": "Which?", "choices": ["iron", "zinc"], "answer": ["b"]}]
    [question] = questions_answered(None, write(tmp_path / "en.jsonl", english), None, tmp_path)
    assert question.language == "en"
    assert len(questions_answered(None, exam, None, tmp_path)) == 3
    both = write(tmp_path / "both.jsonl", [*EXAM, {**english[0], "language": "en"}])
    with pytest.raises(InputError, match="has the same ids in ja and en; choose with --language"):
        questions_answered(None, both, None, tmp_path)


def test_responses_in_both_languages_are_scored_together(cli: Cli, tmp_path: Path) -> None:
    english = {"id": "en1", "question": "Which?", "choices": ["iron", "zinc"], "answer": ["b"], "language": "en"}
    exam = write(tmp_path / "both.jsonl", [*EXAM, english])
    responses = write(tmp_path / "r.jsonl", [{"id": name, "response": "b"} for name in ("1", "2", "en1")])
    code, output, errors = cli("score", "--questions", exam, responses, "--json")
    assert code == 0, errors
    found = json.loads(output)
    assert [(score["language"], score["n"]) for score in found["scores"]] == [("ja", 3), ("en", 1)]
    assert found["missing"] == ["3"]
    code, output, _ = cli("score", "--questions", exam, responses)
    assert code == 0 and "both ja" in output and "both en" in output and "missing: " not in output
    assert "no answer: missing 1" in output and "Missing: the recorded responses have none" in output


def test_items_that_are_not_scored_are_counted(tmp_path: Path) -> None:
    rows = [*EXAM, {**EXAM[0], "id": "4", "image": True}, {**EXAM[0], "id": "5", "answer": []}]
    asked = load_answered(QuestionSet(None, write(tmp_path / "mine.jsonl", rows), None, tmp_path, selection="graded"))
    scored = score_recorded(asked, Recorded({"1": recorded_sample("1", "b")}, ()), ["legacy"])
    counted = {"with a picture": 1, "without a right answer": 1, "that legacy cannot score": 1}
    assert scored.as_json()["left_out"] == counted
    text = io.StringIO()
    print_scored(scored, Console(file=text, width=300))
    assert "questions, selection graded: 2 of 5 items. Left out: 1 with a picture; 1 without" in text.getvalue()


def test_responses_to_questions_outside_the_selection_are_counted(cli: Cli, tmp_path: Path) -> None:
    exam = write(tmp_path / "mine.jsonl", [*EXAM, {**EXAM[0], "id": "4", "image": True}])
    responses = write(tmp_path / "r.jsonl", [{"id": name, "response": "b"} for name in ("1", "4")])
    command = ("score", "--questions", exam, "--selection", "graded")
    code, output, errors = cli(*command, responses)
    assert code == 0 and "1 responses to questions outside the selection, left out." in output, errors
    found = json.loads(cli(*command, responses, "--json")[1])
    assert (found["outside"], found["missing"], found["scores"][0]["n"]) == (1, ["2", "3"], 3)
    code, _, errors = cli(*command, write(tmp_path / "r.jsonl", [{"id": "4", "response": "b"}]))
    assert code == 2 and "all 1 responses answer questions outside the selection graded" in errors
    code, _, errors = cli(*command, write(tmp_path / "r.jsonl", [{"id": "6", "response": "b"}]))
    assert code == 2 and "unknown question '6'" in errors


def test_responses_to_other_years_are_counted(shared: Path) -> None:
    """Real responses of GPT-4 to all questions of an exam, scored on those that a text-only model can be graded on."""
    files = sorted((shared / "igakuqa" / "baseline_results" / "2018").glob("*_gpt4.jsonl"))
    everything = load_answered(QuestionSet("igakuqa", None, "ja", shared))
    recorded = read_recorded(files, [question.id for question in everything.questions])
    asked = load_answered(QuestionSet("igakuqa", None, "ja", shared, year=2018, selection="graded"))
    scored = score_recorded(asked, recorded, ["answer"])
    assert scored.outside == len(recorded.samples) - len(scored.questions) > 100 and not scored.missing


CUT = "まず設問を整理する。答えはaだろう。次に"


@pytest.mark.parametrize(
    ("row", "how"),
    [
        ({"response": CUT}, "stated label"),
        ({"response": CUT, "finish_reason": None, "thought_open": False, "reasoning": None}, "stated label"),
        ({"response": CUT, "finish_reason": "length", "thought_open": True}, "truncated"),
        ({"response": CUT, "thought_open": True}, "truncated"),
        # Nobody says whether the prompt had opened a thought.
        ({"response": CUT, "finish_reason": "length"}, "truncated"),
        ({"response": CUT, "finish_reason": "length", "thought_open": False}, "stated label"),
        ({"response": "答えはaです。黄疸が", "finish_reason": "length"}, "truncated"),
        ({"response": "答えはaです。黄疸が", "finish_reason": "length", "thought_open": False}, "stated label"),
        ({"response": CUT + "</think>b", "finish_reason": "stop", "thought_open": True}, "label"),
        ({"response": "<think>" + CUT, "finish_reason": "length"}, "truncated"),
        ({"response": "", "reasoning": CUT, "finish_reason": "length"}, "truncated"),
        ({"response": None, "reasoning_content": CUT, "finish_reason": "MAX_TOKENS"}, "truncated"),
        ({"response": "b", "reasoning": CUT, "finish_reason": "stop", "thought_open": True}, "label"),
        ({"response": "", "thinking": CUT, "done_reason": "length"}, "truncated"),
        ({"response": "患者は黄疸があり", "finishReason": "MAX_TOKENS"}, "truncated"),
        ({"response": "患者は黄疸があり", "stop_reason": "max_tokens"}, "truncated"),
        ({"response": "b", "finish_reason": "stop", "stop_reason": "</s>"}, "label"),
        ({"response": "患者は黄疸があり", "finish_reason": "length"}, "truncated"),
        ({"response": "<vendor_think>x</vendor_think>b"}, "unknown marker"),
    ],
)
def test_further_fields_of_a_server_reply(exam: Path, tmp_path: Path, row: dict[str, Any], how: str) -> None:
    given = read_recorded([write(tmp_path / "r.jsonl", [{"id": "1", **row}])], ["1"])
    scored = score_recorded(load_answered(QuestionSet(None, exam, None, tmp_path)), given, ["answer"])
    assert item_rows(scored)[0]["how"] == how


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            {"finish_reason": "lenght"},
            'r.jsonl:1: field "finish_reason": expected null or one of .*found "lenght"',
        ),
        ({"finish_reason": 3}, 'r.jsonl:1: field "finish_reason": expected a text, found 3'),
        ({"thought_open": "yes"}, 'r.jsonl:1: field "thought_open": expected true or false, found "yes"'),
        ({"reasoning": ["x"]}, r'r.jsonl:1: field "reasoning": expected a text, found \["x"\]'),
        ({"response": None}, 'r.jsonl:1: field "response": expected a text, found null'),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read_responses([write(tmp_path / "r.jsonl", [{"id": "1", "response": "b", **row}])], ["1"])
