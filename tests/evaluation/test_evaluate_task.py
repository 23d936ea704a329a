"""Evaluating a tiny real model: samples, resuming, and what must not change the answers."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import TEXTS, build_tiny, write_questions
from fork_server import ForkServer
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_model, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.model import model_settings
from jmedllm.evaluation.prompts.format import PromptConfig, ask
from jmedllm.evaluation.records import Sample, append_samples, read_samples, read_scores
from jmedllm.evaluation.sharding import evaluate_shares
from jmedllm.locks import locked
from jmedllm.models.backends import BACKENDS
from jmedllm.models.backends.base import GenerationConfig, ModelSpec, Request
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.folder import Quantization
from jmedllm.models.random_init import RandomInit, build
from jmedllm.precision import choose_precision
from jmedllm.processes import Rank
from jmedllm.progress import Advance
from jmedllm.report import collect

CPU = choose_precision("float32", "cpu")


def evaluate_task(model: Path, exam: Path, output: Path, *, adapter: Path | None = None, **changes: Any) -> Any:
    options = {"benchmarks": [str(exam)], "selection": "all", "max_new_tokens": 12, "batch_size": 4}
    options |= {"scorers": ["answer", "legacy", "likelihood"]} | changes
    settings = EvalConfig(**options)
    evaluated = tasks(settings, PromptConfig(), Path("unused"))
    return evaluate_model(
        ModelSpec(str(model), "tiny", precision=CPU, adapter=adapter, batch_size=settings.batch_size),
        evaluated,
        output,
    )


def same(left: Path, right: Path, name: str) -> bool:
    """Whether two folders have the same samples and item scores of a task."""
    ours, theirs = (read_samples(folder / f"{name}.samples.jsonl") for folder in (left, right))
    assert list(ours) == list(theirs)
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        assert replace(a, log_probs=None, seconds=None) == replace(b, log_probs=None, seconds=None)
        assert a.log_probs == pytest.approx(b.log_probs, rel=1e-5, abs=1e-4)
    return read_scores(left / f"{name}.scores.jsonl") == read_scores(right / f"{name}.scores.jsonl")


def test_progress_counts_the_generated_tokens(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[tuple[int, str]] = []

    @contextmanager
    def progress(title: str, total: int, done: int) -> Iterator[Advance]:
        yield lambda steps, note: notes.append((steps, note))

    monkeypatch.setattr("jmedllm.evaluation.generate.progress", progress)
    exam = write_questions(tmp_path / "exam.jsonl", count=2)
    evaluate_task(tiny_model, exam, tmp_path / "out", languages=["ja"], scorers=["answer"])
    tokens = [sample.new_tokens for sample in read_samples(tmp_path / "out" / "exam.ja.samples.jsonl").values()]
    assert len(tokens) == sum(steps for steps, _ in notes) == 2
    assert notes[-1] == (1, f"{sum(filter(None, tokens))} tokens")
    assert notes[0] == (0, "2 tokens")  # during the batch


def test_one_sample_per_item_with_everything_in_it(tiny_model: Path, tmp_path: Path) -> None:
    results = evaluate_task(tiny_model, write_questions(tmp_path / "exam.jsonl"), tmp_path / "out")
    assert [(s.settings["benchmark"], s.settings["language"]) for s in results] == [
        ("exam", "ja"),
        ("exam", "en"),
    ]
    page = Path(__file__).parents[2] / "docs" / "evaluation" / "reference.md"
    (row,) = (line for line in page.read_text(encoding="utf-8").split("\n") if line.startswith("| `settings` |"))
    assert set(results[0].settings) - set(re.findall(r"`(\w+)`", row)) == set()
    samples = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    scores = read_scores(tmp_path / "out" / "exam.ja.scores.jsonl")
    assert list(samples) == list(scores) == [f"q{i}" for i in range(7)]
    for name in ("samples", "scores"):  # they contain questions' answers: for the owner alone
        assert (tmp_path / "out" / f"exam.ja.{name}.jsonl").stat().st_mode & 0o777 == 0o600
    for sample in samples.values():
        assert len(sample.prompt_hash) == 16
        assert sample.response is not None and sample.decoded is None
        assert sample.log_probs is not None and len(sample.log_probs) == 4 and sample.log_probs_of == "texts"
        assert 1 <= (sample.new_tokens or 0) <= 12 and (sample.seconds or 0) > 0
        assert sample.truncated == (sample.finish_reason == "length")
        assert set(scores[sample.id].item_scores) == {"answer", "legacy", "likelihood"}
    metrics = [(score.scorer, score.metric, score.n) for score in results[0].scores]
    assert metrics == [
        ("answer", "accuracy", 7),
        ("legacy", "exact_match", 7),
        ("legacy", "gestalt_match", 7),
        ("likelihood", "accuracy", 7),
        ("likelihood", "accuracy_per_byte", 7),
    ]


def test_a_finished_evaluation_needs_no_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    first = evaluate_task(tiny_model, exam, tmp_path / "out")
    monkeypatch.setattr("jmedllm.models.backends.transformers.model.load_model", None)
    assert evaluate_task(tiny_model, exam, tmp_path / "out") == first
    assert evaluate_task(tiny_model, exam, tmp_path / "out", batch_size=2) == first


def test_a_killed_evaluation_resumes_with_another_batch_size(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    evaluate_task(tiny_model, exam, tmp_path / "whole")
    answer = TransformersModel.answer

    def killed_after_six(self: TransformersModel, *arguments: Any) -> Any:
        for count, response in enumerate(answer(self, *arguments)):
            if count == 6:
                raise KeyboardInterrupt
            yield response

    with monkeypatch.context() as patch:
        patch.setattr(TransformersModel, "answer", killed_after_six)
        with pytest.raises(KeyboardInterrupt):
            evaluate_task(tiny_model, exam, tmp_path / "killed", batch_size=3)
    half = tmp_path / "killed" / "exam.ja.samples.jsonl"
    assert len(half.read_text(encoding="utf-8").splitlines()) == 6
    with half.open("a", encoding="utf-8") as handle:
        handle.write('{"id": "q6", "prompt_ha')  # what a kill leaves of a line
    evaluate_task(tiny_model, exam, tmp_path / "killed", batch_size=5)
    assert all(same(tmp_path / "whole", tmp_path / "killed", name) for name in ("exam.ja", "exam.en"))


def test_a_longer_limit_keeps_the_samples_there_are(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    assert evaluate_task(tiny_model, exam, tmp_path / "out", limit=3)[0].scores[0].n == 3
    assert evaluate_task(tiny_model, exam, tmp_path / "out", limit=7)[0].scores[0].n == 7
    assert evaluate_task(tiny_model, exam, tmp_path / "out", limit=3)[0].scores[0].n == 3
    assert len(read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")) == 7


def test_other_settings_need_another_output(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    evaluate_task(tiny_model, exam, tmp_path / "out")
    with pytest.raises(InputError, match=r"with other settings \(max_new_tokens 12 is now 5\); choose another"):
        evaluate_task(tiny_model, exam, tmp_path / "out", max_new_tokens=5)
    other = build_tiny(tmp_path / "other", seed=9)
    with pytest.raises(InputError, match=r"fingerprint '\w{16}' is now '\w{16}'"):
        evaluate_task(other, exam, tmp_path / "out")


def test_only_changed_prompts_are_asked_again(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    evaluate_task(tiny_model, exam, tmp_path / "out")
    before = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    exam.write_text(exam.read_text(encoding="utf-8").replace("痛風3", "糖尿病"), encoding="utf-8")
    asked: list[str] = []
    monkeypatch.setattr(TransformersModel, "answer", recording(TransformersModel.answer, asked))
    evaluate_task(tiny_model, exam, tmp_path / "out")
    after = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    assert asked == ["q3", "q3"] and list(after) == list(before)
    assert [name for name in after if after[name].prompt_hash != before[name].prompt_hash] == ["q3"]
    assert after["q3"].log_probs != before["q3"].log_probs


def test_a_changed_gold_asks_the_model_nothing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    [first, _] = evaluate_task(tiny_model, exam, tmp_path / "out")
    before = (tmp_path / "out" / "exam.ja.samples.jsonl").read_bytes()
    chosen = read_scores(tmp_path / "out" / "exam.ja.scores.jsonl")["q0"].item_scores["likelihood"]["chosen"][0]
    rows = [json.loads(line) for line in exam.read_text(encoding="utf-8").splitlines()]
    wrong, right = ("abcd"[(chosen + 1) % 4], "abcd"[chosen])
    values = []
    monkeypatch.setattr(TransformersModel, "answer", lambda *_: pytest.fail("the model was asked"))
    for gold in (wrong, right):
        rows[0]["answer"] = [gold]
        exam.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        [result, _] = evaluate_task(tiny_model, exam, tmp_path / "out")
        values += [s.correct for s in result.scores if (s.scorer, s.metric) == ("likelihood", "accuracy")]
    assert values[1] == values[0] + 1 and first.trace["samples"] == result.trace["samples"]
    assert (tmp_path / "out" / "exam.ja.samples.jsonl").read_bytes() == before


def test_another_scorer_asks_only_for_what_no_sample_has(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=3)
    evaluate_task(tiny_model, exam, tmp_path / "whole", scorers=["answer", "legacy", "likelihood"])
    asked: list[Request] = []
    answer = TransformersModel.answer

    def recorded(self: TransformersModel, requests: Any, generation: Any) -> Any:
        asked.extend(requests)
        return answer(self, requests, generation)

    monkeypatch.setattr(TransformersModel, "answer", recorded)

    def asked_for(*scorers: str) -> list[tuple[bool, bool]]:
        asked.clear()
        [result, _] = evaluate_task(tiny_model, exam, tmp_path / "out", scorers=list(scorers))
        assert result.settings["scorers"] == list(scorers)
        return sorted({(request.generate, bool(request.choices)) for request in asked})

    # A response that stopped behind its first line is enough for legacy, and for no other scorer.
    assert asked_for("legacy") == [(True, False)]
    assert asked_for("likelihood") == [(False, True)]
    assert asked_for("legacy", "likelihood") == []
    stopped = {s.stopped_early for s in read_samples(tmp_path / "out" / "exam.ja.samples.jsonl").values()}
    assert asked_for("answer", "legacy", "likelihood") == ([(True, False)] if True in stopped else [])
    assert all(same(tmp_path / "whole", tmp_path / "out", name) for name in ("exam.ja", "exam.en"))


def test_an_adapter_changes_the_answers(tiny_model: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    evaluate_task(tiny_model, exam, tmp_path / "plain")
    evaluate_task(tiny_model, exam, tmp_path / "adapted", adapter=tiny_adapter)
    plain, adapted = (read_samples(tmp_path / name / "exam.ja.samples.jsonl") for name in ("plain", "adapted"))
    assert [r.log_probs for r in plain.values()] != [r.log_probs for r in adapted.values()]


def test_samples_with_an_adapter_are_not_taken_for_the_base_model_s(
    tiny_model: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    evaluate_task(tiny_model, exam, tmp_path / "out", adapter=tiny_adapter)
    with pytest.raises(InputError, match=r"adapter_fingerprint '\w{16}' is now None"):
        evaluate_task(tiny_model, exam, tmp_path / "out")


def test_tasks_need_distinct_names(tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    twice = EvalConfig(benchmarks=[str(exam), str(exam)], selection="all")
    with pytest.raises(InputError, match=r"exam\.ja is asked for twice"):
        tasks(twice, PromptConfig(), Path("unused"))
    borrowed = write_questions(tmp_path / "igakuqa.jsonl")
    with pytest.raises(InputError, match="has the same name as the benchmark igakuqa; rename your file"):
        tasks(EvalConfig(benchmarks=[str(borrowed)], selection="all"), PromptConfig(), Path("unused"))


def test_the_lock_empties_no_file(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("mine", encoding="utf-8")
    with locked(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text(encoding="utf-8") == "mine"


def test_an_evaluation_keeps_a_second_process_out(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    with locked(tmp_path / "out"), pytest.raises(InputError, match="is in use by another jmedllm process"):
        evaluate_task(tiny_model, exam, tmp_path / "out")


def test_the_version_that_answered_stays(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    first = evaluate_task(tiny_model, exam, tmp_path / "out", limit=3)
    monkeypatch.setattr("jmedllm.evaluation.resume.__version__", "99")
    assert evaluate_task(tiny_model, exam, tmp_path / "out", limit=2)[0].trace["jmedllm"] == first[0].trace["jmedllm"]


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "exam.ja.samples.jsonl",
            '{"id": "mine"}\n{"id": "my last line"}',
            r"exam\.ja\.samples\.jsonl: exam\.ja\.json is missing in the same folder",
        ),
        ("exam.ja.json", '{"mine": 1}', r"exam\.ja\.json: is not a summary of jmedllm eval"),
        ("exam.ja.json", '{"settings": "x", "trace": 1}', r"exam\.ja\.json: is not a summary of jmedllm eval"),
        ("exam.ja.json", "[]", r"exam\.ja\.json: is not a summary of jmedllm eval"),
    ],
)
def test_files_of_the_user_stay_as_they_are(
    tiny_model: Path, tmp_path: Path, name: str, content: str, problem: str
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"{problem}; choose another --output"):
        evaluate_task(tiny_model, write_questions(tmp_path / "exam.jsonl"), tmp_path / "out")
    assert (tmp_path / "out" / name).read_text(encoding="utf-8") == content


def test_scorers_in_another_order_are_the_same_evaluation(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    first = evaluate_task(tiny_model, exam, tmp_path / "out", scorers=["legacy", "likelihood"])
    assert evaluate_task(tiny_model, exam, tmp_path / "out", scorers=["likelihood", "legacy", "likelihood"]) == first


def test_a_result_says_how_many_items_were_left_out(tiny_model: Path, tmp_path: Path) -> None:
    first = evaluate_task(tiny_model, write_questions(tmp_path / "exam.jsonl"), tmp_path / "out", limit=3)[0]
    assert (first.asked, first.selected) == (3, 7)


def test_samples_of_another_form_are_refused(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text("{}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"samples\.jsonl:1: not a row of this version of jmedllm"):
        read_samples(tmp_path / "samples.jsonl")


def test_a_later_line_of_a_sample_replaces_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    first, other = Sample("a", "x", "y", response="b"), Sample("b", "x", "y")
    whole = replace(first, log_probs=(-1.0, -2.0), log_probs_of="texts")
    append_samples(path, [first, other, whole])
    assert read_samples(path) == {"a": whole, "b": other}


def test_shots_chat_and_letters_are_different_tasks(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    shots = write_questions(tmp_path / "shots.jsonl", count=2)
    settings = EvalConfig(benchmarks=[str(exam)], selection="all")
    hashes = {
        tasks(settings, prompt_config, Path("unused"))[0].settings()["prompt_pack_hash"]
        for prompt_config in (
            PromptConfig(),
            PromptConfig(pack="preamble"),
            PromptConfig(answer_as="letter"),
            PromptConfig(shots=str(shots)),
            PromptConfig(chat=True),
        )
    }
    assert len(hashes) == 5
    evaluated = tasks(settings, PromptConfig(chat=True), Path("unused"))
    with pytest.raises(InputError, match="no chat template"):
        evaluate_model(ModelSpec(str(tiny_model), "tiny", precision=CPU), evaluated, tmp_path / "out")


def test_rotations_are_evaluated_and_reported(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=3)
    japanese, _ = evaluate_task(tiny_model, exam, tmp_path / "out", shuffle=1, rotations=3)
    assert [(r.scorer, r.n, r.rotations) for r in japanese.rotations] == [
        (scorer, 3, 3) for scorer in ("answer", "legacy", "likelihood")
    ]
    samples = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    assert list(samples) == [f"q{i}{turn}" for i in range(3) for turn in ("", "~1", "~2")]
    assert sorted(samples["q0~1"].order) == [0, 1, 2, 3]
    assert samples["q0~1"].order == samples["q0"].order[1:] + samples["q0"].order[:1]
    # The scores are those of the first presentation only.
    assert {score.n for score in japanese.scores} == {3}
    assert evaluate_task(tiny_model, exam, tmp_path / "out", shuffle=1, rotations=3)[0] == japanese
    (tmp_path / "out" / "exam.ja.json").write_text(
        (tmp_path / "out" / "exam.ja.json").read_text(encoding="utf-8").replace('"scores"', '"lost"'),
        encoding="utf-8",
    )
    assert evaluate_task(tiny_model, exam, tmp_path / "out", shuffle=1, rotations=3)[0] == japanese
    # Probabilities are those of the printed choices, in whatever order these were shown.
    scored = read_scores(tmp_path / "out" / "exam.ja.scores.jsonl")
    item_scores = [(samples[name], row.item_scores["likelihood"]["chosen"]) for name, row in scored.items()]
    texts = [json.loads(line)["choices"] for line in exam.read_text(encoding="utf-8").splitlines()]
    model = load_model(tiny_model, CPU)
    [task, _] = tasks(
        EvalConfig(benchmarks=[str(exam)], selection="all", shuffle=1, rotations=3), PromptConfig(), Path("unused")
    )
    for presented in task.presented():
        prompt = ask(task.prompt_format, presented.permuted, str)
        [(_, given)] = model.answer([Request("1", prompt, "1", choices=tuple(texts[0][:2]))], GenerationConfig(1))
        sample = samples[presented.key]
        assert sample.log_probs is not None and given.log_probs is not None
        assert sample.log_probs[:2] == pytest.approx(given.log_probs, rel=1e-5, abs=1e-4)
    assert all(sample.log_probs and chosen == [max(range(4), key=sample.log_probs.__getitem__)]
               for sample, chosen in item_scores)  # fmt: skip
    plain, _ = evaluate_task(tiny_model, exam, tmp_path / "shuffled", shuffle=1)
    assert {score.constant_floor for score in plain.scores} == {None}
    assert plain.scores == japanese.scores and plain.rotations == ()


def test_a_letter_is_scored_by_its_label(tiny_model: Path, tmp_path: Path) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    settings = EvalConfig(benchmarks=[str(exam)], languages=["en"], scorers=["likelihood"], selection="all")
    evaluated = tasks(settings, PromptConfig(answer_as="letter"), Path("unused"))
    [result] = evaluate_model(ModelSpec(str(tiny_model), "tiny", precision=CPU), evaluated, tmp_path / "out")
    assert [score.metric for score in result.scores] == ["accuracy"]
    calibration = result.calibration
    assert calibration is not None and calibration.n == 7
    assert 0 <= calibration.expected_calibration_error <= 1 and 0 <= calibration.brier <= 2
    assert sum(each["n"] for each in calibration.bins) == 7
    samples = read_samples(tmp_path / "out" / "exam.en.samples.jsonl")
    assert all(len(sample.log_probs or ()) == 4 and max(sample.log_probs or (1,)) < 0 for sample in samples.values())


def test_several_processes_write_the_files_that_one_writes(
    tiny_model: Path, tmp_path: Path, forks: ForkServer
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    options = ["--model", tiny_model, "--benchmark", exam, "--selection", "all", "--max-new-tokens", "8"]
    options += ["--rotations", "2", "--precision", "float32", "--device", "cpu", "--json"]

    def evaluated(processes: int, output: str) -> str:
        first, *others = forks.run_ranks(processes, "-m", "jmedllm", "eval", *options, "--output", tmp_path / output)
        assert [each.returncode for each in (first, *others)] == [0] * processes, first.stderr
        assert not any(each.stdout for each in others)
        return first.stdout

    alone = evaluated(1, "one")
    # Begun by one process that was killed, resumed by two.
    (tmp_path / "two").mkdir()
    for name in ("exam.ja.samples.jsonl", "exam.ja.json"):
        (tmp_path / "two" / name).write_bytes((tmp_path / "one" / name).read_bytes())
    samples = (tmp_path / "two" / "exam.ja.samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "two" / "exam.ja.samples.jsonl").write_text("".join(samples[:3]), encoding="utf-8")
    assert json.loads(evaluated(2, "two")) == json.loads(alone)
    assert all(same(tmp_path / "one", tmp_path / "two", name) for name in ("exam.ja", "exam.en"))
    assert not list((tmp_path / "two").glob("rank-*"))


def test_if_one_process_fails_one_line_says_why(tmp_path: Path, forks: ForkServer) -> None:
    exam = write_questions(tmp_path / "exam.jsonl")
    model = build_tiny(tmp_path / "short", context=60)
    options = ["--model", model, "--benchmark", exam, "--selection", "all", "--device", "cpu"]
    options += ["--max-new-tokens", "8", "--precision", "float32", "--output", tmp_path / "out"]
    ended = forks.run_ranks(2, "-m", "jmedllm", "eval", *options)
    said = "".join(each.stderr for each in ended)
    message = [line for line in said.splitlines() if line.startswith("error: ")]
    assert any(each.returncode for each in ended)
    assert len(message) == 1 and "the context of short is 60" in message[0]
    assert "Traceback" not in said


def test_each_process_has_its_share(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=5)
    settings = EvalConfig(benchmarks=[str(exam)], languages=["ja"], scorers=["likelihood"], selection="all")
    evaluated = tasks(settings, PromptConfig(), Path("unused"))
    monkeypatch.setattr("jmedllm.evaluation.sharding._agree", lambda problem, here: None)
    shaping = model_settings(ModelSpec(str(tiny_model), "tiny", precision=CPU))
    model = load_model(tiny_model, CPU, name="tiny")
    assert evaluate_shares(evaluated, PreparedModel(shaping, lambda: model), tmp_path / "out", Rank(1, 1, 2)) == []
    share = tmp_path / "out" / "rank-1"
    assert list(read_samples(share / "exam.ja.samples.jsonl")) == ["q1", "q3"]
    # A share is not an evaluation of its own; the evaluation resumed by one process takes it over and asks the rest.
    with pytest.raises(InputError, match="has no finished evaluation"):
        collect([tmp_path / "out"])
    asked: list[str] = []
    monkeypatch.setattr(TransformersModel, "answer", recording(TransformersModel.answer, asked))
    [result] = evaluate_tasks(evaluated, PreparedModel(shaping, lambda: model), tmp_path / "out")
    assert (asked, result.asked, share.exists()) == (["q0", "q2", "q4"], 5, False)


def recording(answer: Any, asked: list[str]) -> Any:
    def wrapped(self: TransformersModel, requests: Any, generation_config: Any) -> Any:
        asked.extend(request.id for request in requests)
        return answer(self, requests, generation_config)

    return wrapped


def test_a_base_model_in_four_bits_is_another_evaluation(tmp_path: Path) -> None:
    # On a CPU bitsandbytes packs 4-bit layers into tiles that smaller ones do not fill.
    shape = RandomInit(architecture="qwen2", vocabulary=320, hidden_size=128, layers=2, feed_forward=256, context=512)
    build(shape, TEXTS, tmp_path / "model", seed=1)
    model = tmp_path / "model"
    exam = write_questions(tmp_path / "exam.jsonl", count=2)
    settings = EvalConfig(benchmarks=[str(exam)], languages=["ja"], scorers=["likelihood"], selection="all")
    evaluated = tasks(settings, PromptConfig(), Path("unused"))

    def spec(quantization: Quantization) -> ModelSpec:
        return ModelSpec(str(model), "tiny", precision=CPU, quantization=quantization)

    methods: tuple[Quantization, ...] = ("none", "nf4")
    for quantization in methods:
        evaluate_model(spec(quantization), evaluated, tmp_path / quantization)
    whole, packed = (
        read_samples(tmp_path / name / "exam.ja.samples.jsonl")["q0"].log_probs for name in ("none", "nf4")
    )
    assert whole != packed and packed == pytest.approx(whole, rel=0.2)
    with pytest.raises(InputError, match="quantization None is now 'nf4'"):
        evaluate_model(spec("nf4"), evaluated, tmp_path / "none")
    with pytest.raises(InputError, match="backend vllm does not support quantization nf4; use backend transformers"):
        evaluate_model(replace(spec("nf4"), backend="vllm"), evaluated, tmp_path / "v")


def test_another_backend_is_another_evaluation(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exam = write_questions(tmp_path / "exam.jsonl", count=2)
    settings = EvalConfig(benchmarks=[str(exam)], scorers=["answer"], selection="all")
    evaluated = tasks(settings, PromptConfig(), Path("unused"))
    spec = ModelSpec(str(tiny_model), "tiny", precision=CPU)
    evaluate_model(spec, evaluated, tmp_path / "out")
    monkeypatch.setitem(BACKENDS, "other", BACKENDS["transformers"])
    with pytest.raises(InputError, match="backend 'transformers' is now 'other'"):
        evaluate_model(replace(spec, backend="other"), evaluated, tmp_path / "out")
