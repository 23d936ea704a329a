"""Backend vllm: model directories on the GPUs of this machine, many prompts per call; an optional extra."""

from jmedllm.models.backends.base import Backend, BackendCapabilities, InferenceModel, ModelSpec


def _open(spec: ModelSpec) -> InferenceModel:
    from jmedllm.models.backends.vllm.model import load_model
    from jmedllm.precision import choose_precision

    precision = spec.precision or choose_precision()
    return load_model(spec.folder, precision.name, adapter=spec.adapter, name=spec.name)


BACKEND = Backend(
    title="model directory on GPUs, fast",
    # Log-probabilities of texts would need vLLM without its prefix cache.
    capabilities=BackendCapabilities(
        label_log_probs=True, adapters=True, needs_gpu=True, sampling=True, thinking_budget=True, constrained=True
    ),
    open=_open,
    package="vllm",
)
