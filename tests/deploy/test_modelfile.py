"""A Modelfile sets whatever Ollama would choose differently from transformers."""

import json
import re
from dataclasses import replace
from pathlib import Path
from struct import pack
from typing import Any

import pytest
from tokenizers.processors import TemplateProcessing

from conftest import Cli
from jmedllm.deploy.gguf.sampling import sampling_metadata
from jmedllm.deploy.gguf.vocabulary import vocabulary
from jmedllm.deploy.gguf.write import write_vocabulary
from jmedllm.deploy.llama_cpp import serving
from jmedllm.deploy.ollama.modelfile import modelfile
from jmedllm.deploy.ollama.modes import modes, ollama_prompt
from jmedllm.deploy.ollama.same_text import conversations
from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.chat_format import chat_format
from jmedllm.models.conversion.gguf import Gguf, read_gguf
from small_tokenizers import byte_level

TEMPLATES = Path(__file__).parents[1] / "templates"
TODAY = "2026-11-30"
TOKENS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|eot_id|>", "<turn>", "\n", "a"]
SIZES = {"block_count": 30, "context_length": 8192, "embedding_length": 576, "attention.head_count": 9}
"""SmolLM2-135M's, without its number of groups."""


def gguf_of(template: str | None, folder: Path, **changed: Any) -> Gguf:
    metadata = {
        "general.architecture": "llama",
        **{f"llama.{name}": value for name, value in SIZES.items()},
        "llama.attention.head_count_kv": 3,
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [3, 3, 3, 3, 3, 4, 1, 1],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": template and (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8"),
    } | changed
    return Gguf(folder / "model.gguf", {name: value for name, value in metadata.items() if value is not None}, {})


def parameters(text: str) -> dict[str, str]:
    return dict(re.findall(r"^PARAMETER (\w+) (.+)$", text, re.MULTILINE))


def test_everything_that_ollama_would_choose_is_set(tmp_path: Path) -> None:
    changed = {"general.license": "apache-2.0", "jmedllm.normalizer": "NFC"}
    found = modelfile(gguf_of("smollm2", tmp_path, **changed), tmp_path, context=None, today=TODAY)
    first, note, source, template, rest = re.fullmatch(
        r'(# .+)\n(# .+)\n(FROM .+)\nTEMPLATE """(.+?)"""\n(.+)', found.text, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert first.startswith("# Modelfile of Ollama, written by jmedllm ") and "composes Unicode (NFC)" in note
    assert source == "FROM ./model.gguf" and template == found.template.text
    assert rest == (
        'PARAMETER stop "<|im_end|>"\nPARAMETER num_ctx 8192\nPARAMETER num_predict 4096\nPARAMETER temperature 0\n'
        "PARAMETER top_k 0\nPARAMETER top_p 1\nPARAMETER min_p 0\nPARAMETER repeat_penalty 1\n"
        'LICENSE """apache-2.0"""\n'
    )
    assert found.cache == 8192 * 2 * 30 * 3 * (64 + 64)


STOPS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "the end of a turn": ("qwen2", {}, ("<|im_end|>",)),
    "EOS is another token": ("qwen2", {"tokenizer.ggml.eos_token_id": 1}, ("</s>", "<|im_end|>")),
    "two ends": ("qwen2", {"tokenizer.ggml.eot_token_id": 4}, ("<|im_end|>", "<|eot_id|>")),
    "more than three ends": (
        "qwen2",
        {"tokenizer.ggml.eot_token_id": 4, "tokenizer.ggml.eom_token_id": 5, "tokenizer.ggml.fim_pad_token_id": 1},
        ("<|im_end|>", "<|eot_id|>", "<turn>", "</s>"),
    ),
    "a token that the user added": ("qwen2", {"tokenizer.ggml.eot_token_id": 5}, ("<|im_end|>", "<turn>")),
    "a line feed is text": ("qwen2", {"tokenizer.ggml.eot_token_id": 6}, ("<|im_end|>",)),
    "EOS in the template": ("llm-jp", {"tokenizer.ggml.eos_token_id": 1}, ("</s>",)),
    "no template": ("", {"tokenizer.ggml.eos_token_id": 1}, ("</s>",)),
}


@pytest.mark.parametrize("case", STOPS)
def test_stops_are_ends_of_the_model(case: str, tmp_path: Path) -> None:
    template, changed, stops = STOPS[case]
    found = modelfile(gguf_of(template or None, tmp_path, **changed), tmp_path, context=None, today=TODAY)
    assert found.stops == stops
    assert re.findall(r'^PARAMETER stop "(.+)"$', found.text, re.MULTILINE) == list(stops)


CONTEXTS: dict[str, tuple[dict[str, Any], int | None, int]] = {
    "the model's": ({}, None, 8192),
    "the user's": ({}, 1000, 1000),
    "as much as fits": ({"llama.context_length": 131_072}, None, 93_184),  # 23,040 bytes a token
    "long keys": ({"llama.context_length": 131_072, "llama.attention.key_length": 192}, None, 46_592),
    "groups by layer": ({"llama.context_length": 131_072, "llama.attention.head_count_kv": [3] * 60}, None, 46_592),
    "no groups": ({"llama.context_length": 131_072, "llama.attention.head_count_kv": None}, None, 30_976),
    "no keys at all": ({"llama.block_count": 0}, None, 8192),
}


@pytest.mark.parametrize("case", CONTEXTS)
def test_the_context_is_the_models_as_far_as_memory_allows(case: str, tmp_path: Path) -> None:
    changed, wanted, length = CONTEXTS[case]
    found = modelfile(gguf_of("qwen2", tmp_path, **changed), tmp_path, context=wanted, today=TODAY)
    assert found.context == length and found.cache <= 2 * 2**30
    assert parameters(found.text)["num_ctx"] == str(length)


QWEN25 = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
SAMPLING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Qwen2.5": (QWEN25, {"temp": 0.7, "top_p": 0.8, "top_k": 20}),
    "Llama 3": ({"do_sample": True, "temperature": 0.6, "top_p": 0.9}, {"temp": 0.6, "top_k": 50, "top_p": 0.9}),
    "min_p": ({"do_sample": True, "min_p": 0.05}, {"temp": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.05}),
    "greedy": ({"temperature": 0.7, "eos_token_id": 3}, {}),
}


@pytest.mark.parametrize("case", SAMPLING)
def test_the_makers_sampling_is_in_the_file_and_the_modelfile(case: str, tmp_path: Path) -> None:
    config, named = SAMPLING[case]
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    metadata = sampling_metadata(tmp_path)
    assert metadata == {f"general.sampling.{name}": value for name, value in named.items()}
    found = parameters(modelfile(gguf_of("qwen2", tmp_path, **metadata), tmp_path, context=None, today=TODAY).text)
    greedy = {"temp": 0, "top_k": 0, "top_p": 1, "min_p": 0}
    wanted = {"temperature" if name == "temp" else name: f"{value:g}" for name, value in (greedy | named).items()}
    assert {name: found[name] for name in wanted} == wanted and found["repeat_penalty"] == "1"


def test_a_penalty_in_the_file_looks_at_the_whole_context(tmp_path: Path) -> None:
    changed = {"general.sampling.penalty_repeat": 1.05}
    found = parameters(modelfile(gguf_of("qwen2", tmp_path, **changed), tmp_path, context=None, today=TODAY).text)
    assert (found["repeat_penalty"], found["repeat_last_n"]) == ("1.05", "-1")


def test_bos_is_left_to_llama_cpp(tmp_path: Path) -> None:
    """With add_bos_token the template must not write it: the model would read it twice."""
    template = {
        adds: modelfile(
            gguf_of("llama3", tmp_path, **{"tokenizer.ggml.add_bos_token": adds}), tmp_path, context=None, today=TODAY
        ).template.text
        for adds in (True, False)
    }
    assert template[False].replace("<s>", "") == template[True] and template[False].count("<s>") == 1


def test_without_a_chat_template_texts_are_sent_as_they_are(tmp_path: Path) -> None:
    found = modelfile(gguf_of(None, tmp_path), tmp_path, context=None, today=TODAY)
    assert 'TEMPLATE """{{ .Prompt }}"""' in found.text and "# the model has no chat template" in found.text


def test_the_file_is_found_from_the_modelfile(tmp_path: Path) -> None:
    gguf = gguf_of("qwen2", tmp_path)
    assert "\nFROM ../model.gguf\n" in modelfile(gguf, tmp_path / "ollama", context=None, today=TODAY).text
    spaced = replace(gguf, path=tmp_path / "私 の.gguf")
    assert "\nFROM ./私 の.gguf\n" in modelfile(spaced, tmp_path, context=None, today=TODAY).text


REFUSED: dict[str, tuple[dict[str, Any], str, int | None, str]] = {
    "nothing ends an answer": (
        {"tokenizer.chat_template": None, "tokenizer.ggml.eos_token_id": None}, "m.gguf", None, "no token ends"
    ),
    "a context that the model does not have": ({}, "m.gguf", 8193, "trained for 8192 tokens"),
    "a name that Ollama loses": ({}, "a\u3000b.gguf", None, "rename"),
    "Ollama's own prompts": ({"general.architecture": "gemma4"}, "m.gguf", None, "writes the prompts of gemma4"),
    "a broken template": ({"tokenizer.chat_template": "{% if %}"}, "m.gguf", None, "chat template"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_ollama_cannot_do_is_refused(case: str, tmp_path: Path) -> None:
    changed, name, wanted, message = REFUSED[case]
    gguf = replace(gguf_of("qwen2", tmp_path, **changed), path=tmp_path / name)
    with pytest.raises(InputError, match=message):
        modelfile(gguf, tmp_path, context=wanted, today=TODAY)


BAD_FILES: dict[str, tuple[bytes | None, str]] = {
    "missing": (None, "no such file"),
    "text": (b"FROM llama3.2", "not a GGUF file, or damaged"),
    "an adapter": (b"GGUF" + pack("<IQQ", 3, 0, 0), "no general.architecture in its metadata"),
    "cut": (b"GGUF" + pack("<IQQ", 3, 0, 9), "damaged"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_line_and_nothing_is_written(case: str, tmp_path: Path, cli: Cli) -> None:
    content, message = BAD_FILES[case]
    if content is not None:
        (tmp_path / "m.gguf").write_bytes(content)
    code, output, errors = cli("deploy", "modelfile", tmp_path / "m.gguf")
    assert code == 2 and message in errors and output == "" and errors.count("\n") == 1
    assert not (tmp_path / "Modelfile").exists()


def test_the_command_writes_beside_the_file_and_keeps_what_it_did_not_write(tmp_path: Path, cli: Cli) -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = (TEMPLATES / "gemma2.jinja").read_text(encoding="utf-8")
    file, written = tmp_path / "model.gguf", tmp_path / "Modelfile"
    write_vocabulary(vocabulary(tokenizer, len(tokenizer), [tokenizer.eos_token_id]), "gpt-2", file)
    code, output, errors = cli("deploy", "modelfile", file)
    assert code == 0 and output.splitlines() == [
        "template: the same prompts as the chat template in 8 conversations",
        "an answer ends with: </s> or <end_of_turn>",
        "context: 8192 tokens, 1 MiB of keys and values",
        "note: the chat template changes white space at the ends of user and assistant messages; Ollama does not",
    ]
    assert f"ollama create NAME -f {written}" in errors
    text = written.read_text(encoding="utf-8")
    cli("deploy", "modelfile", file, "--context", 512)
    assert written.read_text(encoding="utf-8") == text.replace("8192", "512").replace("4096", "256")
    written.write_text("FROM llama3.2\n")
    code, _, errors = cli("deploy", "modelfile", file)
    assert code == 2 and "was not written by jmedllm" in errors
    assert written.read_text() == "FROM llama3.2\n"


@pytest.mark.slow
@pytest.mark.parametrize("adds_bos", [True, False])
def test_llama_cpp_reads_the_ids_that_transformers_does(adds_bos: bool, tmp_path: Path) -> None:
    """The text of Ollama's prompt becomes the ids that the model was trained on, with BOS once."""
    pytest.importorskip("xllamacpp")
    tokenizer = byte_level()
    tokenizer.chat_template = (TEMPLATES / "llama3.jinja").read_text(encoding="utf-8")
    if adds_bos:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
        )
    file = tmp_path / "model.gguf"
    write_vocabulary(vocabulary(tokenizer, len(tokenizer), [tokenizer.eos_token_id]), "gpt-2", file)
    text = modelfile(read_gguf(file), tmp_path, context=None, today=TODAY).template.text
    template = ChatTemplate(tokenizer, date=TODAY)
    [mode] = modes(template, chat_format(template))
    with serving(file) as server:
        for messages in conversations():
            plain = tokenizer(template.prompt(messages), add_special_tokens=False)["input_ids"]
            assert server.token_ids(ollama_prompt(text, mode, messages)) == plain
            assert plain.count(tokenizer.bos_token_id) == 1
