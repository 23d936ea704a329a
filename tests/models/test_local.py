"""Scoring and completing on tiny real models, against the plain way of doing the same."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from jmedllm.errors import InputError
from jmedllm.models import Completion, Request, Writing
from jmedllm.models.encoding import encode
from jmedllm.models.loading import load_tokenizer
from jmedllm.models.local import LocalModel, load_model
from jmedllm.models.probe import longest_tree
from jmedllm.models.scratch import Scratch, build
from jmedllm.models.tree import attention_mask
from jmedllm.precision import choose_precision

CPU = choose_precision("float32", "cpu")
REQUESTS = [
    Request(
        "1", "### 指示：\n欠乏すると壊血病になるのはどれか。\n### 応答：\n", "1", ("ビタミンA", "ビタミンC", "鉄")
    ),
    Request("2", "### Instruction:\nScurvy?\n### Response:\n", "2", ("vitamin C", "vitamin", "iron, zinc", "a")),
    Request("3", "ビタミンCの欠乏で" * 20, "3", ("壊血病", "脚気")),
    Request("4", "Q", "4", ("vitamin C" * 9, "b")),
]


@pytest.fixture(scope="module", params=["qwen2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    folder = tmp_path_factory.mktemp(request.param)
    shape = Scratch(
        architecture=request.param, vocabulary=320, hidden_size=32, layers=2, feed_forward=64, context=512
    )
    build(shape, ["ビタミンCの欠乏で壊血病になる。", "Lack of vitamin C leads to scurvy."], folder, seed=1)
    return load_model(folder, CPU)


def score(model: LocalModel, requests: list[Request]) -> list[tuple[float, ...]]:
    found = dict(model.answer(requests, Writing(0)))
    return [found[index].log_probs for index in range(len(requests))]


def complete(model: LocalModel, requests: list[Request], max_new_tokens: int) -> list[Completion]:
    """Completions that are wanted together with the scores."""
    wanted = [replace(request, write=True) for request in requests]
    found = dict(model.answer(wanted, Writing(max_new_tokens)))
    return [found[index].completion for index in range(len(requests))]


def score_alone(model: LocalModel, prompt: str, choice: str) -> float:
    """Sum of log-probabilities by one plain forward of prompt and choice."""
    start = len(encode(model.tokenizer, [prompt])[0])
    [ids] = encode(model.tokenizer, [prompt + choice])
    with torch.inference_mode():
        logits = model.network(torch.tensor([ids])).logits[0].float().log_softmax(-1)
    return sum(logits[i - 1, ids[i]].item() for i in range(start, len(ids)))


def test_tree_scores_equal_each_choice_alone(model: LocalModel) -> None:
    assert model.longest_tree == 512
    for request, scores in zip(REQUESTS, score(model, REQUESTS), strict=True):
        expected = [score_alone(model, request.prompt, choice) for choice in request.choices]
        assert scores == pytest.approx(expected, abs=1e-4)


def test_equal_choices_score_equal_to_the_bit(model: LocalModel) -> None:
    twice = Request("5", REQUESTS[0].prompt, "5", ("鉄", "ビタミンC", "鉄", "ビタミンA", "ビタミンC"))
    [scores] = score(model, [twice])
    assert scores[0] == scores[2] and scores[1] == scores[4]
    assert len(set(scores)) == 3


@pytest.mark.parametrize("longest", [0, 60])
def test_what_is_too_long_for_a_tree_scores_the_same_alone(model: LocalModel, longest: int) -> None:
    plain = replace(model, longest_tree=longest)
    for trees, alone in zip(score(model, REQUESTS), score(plain, REQUESTS), strict=True):
        assert trees == pytest.approx(alone, abs=1e-4)


def test_a_sliding_window_bounds_the_trees(model: LocalModel) -> None:
    config = model.network.config
    assert longest_tree(model.network, model.tokenizer, CPU.device) == 512
    config.sliding_window, config.use_sliding_window = 64, True
    try:
        assert longest_tree(model.network, model.tokenizer, CPU.device) == 64
    finally:
        config.sliding_window, config.use_sliding_window = None, False


def test_a_network_that_mixes_branches_scores_them_alone(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(seen: torch.Tensor, prefix: int, dtype: torch.dtype) -> torch.Tensor:
        return attention_mask(torch.ones_like(seen).tril(), prefix, dtype)

    monkeypatch.setattr("jmedllm.models.probe.attention_mask", leaking)
    assert longest_tree(model.network, model.tokenizer, CPU.device) == 0


def test_batch_completion_equals_one_by_one(model: LocalModel) -> None:
    together = complete(model, REQUESTS, 24)
    alone = [complete(model, [request], 24)[0] for request in REQUESTS]
    assert [c.decoded for c in together] == [c.decoded for c in alone]
    assert all(c.decoded == r.prompt + c.text for c, r in zip(together, REQUESTS, strict=True))


def generated(model: LocalModel, prompt: str, max_new_tokens: int) -> str:
    """What transformers' own greedy decoding writes, one prompt at a time."""
    [ids] = encode(model.tokenizer, [prompt])
    output = model.network.generate(
        torch.tensor([ids]), do_sample=False, max_new_tokens=max_new_tokens, pad_token_id=0, eos_token_id=0
    )
    return str(model.tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))


LIKE = [
    Request(
        str(i), f"### Instruction:\nChoose the one option that answers it.\n### Input:\n{stem}\n", str(i), choices
    )
    for i, (stem, choices) in enumerate(
        [("Scurvy?", ("vitamin A", "vitamin C")), ("壊血病？", ("鉄", "鉄", "ビタミンC")), ("Q" * 30, ("a", "b"))]
    )
]


@pytest.mark.parametrize("requests", [REQUESTS, LIKE])
def test_scores_and_completions_come_from_one_reading(model: LocalModel, requests: list[Request]) -> None:
    both = dict(model.answer([replace(request, write=True) for request in requests], Writing(16)))
    for index, request in enumerate(requests):
        expected = [score_alone(model, request.prompt, choice) for choice in request.choices]
        assert both[index].log_probs == pytest.approx(expected, abs=1e-4)
        assert both[index].completion.text == generated(model, request.prompt, 16)
        assert both[index].completion.truncated


def test_rows_that_end_leave_the_others_alone(model: LocalModel) -> None:
    first = complete(model, REQUESTS, 24)
    [ends] = model.tokenizer(first[0].text, add_special_tokens=False)["input_ids"][:1]
    sooner = complete(replace(model, ends=frozenset({ends}), batch=3), REQUESTS, 24)
    for whole, cut in zip(first, sooner, strict=True):
        assert whole.decoded.startswith(cut.decoded) or cut.text in whole.text
    assert [c.truncated for c in sooner].count(False) >= 1
    final = dict(
        model.answer([replace(REQUESTS[0], write=True)], Writing(24, lambda completion: "\n" in completion.text))
    )[0].completion
    assert first[0].text.startswith(final.text)


def test_labels_are_read_at_the_last_position(model: LocalModel) -> None:
    request = Request("1", "Which is it?\n", "1", labels=("a", "b", "c"))
    [scores] = score(model, [request])
    [ids] = encode(model.tokenizer, [request.prompt])
    with torch.inference_mode():
        last = model.network(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    spelled = [model.tokenizer([name, f" {name}"], add_special_tokens=False)["input_ids"] for name in "abc"]
    expected = [last[[i[0] for i in ids if len(i) == 1]].logsumexp(0).item() for ids in spelled]
    assert scores == pytest.approx(expected, abs=1e-5)
    with pytest.raises(InputError, match="label '膵' is more than one token"):
        score(model, [Request("1", "Q", "1", labels=("膵",))])


def test_running_out_of_memory_halves_what_is_done_at_once(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = complete(model, REQUESTS, 8)
    answer, sizes = LocalModel._answer_groups, []

    def small(self: LocalModel, groups: list[object], *rest: object) -> None:
        sizes.append(len(groups))
        if len(groups) > 1:
            raise torch.OutOfMemoryError
        answer(self, groups, *rest)

    monkeypatch.setattr(LocalModel, "_answer_groups", small)
    assert complete(model, REQUESTS, 8) == expected
    assert sizes == [4, 4, 4, 4, 2, 1, 1, 1, 1]  # 32, 16, 8, 4, 2, 1 at once


def test_a_model_s_own_decoding_habits_are_forgotten(tmp_path: Path) -> None:
    from conftest import build_tiny

    plain = build_tiny(tmp_path / "plain")
    with_habits = build_tiny(tmp_path / "habits")
    config = json.loads((with_habits / "generation_config.json").read_text())
    habits = {"no_repeat_ngram_size": 1, "repetition_penalty": 9.0, "suppress_tokens": list(range(40, 300))}
    (with_habits / "generation_config.json").write_text(json.dumps(config | habits))
    written = [
        [c.text for c in complete(load_model(folder, CPU), REQUESTS, 24)] for folder in (plain, with_habits)
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", ["mpt", "bloom", "gpt2", "gpt_neox", "mistral", "gemma", "phi3"])
def test_every_architecture_scores_as_alone(architecture: str, dtype: torch.dtype, tiny_model: Path) -> None:
    """Those that place tokens by distance (ALiBi) cannot take a tree and are scored one by one."""
    config = AutoConfig.for_model(architecture)
    sizes = {"vocab_size": 320, "hidden_size": 32, "d_model": 32, "num_hidden_layers": 2, "n_layers": 2,
             "n_layer": 2, "num_attention_heads": 4, "n_heads": 4, "n_head": 4, "num_key_value_heads": 2,
             "intermediate_size": 64, "head_dim": 8, "pad_token_id": 0, "eos_token_id": 0,
             "bos_token_id": None}  # fmt: skip
    for name, value in sizes.items():
        if hasattr(config, name):
            setattr(config, name, value)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    tokenizer = load_tokenizer(tiny_model)
    longest = longest_tree(network, tokenizer, CPU.device)
    assert (longest == 0) == (architecture in ("mpt", "bloom"))
    scored = LocalModel(architecture, network, tokenizer, CPU.device, 512, longest)
    for request, scores in zip(REQUESTS, score(scored, REQUESTS), strict=True):
        expected = [score_alone(scored, request.prompt, choice) for choice in request.choices]
        rounding = {"abs": 1e-4} if dtype == torch.float32 else {"abs": 0.1, "rel": 0.01}
        assert scores == pytest.approx(expected, **rounding)
    if dtype == torch.float32:
        together = complete(scored, REQUESTS, 8)
        assert [c.text for c in together] == [generated(scored, request.prompt, 8) for request in REQUESTS]


def test_prompt_over_the_context_names_the_item(model: LocalModel) -> None:
    long = Request("116A1", "長い" * 600, "116A1", ("a", "b"))
    with pytest.raises(InputError, match=r"question 116A1: .* context of .* is 512"):
        score(model, [long])
    with pytest.raises(InputError, match=r"question 116A1: .* 16 new tokens"):
        complete(model, [replace(long, choices=())], 16)


def test_a_uniform_model_scores_by_token_count(model: LocalModel) -> None:
    head = model.network.get_output_embeddings().weight
    kept = head.data.clone()
    head.data.zero_()
    try:
        [scores] = score(model, [REQUESTS[0]])
    finally:
        head.data.copy_(kept)
    tokens = [len(ids) for ids in encode(model.tokenizer, list(REQUESTS[0].choices))]
    assert scores == pytest.approx([-n * math.log(320) for n in tokens], rel=1e-5)


def test_loading_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(tmp_path, CPU)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        load_model(tmp_path, CPU)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="no tokenizer"):
        load_model(tmp_path, CPU)
