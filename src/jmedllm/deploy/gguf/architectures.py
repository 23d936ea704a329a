"""Architectures that can be exported: their configuration and tensors as llama.cpp expects them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jmedllm.deploy.gguf.edits import (
    Edit,
    decay,
    even,
    first_half,
    kernel,
    key_interleaved,
    mixed,
    odd,
    plus_one,
    query_interleaved,
    second_half,
    tiled,
    tiled_columns,
    transposed,
    unchanged,
    upright_down,
)
from jmedllm.deploy.gguf.rope import Metadata, head_size, of_layer, rope_metadata
from jmedllm.errors import InputError

Describe = Callable[[Any], Metadata]
"""Returns values that describe a configuration, by their keys without the architecture's name."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """How llama.cpp represents the models of a transformers class.

    Attributes:
        name: llama.cpp's name.
        fixed: settings that llama.cpp cannot express, and the only values with which the model can be exported; or a
            function of the configuration that returns the value.
        metadata: functions of the values that other architectures do not have.
        parts: for tensors that llama.cpp divides or names differently, by their name in the layer: the new names and
            how each is made.
        edits: changes of values, by a pattern of the name in the layer; the first that matches is applied.
    """

    name: str
    fixed: Mapping[str, object] = field(default_factory=dict)
    metadata: tuple[Describe, ...] = ()
    parts: Mapping[str, Mapping[str, Edit]] = field(default_factory=dict)
    edits: Mapping[str, Edit] = field(default_factory=dict)


def _experts(size: str) -> Describe:
    """Return a function that describes routed experts, given the name of the setting of their width."""
    return lambda config: {
        "expert_count": getattr(config, "num_experts", None) or config.num_local_experts,
        "expert_used_count": config.num_experts_per_tok,
        "expert_feed_forward_length": getattr(config, size),
    }


def _shared_expert(config: Any) -> Metadata:
    return {"expert_shared_feed_forward_length": config.shared_expert_intermediate_size}


def _window(config: Any) -> Metadata:
    return {"attention.sliding_window": config.sliding_window}


def _windows_by_layer(config: Any) -> Metadata:
    return _window(config) | {"attention.sliding_window_pattern": [each == _SLIDING for each in config.layer_types]}


def _within_window(config: Any) -> Metadata:
    """Limit the context to a sliding window that llama.cpp does not have here; within it, the models are the same."""
    return (
        {"context_length": min(config.max_position_embeddings, config.sliding_window)} if config.sliding_window else {}
    )


def _no_window(_: Any) -> Metadata:
    return {"attention.sliding_window": 0}


def _layers_of_gemma4(config: Any) -> Metadata:
    """Describe what differs between layers with a sliding window and the others."""
    layers = [of_layer(config, layer) for layer in range(config.num_hidden_layers)]
    local = layers[config.layer_types.index(_SLIDING)].head_dim
    own = config.num_hidden_layers - config.num_kv_shared_layers
    wide = 2 if config.use_double_wide_mlp else 1
    return {
        "attention.shared_kv_layers": config.num_kv_shared_layers,
        "attention.key_length_swa": local,
        "attention.value_length_swa": local,
        "attention.head_count_kv": [each.num_key_value_heads for each in layers],
        "rope.dimension_count": head_size(config),  # factors leave the last ones as they are
        "rope.dimension_count_swa": local,
        "embedding_length_per_layer_input": config.hidden_size_per_layer_input or 0,
        "feed_forward_length": [config.intermediate_size * (1 if at < own else wide) for at in range(len(layers))],
    }


def _soft_caps(config: Any) -> Metadata:
    """Describe caps of logits; llama.cpp has defaults, so that none is 0."""
    return {key: float(getattr(config, key, None) or 0.0) for key in _CAPS if hasattr(config, key)}


_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")


def _scales(config: Any) -> Metadata:
    return {
        "attention.scale": float(config.attention_multiplier),
        "embedding_scale": float(config.embedding_multiplier),
        "residual_scale": float(config.residual_multiplier),
        "logit_scale": float(config.logits_scaling),
    }


def _logit_scale(config: Any) -> Metadata:
    return {"logit_scale": float(config.logit_scale), "rope.scaling.type": "none"}


def _delta_rule(config: Any) -> Metadata:
    return {
        "ssm.conv_kernel": config.linear_conv_kernel_dim,
        "ssm.state_size": config.linear_key_head_dim,
        "ssm.group_count": config.linear_num_key_heads,
        "ssm.time_step_rank": config.linear_num_value_heads,
        "ssm.inner_size": config.linear_num_value_heads * config.linear_value_head_dim,
        "full_attention_interval": _interval(config),
        "rope.dimension_sections": [*config.rope_parameters.get("mrope_section", _SECTIONS), 0],
    }


_SECTIONS = (11, 11, 10)
"""Default of transformers; in text, time, height and width of a position are the same."""


def _interval(config: Any) -> int:
    return int(config.layer_types.index(_FULL)) + 1


_FULL, _SLIDING, _LINEAR = "full_attention", "sliding_attention", "linear_attention"


def _every(interval: int, other: str = _SLIDING) -> Callable[[Any], list[str]]:
    """Return a function of the kinds of layers, of which every `interval`-th attends to the whole text."""
    return lambda config: [
        _FULL if (layer + 1) % interval == 0 else other for layer in range(config.num_hidden_layers)
    ]


def _hybrid(config: Any) -> list[str]:
    return _every(_interval(config), _LINEAR)(config)


def _three_of_four(config: Any) -> list[int]:
    return [int((layer + 1) % 4 != 0) for layer in range(config.num_hidden_layers)]


def _gemma_scale(large: int) -> Callable[[Any], float]:
    """Return a function of the attention's scale, which llama.cpp takes from the number of layers."""
    return lambda config: (
        config.hidden_size / config.num_attention_heads if config.num_hidden_layers == large else head_size(config)
    )


_SILU = {"hidden_act": "silu"}
_NEIGHBOURS: Mapping[str, Edit] = {"self_attn.q_proj.*": query_interleaved, "self_attn.k_proj.*": key_interleaved}
"""llama.cpp rotates neighbouring elements of a head and not its halves."""

_STACKED: Mapping[str, Mapping[str, Edit]] = {
    "mlp.experts.gate_up_proj": {
        "mlp.experts.gate_proj.weight": first_half,
        "mlp.experts.up_proj.weight": second_half,
    },
    "mlp.experts.down_proj": {"mlp.experts.down_proj.weight": upright_down},
}
_GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "attention_bias": False}
_GEMMA_NORMS: Mapping[str, Edit] = {"*norm.weight": plus_one}
_QWEN3 = {**_SILU, "use_sliding_window": False, "attention_bias": False}
_ROUTED = {"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}
_DELTA = {"layer_types": _hybrid, "attention_bias": False, **_SILU}

_LLAMA = Architecture("llama", {**_SILU, "mlp_bias": False}, edits=_NEIGHBOURS)
_MISTRAL = Architecture("llama", _SILU, (_within_window,), edits=_NEIGHBOURS)
_QWEN2 = Architecture("qwen2", {**_SILU, "use_sliding_window": False})
_QWEN3_DENSE = Architecture("qwen3", _QWEN3)
_QWEN3_MOE = Architecture("qwen3moe", _QWEN3 | _ROUTED, (_experts("moe_intermediate_size"),), _STACKED)
_GEMMA3 = Architecture(
    "gemma3",
    {
        **_GEMMA,
        "layer_types": _every(6),
        "query_pre_attn_scalar": _gemma_scale(62),
        "attn_logit_softcapping": None,
        "use_bidirectional_attention": False,
    },
    (_window, _soft_caps),
    edits=_GEMMA_NORMS,
)
_GEMMA4 = Architecture(
    "gemma4",
    {**_GEMMA, "enable_moe_block": False},
    (_windows_by_layer, _soft_caps, _layers_of_gemma4),
    {"layer_scalar": {"layer_scalar.weight": unchanged}},
)
_QWEN35 = Architecture(
    "qwen35",
    _DELTA,
    (_delta_rule,),
    {"linear_attn.dt_bias": {"linear_attn.dt_proj.bias": unchanged}},
    {
        "linear_attn.norm.weight": unchanged,
        "*norm.weight": plus_one,
        "linear_attn.A_log": decay,
        "linear_attn.conv1d.weight": kernel,
        "linear_attn.in_proj_qkv.weight": mixed,
        "linear_attn.in_proj_[zab].weight": tiled,
        "linear_attn.dt_proj.bias": tiled,
        "linear_attn.out_proj.weight": tiled_columns,
    },
)
_QWEN35_MOE = replace(
    _QWEN35,
    name="qwen35moe",
    metadata=(_delta_rule, _experts("moe_intermediate_size"), _shared_expert),
    parts={**_QWEN35.parts, **_STACKED},
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "LlamaForCausalLM": _LLAMA,
    "MistralForCausalLM": _MISTRAL,
    "Mistral3ForConditionalGeneration": _MISTRAL,
    "MixtralForCausalLM": Architecture(
        "llama",
        _SILU,
        (_experts("intermediate_size"), _within_window),
        _STACKED,
        _NEIGHBOURS,
    ),
    "Qwen2ForCausalLM": _QWEN2,
    "Qwen2_5_VLForConditionalGeneration": _QWEN2,
    "Qwen3ForCausalLM": _QWEN3_DENSE,
    "Qwen3VLForConditionalGeneration": _QWEN3_DENSE,
    "Qwen3MoeForCausalLM": _QWEN3_MOE,
    "Qwen3VLMoeForConditionalGeneration": _QWEN3_MOE,
    "Qwen3_5ForCausalLM": _QWEN35,
    "Qwen3_5ForConditionalGeneration": _QWEN35,
    "Qwen3_5MoeForCausalLM": _QWEN35_MOE,
    "Qwen3_5MoeForConditionalGeneration": _QWEN35_MOE,
    "GemmaForCausalLM": Architecture("gemma", _GEMMA, edits=_GEMMA_NORMS),
    "Gemma2ForCausalLM": Architecture(
        "gemma2",
        {**_GEMMA, "layer_types": _every(2), "query_pre_attn_scalar": _gemma_scale(46)},
        (_window, _soft_caps),
        edits=_GEMMA_NORMS,
    ),
    "Gemma3ForCausalLM": _GEMMA3,
    "Gemma3ForConditionalGeneration": _GEMMA3,
    "Gemma4ForCausalLM": _GEMMA4,
    "Gemma4ForConditionalGeneration": _GEMMA4,
    "GptOssForCausalLM": Architecture(
        "gpt-oss",
        {**_SILU, "layer_types": _every(2), "swiglu_limit": 7.0},
        (_window, _experts("intermediate_size")),
        {
            "self_attn.sinks": {"self_attn.sinks.weight": unchanged},
            "mlp.experts.gate_up_proj": {"mlp.experts.gate_proj.weight": even, "mlp.experts.up_proj.weight": odd},
            "mlp.experts.gate_up_proj_bias": {"mlp.experts.gate_proj.bias": even, "mlp.experts.up_proj.bias": odd},
            "mlp.experts.down_proj": {"mlp.experts.down_proj.weight": transposed},
            "mlp.experts.down_proj_bias": {"mlp.experts.down_proj.bias": unchanged},
        },
    ),
    "Phi3ForCausalLM": Architecture("phi3", _SILU, (_no_window, _within_window)),
    "SmolLM3ForCausalLM": Architecture(
        "smollm3",
        {**_SILU, "mlp_bias": False, "use_sliding_window": False, "no_rope_layers": _three_of_four},
        edits=_NEIGHBOURS,
    ),
    "Olmo2ForCausalLM": Architecture("olmo2", {**_SILU, "attention_bias": False}),
    "Olmo3ForCausalLM": Architecture("olmo2", {**_SILU, "attention_bias": False}, (_windows_by_layer,)),
    "GraniteForCausalLM": Architecture("granite", {**_SILU, "mlp_bias": False}, (_scales,), edits=_NEIGHBOURS),
    "CohereForCausalLM": Architecture(
        "command-r", {**_SILU, "attention_bias": False, "use_qk_norm": False}, (_logit_scale,)
    ),
    "Cohere2ForCausalLM": Architecture(
        "cohere2", {**_SILU, "attention_bias": False, "layer_types": _every(4)}, (_window, _logit_scale)
    ),
}
"""Exported architectures by the name of their transformers class."""


def architecture_of(config: Any) -> Architecture:
    """Return the architecture of a configuration.

    Raises:
        InputError: it is not exported, or has a setting that llama.cpp cannot express.
    """
    named = (getattr(config, "architectures", None) or ["unknown"])[0]
    if named not in ARCHITECTURES:
        raise InputError(
            f"gguf: the architecture {named} is not supported (supported: {', '.join(ARCHITECTURES)}); serve the "
            "model directory with vLLM or transformers"
        )
    found = ARCHITECTURES[named]
    for key, value in found.fixed.items():
        expected = value(config) if callable(value) else value
        if getattr(config, key, expected) != expected:
            raise InputError(
                f"gguf: llama.cpp computes {named} with {key}={expected}, but config.json has "
                f"{getattr(config, key)!r}; serve the model directory with vLLM or transformers"
            )
    return found


def architecture_metadata(config: Any) -> Metadata:
    """Return the values that describe the network, by their keys without the architecture's name.

    Raises:
        InputError: a kind of rotary position is not supported.
    """
    heads, size = config.num_attention_heads, head_size(config)
    found: Metadata = {
        "block_count": config.num_hidden_layers,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "feed_forward_length": getattr(config, "intermediate_size", None) or config.moe_intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": of_layer(config, config.num_hidden_layers - 1).num_key_value_heads or heads,
        "attention.key_length": size,
        "attention.value_length": size,
        **_epsilon(config),
        "vocab_size": config.vocab_size,
    }
    found |= rope_metadata(config)
    for describe in architecture_of(config).metadata:
        found |= describe(config)
    return found


def _epsilon(config: Any) -> Metadata:
    if (epsilon := getattr(config, "rms_norm_eps", None)) is not None:
        return {"attention.layer_norm_rms_epsilon": float(epsilon)}
    return {"attention.layer_norm_epsilon": float(config.layer_norm_eps)}


def text_config(config: Any) -> Any:
    """Return the configuration of the language model in a vision-language model's, else the configuration."""
    text = config.get_text_config()
    if text is not config:
        text.architectures = config.architectures
        text.tie_word_embeddings = config.tie_word_embeddings
    return text
