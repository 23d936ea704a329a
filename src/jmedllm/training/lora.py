"""Low-rank adapters of stage 2, and their target layers."""

from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from jmedllm.errors import InputError, unknown
from jmedllm.models.experts import ExpertLayer, expert_layers, router_layers
from jmedllm.models.folder import Quantization
from jmedllm.models.layers import decoder_of, inside_adapter
from jmedllm.settings import Settings

Preset = Literal["all-linear", "attention", "qkv"]

_PRESETS = {
    "qkv": ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "c_attn"),
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value", "c_attn", "dense"),
}


@dataclass(frozen=True, slots=True)
class Targets:
    """What peft adapts.

    Attributes:
        modules: value of peft's `target_modules`: "all-linear", or names of linear layers or their last components.
        parameters: value of peft's `target_parameters`: names of parameters, such as those of experts.
    """

    modules: str | list[str]
    parameters: list[str]


def resolve_targets(network: Any, settings: "AdapterConfig") -> Targets:
    """Return the layers and parameters that an adapter changes.

    Raises:
        InputError: a target matches nothing (the message suggests the nearest names), is an output head that shares
            its weights with the embedding, or is contradicted by `experts`.
    """
    layers = expert_layers(network)
    if layers:
        return _targets_beside_experts(network, settings, layers)
    if settings.experts == "adapt":
        raise InputError(
            f"adapter: experts: adapt, but architecture {network.config.model_type!r} has no routed experts; "
            "leave it out"
        )
    if settings.targets == "all-linear":
        return Targets("all-linear", [])
    present = {name.rpartition(".")[2] for name in _adaptable(network)}
    return Targets(_named(network, settings.targets, present), [])


def _named(network: Any, targets: Preset | Sequence[str], present: set[str]) -> list[str]:
    """Return the last components of the names that a preset or a list stands for."""
    if isinstance(targets, str):
        found = [name for name in _PRESETS[targets] if name in present]
        if not found:
            raise unknown("adapter target preset for this architecture", targets, present)
        return found
    for target in targets:
        if target not in present:
            raise unknown("adapter target", target, present - _tied_head(network))
    _require_untied_head(network, targets)
    return list(targets)


def _targets_beside_experts(network: Any, settings: "AdapterConfig", layers: list[ExpertLayer]) -> Targets:
    """Return the targets of a mixture-of-experts model, by the names of their parameters."""
    experts = {name for layer in layers for name in layer.matrices}
    routers = {f"{name}.weight" for name, _ in router_layers(network, layers)}
    linear = {f"{name}.weight" for name in _adaptable(network)} - experts - routers
    wanted = {name for name in linear if network.get_parameter(name) is not network.get_output_embeddings().weight}
    if settings.targets != "all-linear":
        by_name = _by_last_name(linear | experts | routers)
        wanted = {each for name in _named(network, settings.targets, set(by_name)) for each in by_name[name]}
    if settings.experts == "freeze" and (named := wanted & experts):
        raise InputError(f"adapter: targets name {_last_name(min(named))}, but experts: freeze; leave out one of them")
    if adapts_experts(settings):
        wanted |= experts
    layer_names = {f"{name}.weight" for name, _ in _linear_layers(network)}
    taken = _renamed_by_peft(network)
    renamed = {name for name in wanted & layer_names if _last_name(name) in taken}
    parameters = wanted - layer_names
    if takes_parameters(settings) and settings.quantization == "none":
        parameters |= renamed
    return Targets(sorted(name.removesuffix(".weight") for name in wanted & layer_names - renamed), sorted(parameters))


def takes_parameters(settings: "AdapterConfig") -> bool:
    """Return whether peft supports this kind of adapter on a parameter of a module that is not a linear layer."""
    return settings.kind in ("lora", "rslora") and not settings.dropout


def adapts_experts(settings: "AdapterConfig") -> bool:
    """Return whether an adapter changes all routed experts of a model that has some."""
    by_default = settings.targets == "all-linear" and takes_parameters(settings)
    return settings.experts == "adapt" or (settings.experts is None and by_default)


def _renamed_by_peft(network: Any) -> set[str]:
    """Return the names of linear layers that peft takes for experts, as they were in transformers 4.

    It replaces them by parameters of experts, wherever they are in the network. Layers of a shared expert or of a
    dense layer have such names too: peft adapts them only if it gets their weights as parameters.
    """
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    names = {_last_name(name) for name in _adaptable(network)}
    config = LoraConfig(target_modules=sorted(names))
    convert_peft_config_for_transformers(config, network, None)
    return names - set(config.target_modules or ())


def _last_name(name: str) -> str:
    """Return the last component of a name that a user gives: that of the layer if the parameter is its weight."""
    return name.removesuffix(".weight").rpartition(".")[2]


def _by_last_name(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_last_name(name), []).append(name)
    return found


def _adaptable(network: Any) -> list[str]:
    """Return the names of the linear layers that can have an adapter."""
    left_out = set(excluded_layers(network))
    return [name for name, _ in _linear_layers(network) if name not in left_out]


def excluded_layers(network: Any) -> list[str]:
    """Return the names of the linear layers that never get an adapter, whatever the targets are.

    These are layers that text does not pass through, such as a vision tower, layers whose output is more than a
    matrix product, such as some routers, and those that peft refuses.
    """
    reached = {id(module) for module in decoder_of(network).modules()} | {id(network.get_output_embeddings())}
    refused = _REFUSED_BY_PEFT if inside_adapter(network).config.model_type in _MAMBA else ()
    return [
        name
        for name, module in _linear_layers(network)
        if id(module) not in reached or not _gives_product(module) or _last_name(name) in refused
    ]


_MAMBA = ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
_REFUSED_BY_PEFT = ("out_proj", "conv1d")
"""Layers of these architectures that peft 0.21 refuses: the kernels of Mamba take their weights without an adapter."""


def why_experts_are_frozen(network: Any, settings: "AdapterConfig") -> str | None:
    """Explain why `all-linear` leaves routed experts frozen without being asked to; None if it does not."""
    if (
        settings.targets != "all-linear"
        or settings.experts
        or takes_parameters(settings)
        or not expert_layers(network)
    ):
        return None
    return f"kind {settings.kind} with dropout {settings.dropout:g} does not support them: {_WAY_OUT}"


def _linear_layers(network: Any) -> Iterator[tuple[str, Any]]:
    """Yield all linear layers with their names, including GPT-2's `Conv1D`."""
    for name, module in network.named_modules():
        if hasattr(module, "in_features") or name.rpartition(".")[2] == "c_attn":
            yield name, module


def _gives_product(layer: Any) -> bool:
    """Whether a layer returns one number per row and output feature; a few architecture-specific classes do not."""
    forward = getattr(type(layer), "forward", None)
    if forward is torch.nn.Linear.forward or not type(layer).__module__.startswith("transformers.models."):
        return True
    try:
        found = layer(layer.weight.new_zeros(1, layer.in_features))
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False
    return isinstance(found, torch.Tensor) and found.shape == (1, layer.out_features)


def _require_untied_head(network: Any, targets: Sequence[str]) -> None:
    for name in _tied_head(network) & set(targets):
        raise InputError(
            f"adapter target {name!r} shares its weights with the embedding, which a merge would change "
            "too; leave it out"
        )


def _tied_head(network: Any) -> set[str]:
    """Return the name of the output head if it shares its weights with the embedding."""
    head, embedding = network.get_output_embeddings(), network.get_input_embeddings()
    if head is None or head.weight is not embedding.weight:
        return set()
    return {name.rpartition(".")[2] for name, module in network.named_modules() if module is head}


Kind = Literal["lora", "rslora", "dora", "pissa"]

_TRAINED, _START = "pissa", "pissa-start"
"""Names of the two peft adapters that make up a PiSSA adapter during training."""

_ITERATIONS = 16
"""Number of subspace iterations; with as many, the authors of PiSSA found no difference from the exact SVD."""


class AdapterConfig(Settings):
    """Low-rank adaptation with peft: W + s B A, where B [out, r] and A [r, in] are trained and W is frozen.

    kind:
        lora: s = alpha / r, B starts at zero (Hu et al. 2021, arXiv 2106.09685).
        rslora: s = alpha / sqrt(r), which keeps the learning rate of large ranks stable (Kalajdzievski 2023, arXiv
            2312.03732).
        dora: each row of the sum is scaled to a trained norm (Liu et al. 2024, arXiv 2402.09353).
        pissa: B A starts as the r largest singular components of W (Meng et al. 2024, arXiv 2404.02948).
    """

    kind: Kind = Field("lora", description="lora, rslora, dora or pissa")
    r: int = Field(16, ge=1, description="rank")
    alpha: int = Field(32, ge=1, description="the update is scaled by alpha / r; rslora: by alpha / sqrt(r)")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Preset | Annotated[list[str], Field(min_length=1)] = Field(
        "all-linear", description="preset or names of layers"
    )
    experts: Literal["adapt", "freeze"] | None = Field(
        None, description="routed experts; default: adapt with all-linear and kind lora or rslora without dropout"
    )
    quantization: Quantization = Field("none", description="nf4: 4-bit base (QLoRA), needs [gpu]")


def add_adapter(network: Any, settings: AdapterConfig, seed: int, dtype: torch.dtype = torch.float32) -> Any:
    """Freeze the network and add a new adapter.

    Args:
        network: model to adapt; it keeps its dtype.
        settings: settings of the adapter.
        seed: seed of the initial adapter weights.
        dtype: dtype of the adapter, which is initialized in float32 and then rounded.

    Raises:
        InputError: a target matches no linear layer (the message suggests the nearest names), is an output head that
            shares its weights with the embedding, is too small for the rank of PiSSA, or is a layer of experts that
            this kind of adapter does not support.
    """
    torch.manual_seed(seed)
    adapted = add_adapter_layers(network, settings)
    if settings.kind == "pissa":
        _start_at_principal_components(adapted, seed)
    return _cast_adapter(dtype, adapted)


def add_adapter_layers(network: Any, settings: AdapterConfig) -> Any:
    """Add the layers of an adapter to a network whose weights may be missing; PiSSA layers are not initialized yet.

    Raises:
        InputError: see `add_adapter`.
    """
    from peft import LoraConfig, get_peft_model

    targets = resolve_targets(network, settings)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.kind == "rslora",
        use_dora=settings.kind == "dora",
        target_modules=targets.modules,
        target_parameters=targets.parameters or None,
        exclude_modules=excluded_layers(network) or None,
        task_type="CAUSAL_LM",
    )
    is_pissa = settings.kind == "pissa"
    try:
        adapted = get_peft_model(network, config, adapter_name=_TRAINED if is_pissa else "default")
    except ValueError as error:
        message = str(error).splitlines()[0]
        is_of_experts = "ParamWrapper" in message  # peft's class for experts, and the word in its messages about them
        why = f"kind {settings.kind} with dropout {settings.dropout:g} does not support experts: {_WAY_OUT}"
        raise InputError(f"adapter: {why if is_of_experts else message}") from error
    if is_pissa:
        _require_room(adapted, settings.r)
    return adapted


_WAY_OUT = (
    "this architecture keeps the experts of a layer in one parameter: choose kind lora or rslora without dropout, "
    "or set experts: freeze"
)


def _require_room(adapted: Any, rank: int) -> None:
    """Check that each adapted layer is a matrix with at least `rank` singular components."""
    for name, layer in adapted_layers(adapted).items():
        if hasattr(layer, "parameter_name"):
            raise InputError(f"adapter: kind pissa cannot start at the experts {name}: {_WAY_OUT}")
        if min(layer.in_features, layer.out_features) < rank:
            raise InputError(f"adapter: r {rank} is more than the width of {name}; lower r")


def _cast_adapter(dtype: torch.dtype, adapted: Any) -> Any:
    """Cast the adapter of a network; both parts of PiSSA get the same dtype, so that they cancel out."""
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(dtype)
    return adapted


def to_plain_lora(adapted: Any) -> Any:
    """Convert an adapter to one that applies to the original base, for `save_adapter`.

    A PiSSA adapter becomes a LoRA adapter of twice the rank, [B, -B0] [s A; s A0]. Others are unchanged.
    """
    if _START in adapted.peft_config:
        both = [_TRAINED, _START]
        adapted.base_model.add_weighted_adapter(both, [1.0, 1.0], "default", combination_type="cat")
        # peft concatenates in the base's dtype, whose rounding of s A exceeds the difference between the two parts.
        for layer in adapted_layers(adapted).values():
            a, b = ([matrix[half].weight.data.float() for half in both] for matrix in (layer.lora_A, layer.lora_B))
            layer.lora_A["default"].weight.data = torch.cat(a) * layer.scaling[_TRAINED]
            layer.lora_B["default"].weight.data = torch.cat(b, dim=1)
        adapted.set_adapter("default")
        for name in both:
            adapted.delete_adapter(name)
    return adapted


def adapted_layers(adapted: Any) -> dict[str, Any]:
    """Return the layers that have an adapter, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: each for name, each in adapted.named_modules() if isinstance(each, LoraLayer)}


def _start_at_principal_components(adapted: Any, seed: int) -> None:
    """Initialize B A with the principal components B0 A0 of W, and subtract them with a second, frozen adapter -B0 A0.

    PiSSA trains W + s (B A - B0 A0). Its authors and peft write W - s B0 A0 into the base instead. In bfloat16 or 4
    bits this rounds every weight, and the adapter fits no other copy of the base.
    """
    from peft.utils.integrations import dequantize_module_weight

    config = deepcopy(adapted.peft_config[_TRAINED])
    config.lora_dropout = 0.0
    adapted.add_adapter(_START, config)
    for layer in adapted_layers(adapted).values():
        weight = dequantize_module_weight(layer.get_base_layer()).detach().float()
        a, b = principal_components(weight.T if layer.fan_in_fan_out else weight, config.r, seed)
        root = layer.scaling[_TRAINED] ** 0.5
        for half, sign in ((_TRAINED, 1), (_START, -1)):
            layer.lora_A[half].weight.data.copy_(a / root)
            layer.lora_B[half].weight.data.copy_(sign * b / root)
    adapted.base_model.set_adapter([_TRAINED, _START])
    adapted.set_requires_grad(_START, False)


def principal_components(weight: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A [rank, in] and B [out, rank], equal in norm, whose product best approximates `weight` [out, in].

    Uses subspace iteration (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.4). The random start is
    drawn on the CPU, so a run that resumes on another machine starts from the same components.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = min(rank + 8, *weight.shape)
    basis = torch.randn(weight.shape[1], columns, generator=generator).to(weight.device)
    for _ in range(_ITERATIONS):
        basis = torch.linalg.qr(weight.T @ (weight @ basis)).Q
    left, values, right = torch.linalg.svd(weight @ basis, full_matrices=False)
    root = values[:rank].sqrt()
    return root[:, None] * (right @ basis.T)[:rank], left[:, :rank] * root
