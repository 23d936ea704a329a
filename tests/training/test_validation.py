"""Bits per byte is what it says, and measuring changes nothing of the training."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loops import CPU, evaluation, fit, same, tiny

from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.training.early_stopping import EarlyStopping, best_evaluation, should_stop
from jmedllm.training.mixing import choose_texts, is_held_out
from jmedllm.training.validation import Validation, bits_per_byte, first_bytes, make_in_loop_eval, text_set, windows

JAPANESE, ENGLISH = "ビタミンCの欠乏で壊血病になる。", "A lack of vitamin C leads to scurvy."


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    return load_tokenizer(tiny_model)


@pytest.fixture
def network(tiny_model: Path) -> Any:
    return load_network(tiny_model, torch.float32, torch.device("cpu"))


@given(length=st.integers(2, 60), size=st.integers(2, 20))
@settings(max_examples=60, deadline=None)
def test_windows_predict_every_token_but_the_first_once(length: int, size: int) -> None:
    found = windows(list(range(length)), size)
    assert all(2 <= len(window) <= size for window in found)
    assert [token for window in found for token in window[1:]] == list(range(1, length))


@pytest.mark.parametrize("text", [JAPANESE, ENGLISH])
def test_a_uniform_network_has_the_same_loss_on_every_token(tokenizer: Any, network: Any, text: str) -> None:
    with torch.no_grad():
        network.get_output_embeddings().weight.zero_()
    ids = tokenizer(text)["input_ids"]
    bytes_behind = len(text.encode()) - first_bytes(tokenizer, text, ids[0])
    expected = (len(ids) - 1) * math.log2(network.config.vocab_size) / bytes_behind
    for window in (512, 5):
        found = text_set(tokenizer, "set", [text], window)
        assert found.bytes == bytes_behind
        assert bits_per_byte(network, found, CPU, micro_batch_size=2) == pytest.approx(expected, rel=1e-6)


def test_bits_are_those_of_the_plain_network(tokenizer: Any, network: Any) -> None:
    texts = [JAPANESE * 3, ENGLISH, ENGLISH * 2]
    bits = total = 0.0
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            table = torch.log_softmax(network(ids).logits[0, :-1].double(), dim=-1)
        bits -= table.gather(1, ids[0, 1:, None]).sum().item() / math.log(2)
        total += len(text.encode()) - first_bytes(tokenizer, text, int(ids[0, 0]))
    found = text_set(tokenizer, "set", texts, 400)
    assert found.documents == 3
    assert bits_per_byte(network, found, CPU, micro_batch_size=1) == pytest.approx(bits / total, rel=1e-5)


@pytest.mark.parametrize(("text", "expected"), [("ビタミン", "ビ"), ("A lack", "A"), ("壊血病", "壊")])
def test_bytes_of_the_first_token_are_those_of_whole_characters(tokenizer: Any, text: str, expected: str) -> None:
    ids = tokenizer(text)["input_ids"]
    alone = first_bytes(tokenizer, text, ids[0])
    assert text.encode()[:alone].decode().startswith(expected)  # a whole number of characters


def test_a_bos_costs_no_bytes(tokenizer: Any) -> None:
    class WithBos:
        bos_token_id = 5

    assert first_bytes(WithBos(), JAPANESE, 5) == 0


def test_texts_too_short_to_measure_are_an_error(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="validation texts general: every text has fewer than two tokens"):
        text_set(tokenizer, "general", ["", "a"], 64)


@pytest.mark.parametrize("adapter", [False, True])
def test_evaluation_leaves_training_the_same_to_the_bit(tmp_path: Path, adapter: bool) -> None:
    plain, evaluated = tiny(adapter=adapter), tiny(adapter=adapter)
    fit(tmp_path / "plain", plain)
    fit(tmp_path / "evaluated", evaluated, evaluation(), early_stopping={"every": 2})
    assert same(plain, evaluated)
    rows = read(tmp_path / "evaluated")
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert [list(row) for row in rows] == [["step", "trained_tokens", "bits_per_byte"]] * 4
    assert rows[0]["trained_tokens"] == 0 and rows[0]["bits_per_byte"].keys() == {"ja", "en"}


def test_the_last_step_is_measured_too(tmp_path: Path) -> None:
    fit(tmp_path, tiny(), evaluation(), steps=5, early_stopping={"every": 3})
    assert [row["step"] for row in read(tmp_path)] == [0, 3, 5]


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "evaluations.jsonl").open()]


WORSE = {"learning_rate": 0.02, "steps": 20, "warmup_ratio": 0.0}
"""Random rows get better around step 7 and then worse."""
BY_BOTH = {"every": 1, "metric": ["bits_per_byte.ja", "bits_per_byte.en"], "patience": 7}


def test_a_stage_that_gets_no_better_ends_early_with_its_best_weights(tmp_path: Path) -> None:
    network, evaluated = tiny(), evaluation()
    result = fit(tmp_path, network, evaluated, early_stopping=BY_BOTH, **WORSE)
    rows = read(tmp_path)
    means = [sum(row["bits_per_byte"].values()) / 2 for row in rows]
    assert result.best_step == means.index(min(means))
    assert result.steps == rows[-1]["step"] == result.best_step + 7 < 20
    assert result.best_step > 0
    now = [bits_per_byte(network, each, CPU, 1) for each in evaluated.sets.values()]
    assert now == list(rows[result.best_step]["bits_per_byte"].values())


@pytest.mark.parametrize("dies_in", ["evaluations.add", "checkpoint.save", "keep_best", "restore_best"])
def test_a_run_killed_around_its_best_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    whole, resumed = tiny(), tiny()
    expected = fit(tmp_path / "whole", whole, evaluation(), early_stopping=BY_BOTH, **WORSE)
    with monkeypatch.context() as patched:
        die_in(patched, dies_in)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "killed", tiny(), evaluation(), early_stopping=BY_BOTH, **WORSE)
    result = fit(tmp_path / "killed", resumed, evaluation(), early_stopping=BY_BOTH, **WORSE)
    assert replace(result, resumed_from=0) == expected
    assert same(whole, resumed)
    assert read(tmp_path / "killed") == read(tmp_path / "whole")


def die_in(patched: pytest.MonkeyPatch, name: str) -> None:
    from jmedllm.training import checkpoint, loop, metrics

    place, attribute, number = {
        "evaluations.add": (metrics.MetricsLog, "add", 6),
        "checkpoint.save": (checkpoint, "save", 3),
        "keep_best": (loop, "keep_best", 2),
        "restore_best": (loop, "restore_best", 1),
    }[name]
    whole, calls = getattr(place, attribute), 0

    def dies(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise KeyboardInterrupt
        return whole(*arguments)

    patched.setattr(place, attribute, dies)


def test_a_measure_that_is_not_taken_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown measure in metric 'bits_per_byte.jp': did you mean"):
        fit(tmp_path, tiny(), evaluation(), early_stopping={"metric": ["bits_per_byte.jp"]})


def test_in_loop_eval_of_a_small_exam(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    eval_tasks = tasks(
        EvalConfig(benchmarks=["demo"], scorers=["likelihood"], limit=4), PromptConfig(pack="plain"), tmp_path
    )
    evaluated = Validation({}, tuple(task.name for task in eval_tasks), make_in_loop_eval(eval_tasks, tokenizer, CPU))
    assert evaluated.measures == ("accuracy.demo.ja", "accuracy.demo.en")
    plain, watched = (load_network(tiny_model, torch.float32, torch.device("cpu")) for _ in range(2))
    fit(tmp_path / "plain", plain)
    fit(tmp_path / "watched", watched, evaluated, early_stopping={"every": 3, "metric": ["accuracy.demo.ja"]})
    rows = read(tmp_path / "watched")
    assert [row["step"] for row in rows] == [0, 3, 6]
    assert all(row["accuracy"][name] in (0, 0.25, 0.5, 0.75, 1) for row in rows for name in ("demo.ja", "demo.en"))
    metrics = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("plain", "watched")]
    losses = [[json.loads(line)["loss"] for line in lines] for lines in metrics]
    assert losses[0] == losses[1]


def line(step: int, ja: float, en: float, right: float = 0.0) -> dict[str, Any]:
    return {"step": step, "bits_per_byte": {"ja": ja, "en": en}, "accuracy": {"demo.ja": right}}


BOTH = EarlyStopping(metric=["bits_per_byte.ja", "bits_per_byte.en"], patience=2)
JAPANESE_ONLY = EarlyStopping(metric=["bits_per_byte.ja"])

COURSES = {
    "still falling": ([line(0, 3, 3), line(1, 2, 2)], BOTH, 1, False),
    "one without": ([line(0, 3, 3), line(1, 2, 2), line(2, 2.5, 2)], BOTH, 1, False),
    "two without": ([line(0, 3, 3), line(1, 2, 2), line(2, 3, 2), line(3, 2, 2.1)], BOTH, 1, True),
    "equal is no better": ([line(0, 2, 2), line(1, 2, 2), line(2, 1, 3)], BOTH, 0, True),
    "one language pays for the other": ([line(0, 2, 2), line(1, 1, 2.9)], BOTH, 1, False),
    "marks rise": ([line(0, 1, 1, 0.2), line(1, 1, 1, 0.4)], EarlyStopping(metric=["accuracy.demo.ja"]), 1, False),
    "never without patience": ([line(0, 1, 1), *(line(n, 2, 2) for n in range(1, 9))], JAPANESE_ONLY, 0, False),
    "nothing to go by": ([line(0, 1, 1), line(1, 2, 2)], EarlyStopping(), None, False),
    "nothing yet": ([], BOTH, None, False),
}


@pytest.mark.parametrize("name", COURSES)
def test_best_and_end(name: str) -> None:
    rows, early_stopping, expected, ends = COURSES[name]
    found = best_evaluation(rows, early_stopping)
    assert (found and found["step"]) == expected
    assert should_stop(rows, early_stopping) == ends


def test_what_is_held_out_follows_from_the_text_alone() -> None:
    texts = [f"文書{number}" for number in range(2000)]
    kept = [text for text in texts if is_held_out(text, 0.1)]
    assert 150 < len(kept) < 250
    assert set(kept) < {text for text in texts if is_held_out(text, 0.2)}
    assert not any(is_held_out(text, 0.0) for text in texts)
    assert kept[:3] == ["文書5", "文書10", "文書12"]  # golden: another hash would train on what was held out


def test_texts_are_chosen_in_any_order_alike() -> None:
    texts = [f"{number:04d}" for number in range(100)]
    few = choose_texts(texts, 40)
    assert len(few) == 10 and choose_texts(reversed(texts), 40) == few
    assert choose_texts([*texts, *texts], 40) == few  # a repeated text is one
    assert choose_texts(["long" * 100], 40) == ["long" * 100]
