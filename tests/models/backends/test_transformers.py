"""Scoring and generation with tiny real models, compared with the plain method."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jmedllm.errors import InputError
from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.completion import Ends
from jmedllm.models.backends.transformers.capabilities import Capabilities, detect_capabilities
from jmedllm.models.backends.transformers.model import TransformersModel, load_model
from jmedllm.models.backends.transformers.reading import Reader
from jmedllm.models.backends.transformers.token_tree import attention_mask
from jmedllm.models.random_init import RandomInit, build
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.precision import choose_precision
from plain_generation import LIKE_PLAIN, REQUESTS, complete, generated, score, score_alone

CPU = choose_precision("float32", "cpu")


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersModel:
    folder = tmp_path_factory.mktemp(request.param)
    shape = RandomInit(
        architecture=request.param, vocabulary=320, hidden_size=32, layers=2, feed_forward=64, context=512
    )
    build(shape, ["ビタミンCの欠乏で壊血病になる。", "Lack of vitamin C leads to scurvy."], folder, seed=1)
    return load_model(folder, CPU)


def test_tree_scores_equal_each_choice_alone(model: TransformersModel) -> None:
    assert model.capabilities.longest_tree == 512
    for request, scores in zip(REQUESTS, score(model, REQUESTS), strict=True):
        expected = [score_alone(model, request.prompt, choice) for choice in request.choices]
        assert scores == pytest.approx(expected, **LIKE_PLAIN)


def test_equal_choices_score_equal_to_the_bit(model: TransformersModel) -> None:
    twice = Request("5", REQUESTS[0].prompt, "5", ("鉄", "ビタミンC", "鉄", "ビタミンA", "ビタミンC"))
    [scores] = score(model, [twice])
    assert scores[0] == scores[2] and scores[1] == scores[4]
    assert len(set(scores)) == 3


@pytest.mark.parametrize("longest", [0, 60])
def test_what_is_too_long_for_a_tree_scores_the_same_alone(model: TransformersModel, longest: int) -> None:
    plain = replace(model, capabilities=replace(model.capabilities, longest_tree=longest))
    for trees, alone in zip(score(model, REQUESTS), score(plain, REQUESTS), strict=True):
        assert trees == pytest.approx(alone, **LIKE_PLAIN)


def test_a_sliding_window_bounds_the_trees(model: TransformersModel) -> None:
    config = model.network.config
    assert detect_capabilities(model.network, model.tokenizer, CPU.device).longest_tree == 512
    config.sliding_window, config.use_sliding_window = 64, True
    try:
        assert detect_capabilities(model.network, model.tokenizer, CPU.device).longest_tree == 64
    finally:
        config.sliding_window, config.use_sliding_window = None, False


def test_a_network_that_mixes_branches_scores_them_alone(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(seen: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
        return attention_mask(torch.ones_like(seen).tril(), prefix, dtype)

    monkeypatch.setattr("jmedllm.models.backends.transformers.capabilities.attention_mask", leaking)
    assert detect_capabilities(model.network, model.tokenizer, CPU.device).longest_tree == 0


def test_batch_completion_equals_one_by_one(model: TransformersModel) -> None:
    together = complete(model, REQUESTS, 24)
    alone = [complete(model, [request], 24)[0] for request in REQUESTS]
    assert [c.decoded for c in together] == [c.decoded for c in alone]
    assert all(c.decoded == r.prompt + c.text for c, r in zip(together, REQUESTS, strict=True))


LIKE = [
    Request(str(i), f"### Instruction:\nChoose the one option that answers it.\n### Input:\n{stem}\n", str(i), choices)
    for i, (stem, choices) in enumerate(
        [("Scurvy?", ("vitamin A", "vitamin C")), ("壊血病？", ("鉄", "鉄", "ビタミンC")), ("Q" * 30, ("a", "b"))]
    )
]


@pytest.mark.parametrize("requests", [REQUESTS, LIKE])
def test_scores_and_completions_come_from_one_reading(model: TransformersModel, requests: list[Request]) -> None:
    both = dict(model.answer([replace(request, generate=True) for request in requests], GenerationConfig(16)))
    for index, request in enumerate(requests):
        expected = [score_alone(model, request.prompt, choice) for choice in request.choices]
        assert both[index].log_probs == pytest.approx(expected, **LIKE_PLAIN)
        assert both[index].completion.text == generated(model, request.prompt, 16)
        assert both[index].completion.truncated


def test_rows_that_end_leave_the_others_alone(model: TransformersModel) -> None:
    first = complete(model, REQUESTS, 24)
    [ends] = model.tokenizer(first[0].text, add_special_tokens=False)["input_ids"][:1]
    sooner = complete(replace(model, ends=Ends(frozenset({ends})), batch_size=3), REQUESTS, 24)
    for whole, cut in zip(first, sooner, strict=True):
        assert whole.decoded.startswith(cut.decoded) or cut.text in whole.text
    assert [c.truncated for c in sooner].count(False) >= 1
    final = dict(
        model.answer(
            [replace(REQUESTS[0], generate=True)], GenerationConfig(24, lambda completion: "\n" in completion.text)
        )
    )[0].completion
    assert first[0].text.startswith(final.text)


def test_labels_are_read_at_the_last_position(model: TransformersModel) -> None:
    request = Request("1", "Which is it?\n", "1", labels=("a", "b", "c"))
    [scores] = score(model, [request])
    [ids] = encode(model.tokenizer, [request.prompt])
    with torch.inference_mode():
        last = model.network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    spelled = [model.tokenizer([name, f" {name}"], add_special_tokens=False)["input_ids"] for name in "abc"]
    expected = [last[[i[0] for i in ids if len(i) == 1]].logsumexp(0).item() for ids in spelled]
    assert scores == pytest.approx(expected, abs=1e-5)


def parts_of(monkeypatch: pytest.MonkeyPatch, *, fitting: int = 99, error: str = "") -> list[int]:
    """How many questions are read at once from here on; more than `fitting` raise a RuntimeError."""
    read, sizes = Reader.read, []

    def watched(self: Reader, groups: list[object], *rest: object) -> object:
        sizes.append(len(groups))
        if len(groups) > fitting:
            raise RuntimeError(error)
        return read(self, groups, *rest)

    monkeypatch.setattr(Reader, "read", watched)
    return sizes


@pytest.mark.parametrize(
    "error",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB",
        "MPS backend out of memory (MPS allocated: 17.90 GiB, other allocations: 1.20 MiB)",
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
    ],
)
def test_out_of_memory_halves_the_batch(model: TransformersModel, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    expected = complete(model, REQUESTS, 8)
    sizes = parts_of(monkeypatch, fitting=1, error=error)
    assert complete(model, REQUESTS, 8) == expected
    assert sizes == [4, 2, 1, 1, 1, 1]


def test_an_error_of_another_kind_is_not_taken_for_a_lack_of_memory(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = parts_of(monkeypatch, fitting=1, error="The size of tensor a (3) must match the size of tensor b (4)")
    with pytest.raises(RuntimeError, match="size of tensor"):
        complete(model, REQUESTS, 8)
    assert sizes == [4]


@pytest.mark.parametrize(("free", "batch", "sizes"), [(1 << 34, None, [4]), (1 << 34, 3, [3, 1]), (0, None, [1] * 4)])
def test_free_memory_and_batch_size_limit_concurrent_work(
    model: TransformersModel, monkeypatch: pytest.MonkeyPatch, free: int, batch: int | None, sizes: list[int]
) -> None:
    expected = complete(model, REQUESTS, 8), score(model, REQUESTS)
    monkeypatch.setattr("jmedllm.models.backends.transformers.model.free_memory", lambda device: free)
    found = parts_of(monkeypatch)
    bounded = replace(model, batch_size=batch)
    assert complete(bounded, REQUESTS, 8) == expected[0]
    assert found == sizes
    for some, all_at_once in zip(score(bounded, REQUESTS), expected[1], strict=True):
        assert some == pytest.approx(all_at_once, **LIKE_PLAIN)


def test_the_decoding_settings_of_the_model_are_ignored(tmp_path: Path) -> None:
    from conftest import build_tiny

    plain = build_tiny(tmp_path / "plain")
    with_habits = build_tiny(tmp_path / "habits")
    config = json.loads((with_habits / "generation_config.json").read_text())
    habits = {"no_repeat_ngram_size": 1, "repetition_penalty": 9.0, "suppress_tokens": list(range(40, 300))}
    (with_habits / "generation_config.json").write_text(json.dumps(config | habits))
    models = [load_model(folder, CPU) for folder in (plain, with_habits)]
    models += [replace(model, capabilities=Capabilities(0, padding=False, joining=False)) for model in models]
    written = [[c.text for c in complete(model, REQUESTS, 24)] for model in models]
    assert written[1:] == written[:1] * 3


def test_the_end_of_an_answer_is_the_number_of_a_token(tmp_path: Path) -> None:
    from conftest import build_tiny

    settings = build_tiny(tmp_path / "model") / "generation_config.json"
    settings.write_text(json.dumps({"eos_token_id": [1, [[]]]}))
    with pytest.raises(InputError, match=r"eos_token_id \[1, \[\[\]\]\] is not the number of a token"):
        load_model(settings.parent, CPU)


LONG, SHORT = "x" * 600, "Q: "


@pytest.mark.parametrize(
    ("request_too_long", "needed"),
    [
        pytest.param(
            Request("116A1", LONG, generate=True), "prompt and 8 new tokens need 608 tokens", id="completion"
        ),
        pytest.param(
            Request("116A1", SHORT, choices=("a", LONG)), "prompt and longest choice need 603 tokens", id="choice"
        ),
        pytest.param(
            Request("116A1", LONG, labels=("a", "b")), "the prompt needs 600 tokens", id="label of one token"
        ),
        pytest.param(
            Request("116A1", LONG, labels=("ab", "cd")), "the prompt and a label need 602 tokens", id="longer label"
        ),
    ],
)
def test_a_request_over_the_context_names_the_item_and_what_it_needs(
    model: TransformersModel, request_too_long: Request, needed: str
) -> None:
    fitting = Request("116A2", "short", "2", ("a", "b"))
    with pytest.raises(InputError) as error:
        list(model.answer([fitting, request_too_long, fitting], GenerationConfig(8)))
    assert str(error.value).startswith(
        f"question 116A1: {needed}, the context of {model.name} is 512; use fewer shots"
    )
    skipping = dict(model.answer([fitting, request_too_long], GenerationConfig(8, skip_invalid=True)))
    assert skipping[1].failure == "too long" and skipping[0].log_probs


def test_a_uniform_model_scores_by_token_count(model: TransformersModel) -> None:
    head = model.network.get_output_embeddings().weight
    kept = head.data.clone()
    head.data.zero_()
    try:
        [scores] = score(model, [REQUESTS[0]])
    finally:
        head.data.copy_(kept)
    tokens = [len(ids) for ids in encode(model.tokenizer, list(REQUESTS[0].choices))]
    assert scores == pytest.approx([-n * math.log(model.network.config.vocab_size) for n in tokens], rel=1e-5)


def test_loading_reports_missing_tensors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(tmp_path, CPU)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        load_model(tmp_path, CPU)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="no tokenizer"):
        load_model(tmp_path, CPU)
