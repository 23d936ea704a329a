"""Randomly initialized models are of the classes of the published ones, and load in transformers by themselves."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

from conftest import TEXTS
from jmedllm.models.chat import ChatTemplate, turn_end
from jmedllm.models.random_configs import CONFIGS
from jmedllm.models.random_init import RandomInit, build

PUBLISHED = {
    "qwen2": "Qwen2ForCausalLM",
    "llama": "LlamaForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "gpt_oss": "GptOssForCausalLM",
    "qwen3_5": "Qwen3_5ForConditionalGeneration",
    "qwen3_5_moe": "Qwen3_5MoeForConditionalGeneration",
    "gemma3": "Gemma3ForConditionalGeneration",
}
"""Class in the published config.json of each architecture."""


@pytest.mark.parametrize("architecture", CONFIGS)
def test_the_class_is_the_published_one(tmp_path: Path, architecture: str) -> None:
    shape = RandomInit(architecture=architecture, vocabulary=320, hidden_size=32, layers=3, feed_forward=64)
    build(shape, TEXTS, tmp_path / "model", 0)
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert (config.model_type, config.architectures) == (architecture, [PUBLISHED[architecture]])
    sees = "vision_config" in config.to_dict()
    kind = AutoModelForImageTextToText if sees else AutoModelForCausalLM
    network, report = kind.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    text = config.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ())
    assert kinds == {
        "gpt_oss": {"sliding_attention", "full_attention"},
        "gemma3": {"sliding_attention", "full_attention"},
        "qwen3_5": {"linear_attention", "full_attention"},
        "qwen3_5_moe": {"linear_attention", "full_attention"},
        "qwen2": {"full_attention"},
        "qwen3": {"full_attention"},
    }.get(architecture, set())
    with torch.no_grad():
        assert network(input_ids=torch.tensor([[1, 2, 3]])).logits.isfinite().all()


def test_an_unknown_architecture_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown architecture 'qwen3_mo': did you mean qwen3_moe or "):
        RandomInit(architecture="qwen3_mo")


def test_the_chat_template_ends_turns_and_can_leave_out_the_thought(tmp_path: Path) -> None:
    build(RandomInit(vocabulary=320, hidden_size=16, heads=2, chat_template=True), TEXTS, tmp_path, 0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    asked = [{"role": "user", "content": "壊血病とは？"}]
    answered = "<|im_start|>user\n壊血病とは？<|im_end|>\n<|im_start|>assistant\n"
    assert ChatTemplate(tokenizer).prompt(asked) == answered
    brief = ChatTemplate(tokenizer, {"enable_thinking": False})
    brief.require_variables()
    assert brief.prompt(asked) == answered + "<think>\n\n</think>\n\n"
    assert turn_end(brief).token == tokenizer.convert_tokens_to_ids("<|im_end|>")
