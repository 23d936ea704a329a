"""A small randomly initialized model: a tokenizer trained on given texts, and weights drawn from a seed.

The demo and the tests use it; it also serves to try a recipe before the real base model is available.
"""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import Field, field_validator, model_validator

from jmedllm.errors import unknown
from jmedllm.files import to_json, write_atomic
from jmedllm.models.classes import class_for
from jmedllm.models.random_configs import CONFIGS
from jmedllm.models.save import save_model
from jmedllm.settings import Settings

END = "<|endoftext|>"

_TURN, _TURN_END = "<|im_start|>", "<|im_end|>"

_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    f"{_TURN}{{{{ message.role }}}}\n{{{{ message.content }}}}{_TURN_END}\n"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{_TURN}assistant\n"
    "{% if not enable_thinking|default(true) %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""ChatML. With `enable_thinking: false` a prompt ends with an empty thought, as with models that can leave it out."""

_SCRIPTS = r"\p{Han}+|[\p{Hiragana}ー]+|[\p{Katakana}ー]+| ?\p{Latin}+| ?\p{N}|\s+| ?[^\s\p{L}\p{N}]+"
"""Pre-tokenization: no token crosses these pieces. Japanese has no spaces, so a change of script is a border."""


class RandomInit(Settings):
    """Architecture and sizes of a randomly initialized model."""

    architecture: str = Field("qwen2", description=f"model_type of config.json: {', '.join(CONFIGS)}")
    vocabulary: int = Field(2048, ge=320, description="tokens, byte alphabet included")
    hidden_size: int = Field(128, ge=8)
    layers: int = Field(3, ge=1)
    feed_forward: int = Field(384, ge=8)
    heads: int = Field(4, ge=1)
    key_value_heads: int = Field(2, ge=1)
    context: int = Field(4096, ge=16, description="longest sequence in tokens")
    chat_template: bool = Field(False, description="give the tokenizer a chat template (ChatML)")

    @field_validator("architecture")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CONFIGS:
            raise ValueError(str(unknown("architecture", name, CONFIGS)))
        return name

    @model_validator(mode="after")
    def _heads_fit(self) -> "RandomInit":
        if self.hidden_size % (2 * self.heads) or self.heads % self.key_value_heads:
            raise ValueError("hidden_size must be a multiple of 2 * heads, and heads of key_value_heads")
        return self


def build(shape: RandomInit, texts: Iterable[str], folder: Path, seed: int) -> None:
    """Write a model directory with a tokenizer trained on `texts` and random weights."""
    tokenizer = _as_loaded(_train_tokenizer(texts, shape), shape.architecture)
    build_around(tokenizer, shape, folder, seed)


def build_around(tokenizer: Any, shape: RandomInit, folder: Path, seed: int) -> None:
    """Write a model directory for an existing tokenizer with random weights.

    Args:
        tokenizer: a tokenizer with an end-of-sequence and a padding token.
        shape: sizes; `vocabulary` is ignored, because the embedding fits the tokenizer.
        folder: directory to write.
        seed: seed of the weights.
    """
    config = _config(shape, tokenizer)
    torch.manual_seed(seed)
    network = class_for(config).from_config(config, dtype=torch.float32)
    save_model(network, tokenizer, folder, {"random_init": repr(shape), "seed": str(seed)})


def _train_tokenizer(texts: Iterable[str], shape: RandomInit) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SCRIPTS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=[END, *((_TURN, _TURN_END) if shape.chat_template else ())],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    if shape.chat_template:
        trained.chat_template = _CHAT_TEMPLATE
    return trained


def _as_loaded(tokenizer: Any, architecture: str) -> Any:
    """Return the tokenizer as transformers loads it for a model of this architecture.

    Qwen2's class splits text by its own rule. Saving this tokenizer writes that rule into the file.
    """
    from transformers import AutoTokenizer

    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        write_atomic(Path(folder) / "config.json", to_json({"model_type": architecture}))
        return AutoTokenizer.from_pretrained(folder)


def planned_config(shape: RandomInit) -> Any:
    """Return the configuration of the model that would be built, without the ids of special tokens."""
    config = _config_of(shape, {"vocab_size": shape.vocabulary})
    with torch.device("meta"):
        config.architectures = [type(class_for(config).from_config(config)).__name__]
    return config


def _config(shape: RandomInit, tokenizer: Any) -> Any:
    tokens = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return _config_of(shape, {"vocab_size": len(tokenizer)} | tokens)


def _config_of(shape: RandomInit, tokens: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    text = {
        **tokens,
        "hidden_size": shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.feed_forward,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.key_value_heads,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": True,
    }
    return AutoConfig.for_model(shape.architecture, **CONFIGS[shape.architecture](text))
