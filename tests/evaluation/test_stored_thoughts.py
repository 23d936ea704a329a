"""Thoughts are stored apart from the answer, on every path, and evaluations of earlier versions keep theirs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Cli
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.generate import generation_config
from jmedllm.evaluation.judge import Judge, collect_replies
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.records import Sample, read_samples, read_scores
from jmedllm.evaluation.score import Evaluation
from jmedllm.evaluation.scorers import SCORERS
from jmedllm.evaluation.scorers.base import GradedItemScore, Scorer
from jmedllm.models.backends.base import Completion, GenerationConfig, Request, Response
from jmedllm.models.chat import plain_text

HARMONY = "<|channel|>analysis<|message|>It is a.<|end|><|start|>assistant<|channel|>final<|message|>b"
CUT = "それはaか。"

COMPLETIONS: dict[str, tuple[Completion, dict[str, Any]]] = {
    "no thought": (Completion("b\n理由は"), {"response": "b\n理由は"}),
    "tags": (Completion("<think>\nIt is a.\n</think>\n\nb"), {"response": "b", "reasoning": "It is a."}),
    "an empty thought": (Completion("<think>\n\n</think>\n\nb"), {"response": "b"}),
    "opened by the prompt": (
        Completion("It is a.\n</think>\nb", thought_open=True),
        {"response": "b", "reasoning": "It is a.", "thought_open": True},
    ),
    "which nobody said": (
        Completion("It is a.\n</think>\nb", thought_open=None),
        {"response": "b", "reasoning": "It is a.", "thought_open": True},
    ),
    "cut off, opened by the prompt": (
        Completion(CUT, None, "length", thought_open=True),
        {"response": "", "reasoning": CUT, "thought_open": True, "finish_reason": "length", "thought_cut": True},
    ),
    "cut off in a tag": (
        Completion("<think>" + CUT, None, "length"),
        {"response": "", "reasoning": CUT, "finish_reason": "length", "thought_cut": True},
    ),
    "never closed": (Completion("<think>" + CUT), {"response": "", "reasoning": CUT, "thought_cut": True}),
    "Harmony": (Completion(HARMONY, plain="analysisIt is a.b"), {"response": "b", "reasoning": "It is a."}),
    "special tokens behind the answer": (
        Completion("<|START_THINKING|>It is a.<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", plain="It is a.b"),
        {"response": "b<|END_RESPONSE|>", "plain": "b", "reasoning": "It is a."},
    ),
    "several thoughts": (
        Completion("<think>a?</think>Perhaps c.<think>No.</think>b"),
        {"response": "b", "reasoning": "a?\n\nPerhaps c.\n\nNo."},
    ),
    "returned apart": (
        Completion("b", reasoning="It is a.", reasoning_tokens=5),
        {"response": "b", "reasoning": "It is a.", "reasoning_tokens": 5},
    ),
    "apart, and again in the text": (
        Completion("<think>Or c.</think>b", reasoning="It is a."),
        {"response": "b", "reasoning": "It is a.\n\nOr c."},
    ),
    "apart and cut off": (
        Completion("", None, "length", reasoning=CUT),
        {"response": "", "reasoning": CUT, "finish_reason": "length", "thought_cut": True},
    ),
    "all tokens in the thought": (
        Completion("<think>" + CUT, None, "length", new_tokens=7),
        {
            "response": "",
            "reasoning": CUT,
            "finish_reason": "length",
            "thought_cut": True,
            "new_tokens": 7,
            "reasoning_tokens": 7,
        },
    ),
    "closed at the budget": (
        Completion("<think>It is\n</think>\n\nb", forced=True),
        {"response": "b", "reasoning": "It is", "forced": True},
    ),
    "markers of an unknown kind": (
        Completion("<vendor_think>a</vendor_think>b"),
        {"response": "<vendor_think>a</vendor_think>b"},
    ),
}


class Scripted:
    """A model that answers question n with the n-th completion."""

    name = "scripted"

    def answer(self, requests: Sequence[Request], _: GenerationConfig) -> Iterator[tuple[int, Response]]:
        completions = [completion for completion, _ in COMPLETIONS.values()]
        for index, request in enumerate(requests):
            yield index, Response(completions[int(request.group)])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """An evaluation of the scripted model."""
    exam = tmp_path / "exam.jsonl"
    rows = (
        {"id": str(n), "question": f"{n}?", "choices": list("xyz"), "answer": ["b"]} for n in range(len(COMPLETIONS))
    )
    exam.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = EvalConfig(benchmarks=[str(exam)], selection="all", scorers=["answer", "legacy"])
    model = PreparedModel({"model": "scripted", "fingerprint": "f"}, Scripted)
    evaluate_tasks(tasks(config, PromptConfig(), Path("unused")), model, tmp_path / "out")
    return tmp_path / "out"


def test_samples_have_the_thought_apart(stored: Path) -> None:
    samples = read_samples(stored / "exam.en.samples.jsonl")
    for sample, (_, expected) in zip(samples.values(), COMPLETIONS.values(), strict=True):
        known = {"finish_reason": "stop", "order": (0, 1, 2), "prompt_hash": sample.prompt_hash}
        known |= {"content_hash": sample.content_hash, "numbered": sample.numbered}
        assert sample == Sample(sample.id, **known | expected)


def test_only_answers_are_scored(stored: Path) -> None:
    scores = read_scores(stored / "exam.en.scores.jsonl")
    how = dict(zip(COMPLETIONS, (each.item_scores["answer"]["how"] for each in scores.values()), strict=True))
    cut = {
        "cut off, opened by the prompt",
        "cut off in a tag",
        "never closed",
        "apart and cut off",
        "all tokens in the thought",
    }
    assert {name for name, why in how.items() if why == "truncated"} == cut
    assert {name for name, why in how.items() if why == "unknown marker"} == {"markers of an unknown kind"}
    lines = [each.item_scores["legacy"]["response"] for each in scores.values()]
    assert set(lines) == {"", "b", "<vendor_think>a</vendor_think>b"}


def test_an_evaluation_of_an_earlier_version_is_read(cli: Cli, stored: Path) -> None:
    file = stored / "exam.en.samples.jsonl"
    samples = read_samples(file)
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for row, (completion, _) in zip(rows, COMPLETIONS.values(), strict=True):
        row |= {"response": completion.text, "plain": completion.plain, "thought_open": completion.thought_open}
        row["reasoning"] = completion.reasoning
        for name in ("reasoning_tokens", "thought_cut", "forced"):
            del row[name]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for sample, earlier in zip(samples.values(), read_samples(file).values(), strict=True):
        assert (sample.response, sample.reasoning, sample.plain) == (
            earlier.response,
            earlier.reasoning,
            earlier.plain,
        )
        assert (sample.thought_cut, sample.thought_open) == (earlier.thought_cut, earlier.thought_open)
    code, output, errors = cli("score", stored, "--diff")
    assert code == 0 and "0 of 34 item scores differ" in output, errors


def test_a_judge_that_thinks(monkeypatch: pytest.MonkeyPatch, stored: Path) -> None:
    prompts: list[str] = []

    class Thinks:
        name = "judge"

        def answer(self, requests: Sequence[Request], _: GenerationConfig) -> Iterator[tuple[int, Response]]:
            for index, request in enumerate(requests):
                prompts.append(request.prompt)
                yield index, Response(Completion("10 at first.</think>3", thought_open=True))

    scorer = Scorer(
        "asks",
        "response",
        lambda _: True,
        lambda _: GradedItemScore(0.0),
        judge_prompt=lambda output: output.text or "",
    )
    monkeypatch.setitem(SCORERS, "asks", scorer)
    samples = read_samples(stored / "exam.en.samples.jsonl")
    config = EvalConfig(benchmarks=[str(stored.parent / "exam.jsonl")], selection="all")
    [task] = tasks(config, PromptConfig(), Path("unused"))
    evaluation = Evaluation(task.questions, samples, {"answer_as": "text", "scorers": ["asks"]}, len(samples))
    judge = Judge("judge", "f", "transformers", Thinks, plain_text)
    replies = collect_replies(evaluation, judge, None)
    assert {(reply.response, reply.reasoning) for reply in replies.values()} == {("3", "10 at first.")}
    assert not any("It is a" in prompt or CUT in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("completion", "is_final"),
    [
        pytest.param(Completion("b\n"), True, id="the first line of an answer"),
        pytest.param(Completion("b"), False, id="an unfinished line"),
        pytest.param(Completion("<think>\n"), False, id="the first line of a thought"),
        pytest.param(Completion("It is a.\n", thought_open=True), False, id="of one that the prompt opened"),
        pytest.param(Completion("It is a.\n</think>\n", thought_open=True), False, id="the end of the thought"),
        pytest.param(Completion("It is a.\n</think>\n\nb\n", thought_open=True), True, id="the answer behind it"),
    ],
)
def test_generation_does_not_stop_inside_a_thought(tmp_path: Path, completion: Completion, is_final: bool) -> None:
    exam = tmp_path / "exam.jsonl"
    exam.write_text('{"id": "1", "question": "?", "choices": ["x", "y"], "answer": ["b"]}', encoding="utf-8")
    config = EvalConfig(benchmarks=[str(exam)], selection="all", scorers=["legacy"])
    [task] = tasks(config, PromptConfig(chat=True), Path("unused"))
    assert generation_config(task).is_final(completion) == is_final
