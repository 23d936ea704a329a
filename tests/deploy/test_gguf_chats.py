"""Chats of a served file: its template is the model's, and llama.cpp may render it differently on its own."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from jmedllm.deploy.gguf.chats import CHATS, rendered, renders_as_template, require_same_template
from jmedllm.deploy.gguf.source import open_source
from jmedllm.deploy.gguf.types import FILE_TYPES
from jmedllm.deploy.gguf.vocabulary import vocabulary
from jmedllm.errors import InputError
from jmedllm.precision import choose_precision

TEMPLATES = sorted((Path(__file__).parents[1] / "templates").glob("*.jinja"))

DIFFERENT = {"gemma4"}
"""Templates that llama.cpp renders differently: here it lets the model think."""

EVERY_RUN = {"gemma4", "qwen3"}


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(each, marks=() if each.stem in EVERY_RUN else pytest.mark.exhaustive, id=each.stem)
        for each in TEMPLATES
    ],
)
def test_the_proof_notes_whether_llama_cpp_renders_a_template_as_transformers_does(
    template: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from jmedllm.deploy.gguf.write import write_gguf
    from jmedllm.deploy.llama_cpp import serving

    with open_source(str(tiny_model), None, choose_precision("float32", "cpu")) as opened:
        source = replace(opened, tokenizer=deepcopy(opened.tokenizer))
    tokenizer = source.tokenizer
    tokenizer.chat_template = template.read_text(encoding="utf-8")
    tokenizer.bos_token = tokenizer.convert_ids_to_tokens(5)  # many templates write it
    tokens, file = vocabulary(tokenizer, source.config.vocab_size, source.ends), tmp_path / "tiny.gguf"
    write_gguf(source.folder, source.config, tokens, "qwen2", FILE_TYPES["f16"], file, {})
    assert 2 <= len(list(rendered(tokenizer))) <= len(CHATS)
    with serving(file, context=256) as server:
        require_same_template(server, tokenizer, "the file")
        assert renders_as_template(server, tokenizer) is (template.stem not in DIFFERENT)
        tokenizer.chat_template = "{% for message in messages %}{{ message.content }}{% endfor %}"
        with pytest.raises(InputError, match="the file: its chat template is not the model's"):
            require_same_template(server, tokenizer, "the file")


def test_a_model_without_a_template_renders_no_chats(tiny_model: Path) -> None:
    from jmedllm.deploy.llama_cpp import LlamaServer

    with open_source(str(tiny_model), None, choose_precision("float32", "cpu")) as source:
        assert renders_as_template(LlamaServer("http://127.0.0.1:9"), source.tokenizer) is None
