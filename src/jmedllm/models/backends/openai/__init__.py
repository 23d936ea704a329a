"""Backend openai: a model on an OpenAI-compatible server, such as vLLM, llama.cpp or OpenAI."""

from jmedllm.models.backends.base import Backend, BackendCapabilities, InferenceModel, ModelSpec

CONCURRENT_REQUESTS = 32
"""Default maximum number of concurrent requests."""


def _open(spec: ModelSpec) -> InferenceModel:
    from jmedllm.models.backends.openai.server import connect

    concurrency = spec.batch_size or CONCURRENT_REQUESTS
    return connect(spec.server or "", spec.model, chat=spec.chat, concurrency=concurrency)


def _prompts_contain_date(spec: ModelSpec) -> bool:
    from jmedllm.models.backends.openai.server import connect

    return connect(spec.server or "", spec.model, chat=spec.chat).reads_date()


BACKEND = Backend(
    title="OpenAI-compatible server",
    capabilities=BackendCapabilities(label_log_probs=True, local=False, server=True, chat_messages=True, images=True),
    open=_open,
    package="openai",
    prompts_contain_date=_prompts_contain_date,
)
