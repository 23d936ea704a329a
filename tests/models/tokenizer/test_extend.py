"""New tokens: old texts keep their tokens, the model stays the same, and a run trains the tokens."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import build_tiny
from jmedllm.errors import InputError
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.bpe import Merge
from jmedllm.models.tokenizer.extend import Vocabulary, extend, extend_network, extend_tokenizer, learn, size
from jmedllm.models.tokenizer.load import load_tokenizer, read_tokenizer
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe import Recipe
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Run
from jmedllm.training.packing import load_blocks

SENTENCES = ("急性膵炎は腹痛で始まる。", "慢性膵炎、急性膵炎。", "ＣＴで膵炎を疑うHbA1c値5%。")
CORPUS = SENTENCES * 10
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def qwen2(shared: Path) -> Any:
    return read_tokenizer(shared / "tokenizers" / "qwen2")


@pytest.fixture(scope="module")
def extended(qwen2: Any) -> Any:
    return extend_tokenizer(qwen2, learn(qwen2, CORPUS, 5))[0]


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def test_merges_learned_from_real_tokens(qwen2: Any) -> None:
    merges = learn(qwen2, CORPUS, 1000)
    assert merges == learn(qwen2, CORPUS[::-1], 1000)
    learnt = [merge.joined.decode(errors="replace") for merge in merges]
    assert learnt[:3] == ["膵", "膵炎", "急性膵炎"]
    for border in "、。Aac15%":
        assert not any(border in each for each in learnt)


def test_new_ids_follow_the_old_ones(qwen2: Any, extended: Any) -> None:
    assert (size(qwen2), size(extended)) == (151_646, 151_651)
    for token in ("<|endoftext|>", "<|im_start|>", "<|im_end|>"):
        assert extended.convert_tokens_to_ids(token) == qwen2.convert_tokens_to_ids(token)
    assert ids(extended, "膵炎")[0] == 151_647
    chat = "<|im_start|>user\n糖尿病<|im_end|>"
    assert ids(extended, chat) == ids(qwen2, chat)


@pytest.mark.parametrize("name", ["en_medquad.jsonl", "en_openstax_microbiology.jsonl"])
def test_english_keeps_its_tokens(name: str, shared: Path, qwen2: Any, extended: Any) -> None:
    with (shared / "corpus" / name).open(encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for _, line in zip(range(40), lines, strict=False)]
    assert [ids(extended, text) for text in texts] == [ids(qwen2, text) for text in texts]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text("急性膵炎は。a \n"))
def test_any_text_survives_the_round_trip(qwen2: Any, extended: Any, text: str) -> None:
    assert extended.decode(ids(extended, text)) == qwen2.decode(ids(qwen2, text))
    assert len(ids(extended, text)) <= len(ids(qwen2, text))
    if text.isascii():
        assert ids(extended, text) == ids(qwen2, text)


def test_loads_as_the_class_that_qwen2_names(tmp_path: Path, extended: Any) -> None:
    from transformers import AutoTokenizer

    extended.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "Qwen2Tokenizer"}))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded).__name__ == "Qwen2Tokenizer"
    for text in (*SENTENCES, "<|im_start|>x<|im_end|>"):
        assert ids(loaded, text) == ids(extended, text)


def test_a_merge_into_a_token_that_is_there_adds_none(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    longer, joined = extend_tokenizer(tokenizer, [Merge(b"\xe3", b"\x83")])
    assert "ãĥ" in tokenizer.get_vocab()
    assert (joined, size(longer)) == ([], size(tokenizer))


REFUSED = {
    "llm-jp-v2.2": (CORPUS, "only a byte-level BPE .Qwen2, Llama 3. can be extended"),
    "qwen2": (SENTENCES, "no two tokens occur together 10 times"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_extended(name: str, shared: Path) -> None:
    texts, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        learn(read_tokenizer(shared / "tokenizers" / name), texts, 5)


def small(vocabulary: int, *, tied: bool) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary, hidden_size=8, num_hidden_layers=1, intermediate_size=8, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=tied,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


SHAPES = {
    # rows before, tokens, rows after, for three new tokens
    "multiple of 8": (40, 39, 48),
    "odd": (39, 39, 42),
    "padding that has room for them": (64, 40, 64),
    "padding that must grow": (64, 62, 128),
}


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_rows_are_means_of_pieces(name: str, tied: bool) -> None:
    before, tokens, after = SHAPES[name]
    joined = [(1, 2), (3, 4, 5), (1, 2, 3, 4)]
    network, text = small(before, tied=tied), torch.tensor([[5, 7, 1]])
    olds = [layer.weight.detach().clone() for layer in _embeddings(network)]
    logits = network(text).logits[..., :tokens].detach()
    extend_network(network, joined, tokens)
    layers = _embeddings(network)
    assert (layers[0].weight is layers[1].weight) == tied
    assert network.config.vocab_size == after
    for layer, old in zip(layers, olds, strict=True):
        assert layer.weight.shape == (after, 8)
        assert torch.equal(layer.weight[:tokens], old[:tokens])
        for row, parts in enumerate(joined, tokens):
            assert torch.allclose(layer.weight[row], old[list(parts)].mean(0), atol=1e-7)
        for row in range(max(before, tokens + 3), after):
            assert torch.allclose(layer.weight[row], old[:tokens].mean(0), atol=1e-7)
    assert torch.allclose(network(text).logits[..., :tokens], logits, atol=1e-6)


def _embeddings(network: Any) -> list[Any]:
    return [network.get_input_embeddings(), network.get_output_embeddings()]


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
def test_the_written_model_is_a_plain_one(architecture: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = build_tiny(tmp_path / "base", architecture=architecture)
    for name in ("extended", "again"):
        extend(base, CORPUS, Vocabulary(add=8), tmp_path / name)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "extended")
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "extended")
    before = load_tokenizer(base)
    assert size(tokenizer) == size(before) + 8 == network.get_input_embeddings().weight.shape[0]
    assert len(ids(tokenizer, CORPUS[0])) < len(ids(before, CORPUS[0]))
    assert tokenizer.eos_token == before.eos_token
    assert tokenizer.decode(ids(tokenizer, CORPUS[0])) == CORPUS[0]
    origins = [json.loads((tmp_path / name / "jmedllm.json").read_text()) for name in ("extended", "again")]
    assert origins[0] == origins[1]


def test_a_tokenizer_larger_than_the_embedding_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    tokenizer = load_tokenizer(tiny_model)
    rows = size(tokenizer)
    tokenizer.add_tokens(["新語"])
    tokenizer.save_pretrained(broken)
    message = f"its tokenizer has {rows + 1} tokens, but its embedding only {rows} rows .*; copy the tokenizer"
    with pytest.raises(InputError, match=message):
        load_tokenizer(broken)


def run(base: Path, folder: Path, **corpus: Any) -> tuple[Run, dict[str, str]]:
    text = "".join(json.dumps({"text": f"第{n}話。{line}"}) + "\n" for n, line in enumerate(CORPUS))
    (folder / "text.jsonl").write_text(text, encoding="utf-8")
    recipe = {
        "name": "t", "data": str(folder), "base": {"path": str(base)}, "threads": 1,
        "corpus": {"inputs": [str(folder / "text.jsonl")], "block_size": 32, **corpus},
        "mfpt": {"steps": 3, "learning_rate": 3e-3, "batch_size": 2},
    }  # fmt: skip
    made = Run(Recipe.model_validate(recipe), folder / "run", choose_precision("float32", "cpu"), {})
    states: dict[str, str] = {}
    run_pipeline(STAGES.values(), made, "mfpt", lambda stage, what: states.update({stage: what.split(" in ")[0]}))
    return made, states


def test_a_run_learns_adds_and_trains_them(tiny_model: Path, tmp_path: Path) -> None:
    made, states = run(tiny_model, tmp_path, vocabulary={"add": 6})
    assert states == {"canary": "not", "corpus": "done", "mfpt": "done"}
    said = made.outputs["corpus"].to_dict()
    assert said["tokens_added"] == 6
    assert said["characters_per_token_after"] > said["characters_per_token_before"] > 0
    old = size(load_tokenizer(tiny_model))
    blocks = load_blocks(made.folder / "corpus" / "blocks")
    assert (blocks.ids >= old).any()
    start, trained = (
        load_network(made.folder / place, "auto", CPU).get_input_embeddings().weight
        for place in ("corpus/extended", "mfpt/model")
    )
    assert start.shape == trained.shape == (old + 6, 32)
    assert not torch.isclose(start[old:], trained[old:]).all(1).any()
    assert size(load_tokenizer(made.folder / "mfpt" / "model")) == old + 6
    assert run(tiny_model, tmp_path, vocabulary={"add": 6})[1] == states | {"corpus": "unchanged", "mfpt": "unchanged"}
    shutil.rmtree(made.folder / "corpus" / "extended")
    again, states = run(tiny_model, tmp_path, vocabulary={"add": 6})
    assert states == {"canary": "not", "corpus": "done", "mfpt": "unchanged"}
    assert again.outputs["corpus"].to_dict() == said


def test_new_tokens_need_stage_1() -> None:
    corpus = {"inputs": ["demo"], "vocabulary": {"add": 5}}
    with pytest.raises(ValueError, match=r"corpus.vocabulary needs an mfpt section"):
        Recipe.model_validate({"name": "t", "base": {"path": "x"}, "corpus": corpus})
