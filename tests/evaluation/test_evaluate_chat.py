"""Evaluation with chat prompts: prompts are hashed, and all have the same date."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conftest import write_questions
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_model, tasks
from jmedllm.evaluation.prompts.format import PromptConfig, ask
from jmedllm.evaluation.records import read_samples
from jmedllm.evaluation.result import EvalResult
from jmedllm.files import hash_text
from jmedllm.models.backends.base import ModelSpec
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.precision import choose_precision

CPU = choose_precision("float32", "cpu")
DATED = (
    "Today: {{ strftime_now('%d %b %Y') }}\n{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% if brief is defined %}{{ brief }} {% endif %}{% endif %}"
)
UNDATED = DATED.replace("Today: {{ strftime_now('%d %b %Y') }}", "Hello.")


@pytest.fixture
def dated(tiny_model: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "dated"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text(DATED, encoding="utf-8")
    return folder


def evaluate_task(model: Path, output: Path, day: str, limit: int = 7, **prompt_config: Any) -> EvalResult:
    """What an exam in Japanese comes to on a day."""
    exam = write_questions(output.parent / "exam.jsonl")
    settings = EvalConfig(
        benchmarks=[f"{exam}:ja"], selection="all", limit=limit, max_new_tokens=4, scorers=["answer", "likelihood"]
    )
    evaluated = tasks(settings, PromptConfig(chat=True, **prompt_config), Path("unused"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ChatTemplate, "today", lambda _: day)
        return evaluate_model(ModelSpec(str(model), "tiny", precision=CPU), evaluated, output)[0]


THINKS = DATED.replace("assistant: {%", "assistant: <think>\n{%")
CLOSES = DATED.replace("assistant: {%", "assistant: <think>\n\n</think>\n\n{%")


@pytest.mark.parametrize(
    ("template", "chat", "budget", "message"),
    [
        pytest.param(THINKS, True, 24, "thinking_budget: 24 of 24 max_new_tokens leave none for the", id="no room"),
        pytest.param(THINKS, False, 8, "thinking_budget: only replies to chat messages have thoughts", id="no chat"),
        pytest.param(CLOSES, True, 8, "thinking_budget: the prompts close the thought; set prompt.t", id="closed"),
    ],
)
def test_a_budget_without_a_thought_is_refused(
    dated: Path, tmp_path: Path, template: str, chat: bool, budget: int, message: str
) -> None:
    (dated / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(InputError) as error:
        evaluate_budget(dated, tmp_path / "out", budget, chat=chat)
    assert str(error.value).startswith(message)
    assert not (tmp_path / "out").exists()


def evaluate_budget(model: Path, output: Path, budget: int | None, *, chat: bool = True) -> EvalResult:
    exam = write_questions(output.parent / "exam.jsonl")
    settings = EvalConfig(
        benchmarks=[f"{exam}:ja"],
        selection="all",
        limit=4,
        max_new_tokens=24,
        thinking_budget=budget,
        scorers=["answer", "likelihood"],
    )
    evaluated = tasks(settings, PromptConfig(chat=chat), Path("unused"))
    return evaluate_model(ModelSpec(str(model), "tiny", precision=CPU), evaluated, output)[0]


def test_a_thought_at_its_budget_is_closed_and_the_answer_is_read(dated: Path, tmp_path: Path) -> None:
    (dated / "chat_template.jinja").write_text(THINKS, encoding="utf-8")
    result = evaluate_budget(dated, tmp_path / "budget", 8)
    assert result.settings["thinking_budget"] == 8
    assert "thinking_budget" not in evaluate_budget(dated, tmp_path / "free", None).settings
    limited, free = (rows(tmp_path / name) for name in ("budget", "free"))
    for one, other in zip(limited, free, strict=True):
        assert (one["forced"], one["reasoning_tokens"], one["thought_cut"]) == (True, 8, False)
        assert (other["forced"], other["reasoning_tokens"], other["thought_cut"]) == (False, 24, True)
        assert one["new_tokens"] == other["new_tokens"] == 24
        assert 0 < one["reasoning_seconds"] <= one["seconds"] and 0 < other["reasoning_seconds"] <= other["seconds"]
        assert one["log_probs"] == pytest.approx(other["log_probs"])
    with pytest.raises(InputError, match="thinking_budget"):
        evaluate_budget(dated, tmp_path / "budget", 9)


@pytest.mark.parametrize("scorer_by", ["text", "letter"])
def test_choices_are_scored_behind_a_thought_that_the_prompt_opens(
    dated: Path, tmp_path: Path, scorer_by: str
) -> None:
    found = {}
    for name, template in {"open": THINKS, "closed": CLOSES}.items():
        (dated / "chat_template.jinja").write_text(template, encoding="utf-8")
        result = evaluate_task(dated, tmp_path / name, "2024-02-03", answer_as=scorer_by)
        found[name] = [row["log_probs"] for row in rows(tmp_path / name)]
        assert any("are those of an answer without a thought" in note for note in result.notes) == (name == "open")
        assert result.settings.get("answer_opening") == ("\n</think>\n\n" if name == "open" else None)
    for one, other in zip(found["open"], found["closed"], strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_budget_for_a_template_without_thoughts_is_noted(dated: Path, tmp_path: Path) -> None:
    (dated / "chat_template.jinja").write_text(UNDATED, encoding="utf-8")
    result = evaluate_budget(dated, tmp_path / "budget", 8)
    assert any(note.startswith("The chat template of tiny has no thoughts; the thinking") for note in result.notes)
    assert [row["forced"] for row in rows(tmp_path / "budget")] == [False] * 4


def rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "exam.ja.samples.jsonl").open(encoding="utf-8")]


def test_an_evaluation_resumed_on_another_day_keeps_its_date(dated: Path, tmp_path: Path) -> None:
    whole = evaluate_task(dated, tmp_path / "whole", "2026-11-29")
    assert whole.settings["date"] == "2026-11-29"
    evaluate_task(dated, tmp_path / "killed", "2026-11-29", limit=3)
    assert evaluate_task(dated, tmp_path / "killed", "2026-11-30") == whole
    killed, finished = ([row | {"seconds": None} for row in rows(tmp_path / name)] for name in ("killed", "whole"))
    assert killed == finished
    other = evaluate_task(dated, tmp_path / "other", "2026-11-30")
    assert other.settings["date"] == "2026-11-30"
    hashes = [{row["prompt_hash"] for row in rows(tmp_path / name)} for name in ("whole", "other")]
    assert not hashes[0] & hashes[1]


def test_the_text_that_the_model_was_given_is_hashed(dated: Path, tmp_path: Path) -> None:
    evaluate_task(dated, tmp_path / "out", "2026-11-29", date="2024-02-03")
    settings = EvalConfig(benchmarks=[f"{tmp_path}/exam.jsonl:ja"], selection="all")
    [task] = tasks(settings, PromptConfig(chat=True), Path("unused"))
    template = ChatTemplate(load_tokenizer(dated), date="2024-02-03")
    texts = {
        presented.key: ask(task.prompt_format, presented.permuted, template.prompt) for presented in task.presented()
    }
    assert all(text.startswith("Today: 03 Feb 2024\n") for text in texts.values())
    samples = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    assert {name: sample.prompt_hash for name, sample in samples.items()} == {
        name: hash_text(text) for name, text in texts.items()
    }


def test_a_complete_evaluation_needs_no_weights(dated: Path, tmp_path: Path) -> None:
    first = evaluate_task(dated, tmp_path / "out", "2026-11-29")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jmedllm.models.backends.transformers.model.load_model", lambda *_, **__: pytest.fail("loaded"))
        assert evaluate_task(dated, tmp_path / "out", "2026-12-24") == first


# what is changed, and what is said of it
CHANGED = {
    "another day": ({"date": "2024-02-03"}, DATED, "date '2026-11-29' is now '2024-02-03'"),
    "a variable": ({"template_args": {"brief": "!"}}, DATED, "template_args None is now"),
    "another template": ({}, UNDATED, "chat_template '"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_a_changed_template_date_or_variable_needs_another_output(dated: Path, tmp_path: Path, case: str) -> None:
    prompt_config, template, message = CHANGED[case]
    evaluate_task(dated, tmp_path / "out", "2026-11-29", limit=2)
    (dated / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(InputError, match=f"evaluated with other settings .*{message}"):
        evaluate_task(dated, tmp_path / "out", "2026-11-29", **prompt_config)


def test_a_template_without_a_date_records_none(dated: Path, tmp_path: Path) -> None:
    (dated / "chat_template.jinja").write_text(UNDATED, encoding="utf-8")
    settings = evaluate_task(dated, tmp_path / "out", "2026-11-29", limit=1).settings
    assert "date" not in settings and settings["chat_template"] == hash_text(UNDATED)


# a date or variables as written, and what is said of them
WRONG = [
    ({"date": "29.11.2026"}, "29.11.2026 is not a date; write it as YYYY-MM-DD"),
    ({"template_args": {"day": CPU}}, "a value is not JSON"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_wrong_values_for_a_template_are_reported(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptConfig(chat=True, **values)
