"""Backend transformers: model directories on the CPU or GPU of this machine; supports every scorer."""

from collections.abc import Sequence

from jmedllm.models.backends.base import (
    Backend,
    BackendCapabilities,
    ContextLimit,
    GenerationConfig,
    InferenceModel,
    ModelSpec,
    Request,
)


def _open(spec: ModelSpec) -> InferenceModel:
    from jmedllm.models.backends.transformers.model import load_model
    from jmedllm.precision import choose_precision

    return load_model(
        spec.folder,
        spec.precision or choose_precision(),
        adapter=spec.adapter,
        name=spec.name,
        batch_size=spec.batch_size,
        quantization=spec.quantization or "none",
        dequantize=spec.dequantize,
    )


def _require_context(requests: Sequence[Request], generation_config: GenerationConfig, limits: ContextLimit) -> None:
    from jmedllm.models.backends.transformers.sequences import require_context

    require_context(requests, generation_config, limits)


BACKEND = Backend(
    title="model directory on CPU or GPU",
    capabilities=BackendCapabilities(
        text_log_probs=True,
        label_log_probs=True,
        adapters=True,
        quantization=frozenset({"none", "nf4"}),
        dequantize=True,
        needs_kernels=True,
        distributed=True,
        estimated=True,
        images=True,
        sampling=True,
        thinking_budget=True,
    ),
    open=_open,
    require_context=_require_context,
)
