"""No reply that was cut inside its thought is read as an answer, in any form, and whole replies are read as before."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from thinking_set import FORMS, QUESTIONS, UNKNOWN, Form, Thinking, cuts, replies

from jmedllm.evaluation.offline import Answered, score_recorded
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.reading import ExtractedAnswer, read_answer
from jmedllm.evaluation.records import Sample
from jmedllm.evaluation.responses import Recorded, read_recorded, recorded_sample
from jmedllm.evaluation.thought_evidence import resolve_thoughts, resolved_note

REPLIES = replies()
ALL_FORMS = FORMS | {f"{name}, opened by the prompt, which nothing says": form for name, form in UNKNOWN.items()}
by_form = pytest.mark.parametrize("form", [pytest.param(form, id=name) for name, form in ALL_FORMS.items()])


def test_the_set() -> None:
    assert len(REPLIES) == 60 and {each.question.id for each in REPLIES} == set(QUESTIONS)
    for reply in REPLIES:
        gold = reply.question.number or "".join(map(label, sorted(reply.question.gold)))
        assert _read(read_answer(reply.question, reply.answer)) == gold, reply


def _read(answer: ExtractedAnswer) -> str:
    return answer.number or "".join(map(label, sorted(answer.chosen)))


def _cut_replies(form: Form, chosen: Sequence[Thinking], every: int) -> Iterator[tuple[Thinking, str, bool]]:
    """Yield cut replies, and whether the finish reason says so. Without it, a form must show it by itself."""
    for reply in chosen:
        for thought in cuts(reply.thought, every):
            yield reply, form.cut(thought), True
            if form.thought_open is not None:
                yield reply, form.cut(thought), False


def _require_none_read(form: Form, chosen: Sequence[Thinking], every: int) -> None:
    for reply, text, truncated in _cut_replies(form, chosen, every):
        answer = read_answer(reply.question, text, truncated=truncated, thought_open=form.thought_open)
        assert answer.how in ("truncated", "unknown marker"), (text, truncated)


@by_form
def test_no_cut_reply_is_read(form: Form) -> None:
    _require_none_read(form, REPLIES[::7], every=150)


@pytest.mark.exhaustive
@by_form
def test_no_reply_is_read_wherever_it_is_cut(form: Form) -> None:
    _require_none_read(form, REPLIES, every=5)


@by_form
def test_whole_replies_are_read_like_their_answers(form: Form) -> None:
    for reply in REPLIES[::3]:
        alone = read_answer(reply.question, reply.answer)
        assert read_answer(reply.question, form.whole(reply), thought_open=form.thought_open) == alone


def _file(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> tuple[Answered, Recorded]:
    """Write recorded responses, each to a question of its own."""
    questions = []
    for number, row in enumerate(rows):
        question = row.pop("question")
        values = {name: getattr(question, name) for name in Question.__dataclass_fields__}
        questions.append(Question(**(values | {"id": str(number)})))
    path = tmp_path / "r.jsonl"
    lines = (json.dumps({"id": str(number), **row}, ensure_ascii=False) for number, row in enumerate(rows))
    path.write_text("\n".join(lines), encoding="utf-8")
    return Answered(tuple(questions)), read_recorded([path], [question.id for question in questions])


def _answers(asked: Answered, recorded: Recorded) -> list[tuple[str, str]]:
    item_scores = score_recorded(asked, recorded, ["answer"]).item_scores["answer"].values()
    return [(each.number or "".join(map(label, each.chosen)), each.how) for each in item_scores]


@pytest.mark.parametrize(
    ("form", "finish"),
    [(UNKNOWN["tags"], "length"), *((form, None) for form in UNKNOWN.values())],
)
def test_a_file_shows_that_the_prompt_opened_the_thought(tmp_path: Path, form: Form, finish: str | None) -> None:
    rows, expected = [], []
    for reply in REPLIES:
        for thought in list(cuts(reply.thought, 400))[reply.number % 5 :: 5]:
            rows.append({"question": reply.question, "response": form.cut(thought), "finish_reason": finish})
            expected.append("")
        rows.append({"question": reply.question, "response": form.whole(reply)})
        expected.append(_read(read_answer(reply.question, reply.answer)))
    asked, recorded = _file(tmp_path, rows)
    assert [answer for answer, _ in _answers(asked, recorded)] == expected
    [note] = score_recorded(asked, recorded, ["answer"]).notes
    assert "count as cut off inside their thought" in note


@pytest.mark.parametrize("finish", [None, "length", "stop"])
@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "thinking"])
def test_a_field_of_its_own(tmp_path: Path, field: str, content: str | None, finish: str | None) -> None:
    cut = [
        {"question": reply.question, field: reply.thought, "response": content, "finish_reason": finish}
        for reply in REPLIES
    ]
    whole = {"question": REPLIES[0].question, field: REPLIES[0].thought, "response": REPLIES[0].answer}
    asked, recorded = _file(tmp_path, [*cut, whole])
    *none, answer = _answers(asked, recorded)
    assert set(none) == {("", "truncated" if finish == "length" else "empty")}
    assert answer[0] == "b"
    assert recorded.samples["0"].reasoning == REPLIES[0].thought
    assert recorded.samples["0"].thought_cut == (finish == "length")


BEGINS = "答えはbです。黄疸が"
CUT = "Okay, so the gallbladder is distended. The answer is A. Let me check the other options one by one, since the "
LONE = "b\n</think>\nb"


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        pytest.param([], "truncated", id="nothing is known"),
        pytest.param([("b", None)], "truncated", id="replies without a finish reason do not show it"),
        pytest.param([("b", "stop")], "stated label", id="whole replies without a thought"),
        pytest.param([("b", "stop"), (CUT, "length")], "truncated", id="although truncated ones think aloud"),
        pytest.param([("<think>a</think>b", "stop")], "truncated", id="the model thinks"),
        pytest.param([("a</think>b", "stop")], "truncated", id="the prompt opens a thought"),
        pytest.param([("b", "stop"), (LONE, "length")], "truncated", id="a lone marker leaves it open"),
    ],
)
def test_what_other_replies_show_about_a_truncated_one(others: list[tuple[str, str | None]], expected: str) -> None:
    given = {"1": recorded_sample("1", BEGINS, finish_reason="length")}
    given |= {str(n): recorded_sample(str(n), text, finish_reason=why) for n, (text, why) in enumerate(others, 2)}
    item = QUESTIONS["jaundice"]
    sample = resolve_thoughts(given)["1"]
    known = None if sample.thought_open is None else False
    truncated = sample.truncated or sample.thought_cut
    assert read_answer(item, sample.response or "", truncated=truncated, thought_open=known).how == expected


def test_whole_replies_outvote_a_lone_marker() -> None:
    given = {str(n): recorded_sample(str(n), "b", finish_reason="stop") for n in range(3)}
    given["3"] = recorded_sample("3", LONE, finish_reason="stop")
    resolved = resolve_thoughts(given)
    assert [resolved[str(n)].response for n in range(4)] == ["b", "b", "b", "b"]
    assert not any(sample.thought_cut for sample in resolved.values())


WHOLE = "b\n\nThe gallbladder is distended, since the duct is blocked below the cystic duct. A stone would hurt. " * 2
MIXED = {"1": "答え：b", "2": "<think>a</think>b", "3": "a</think>b", "4": "<seed:think>a</seed:think>b", "5": "b"}


@pytest.mark.parametrize(
    ("texts", "is_thought"),
    [
        pytest.param(["a</think>b", CUT], True, id="one of two"),
        pytest.param(["a</think>b", *[CUT] * 50], True, id="all others look cut off"),
        pytest.param(["a</think>b", *[WHOLE] * 50], False, id="a slip among whole replies"),
        pytest.param(["a</think>b", *["b"] * 50], False, id="a slip among bare answers"),
        pytest.param(["b", *MIXED.values()], False, id="of several models"),
    ],
)
def test_a_lone_marker_without_finish_reasons(texts: list[str], is_thought: bool) -> None:
    given = {str(n): recorded_sample(str(n), text) for n, text in enumerate(texts)}
    resolved = resolve_thoughts(given)
    for name, sample in resolved.items():
        text = texts[int(name)]
        if "think>" not in text:
            assert (sample.response, sample.thought_cut) == (("", True) if is_thought else (text, False))


def _within_longest_line(thought: str) -> str:
    line = max(thought.split("\n"), key=len)
    return thought[: thought.index(line) + len(line) // 2].rstrip(" .。,、:：)）*")


HALVES = [cut for cut in map(_within_longest_line, (each.thought for each in REPLIES)) if len(cut) >= 60]
HALVES = [cut for cut in HALVES if len(cut.rpartition("\n")[2]) > 12]
CONCLUDES = "Let me think step by step. Painless jaundice suggests distal obstruction of the duct.\n\nThe answer is b"
LISTS = [
    "Thinking Process:\n\n1.  **Analyze the Request:**\n    *   Answer: b\n\n2.  **Ident",
    "Thinking Process:\n\n1.  **Analyze the Request:**\n    *   The answer is b.\n    *",
    "思考プロセス：\n\n1.  **問題の分析：**\n    *   答え：b\n    *   胆嚢腫大は閉塞を示す。\n\n2.  **選択肢",
    "Here's a thinking process:\n\n1.  **Understand:** painless jaundice. Answer: b\n2.  **Check the options:",
] * 2  # fmt: skip
"""Lists, in which no sentence shows that they were cut off."""

CHATTY = [
    "The patient has a distended gallbladder, so the duct is blocked below the cystic duct. The answer is B. "
    "Gallbladder cancer is less likely because",
    "無痛性の黄疸と胆嚢の腫大を認めることから、閉塞は胆嚢管の合流部より下にあると考えられます。したがって正解はbです。"
    "胃癌では早期に黄疸を来すことはまれであり、大腸癌は肝転移によって黄疸を来すことがありますが、その頻度は",
] * 20


@pytest.mark.parametrize(
    ("texts", "thoughts"),
    [
        pytest.param(HALVES, HALVES, id="thoughts that were cut off"),
        pytest.param([*HALVES, "【回答】b", *[WHOLE] * 9], HALVES, id="beside whole answers"),
        pytest.param([*HALVES, WHOLE], [*HALVES, WHOLE], id="one of them at the end of a sentence"),
        pytest.param(CHATTY, [], id="answers that were cut off"),
        pytest.param([reply.thought + "\n" + reply.answer for reply in REPLIES], [], id="markers that were dropped"),
        pytest.param([WHOLE] * 60, [], id="whole answers"),
        pytest.param([CONCLUDES] * 60, [], id="whole answers that think aloud and end in their answer"),
        pytest.param([*HALVES, *[CONCLUDES] * 9, *[WHOLE] * 9], HALVES, id="some of them beside thoughts"),
        pytest.param(HALVES[:6], [], id="too few to judge"),
        pytest.param([*LISTS, "Okay, b?"], [*LISTS, "Okay, b?"], id="thoughts that are lists"),
    ],
)
def test_a_file_without_markers_and_finish_reasons(texts: list[str], thoughts: list[str]) -> None:
    given = {str(n): recorded_sample(str(n), text) for n, text in enumerate(texts)}
    resolved = resolve_thoughts(given)
    assert [texts[int(name)] for name, sample in resolved.items() if sample.thought_cut] == thoughts
    assert len(resolved_note(given, resolved)) == bool(thoughts)
    known = {str(n): recorded_sample(str(n), text, thought_open=False) for n, text in enumerate(texts)}
    assert resolve_thoughts(known) == known


@pytest.mark.parametrize(("texts", "thoughts"), [(HALVES, len(HALVES)), ([CUT, WHOLE], 1), ([WHOLE] * 9, 0)])
def test_a_cut_thought_as_content_beside_thoughts_in_a_field(texts: list[str], thoughts: int) -> None:
    given = {str(n): recorded_sample(str(n), text) for n, text in enumerate(texts)}
    given |= {f"+{n}": recorded_sample(f"+{n}", "b", thought_open=False, reasoning="Hmm.") for n in range(5)}
    resolved = resolve_thoughts(given)
    assert sum(sample.thought_cut for sample in resolved.values()) == thoughts
    assert [resolved[f"+{n}"].response for n in range(5)] == ["b"] * 5


def test_samples_keep_what_is_known() -> None:
    known = {"1": Sample("1", "", "", response="b", finish_reason="stop", thought_open=False)}
    assert resolve_thoughts(known) == known
