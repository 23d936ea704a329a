"""Backend openai: a model on an OpenAI-compatible server, such as vLLM, llama.cpp or OpenAI."""

from typing import TYPE_CHECKING

from jmedllm.models.backends.base import Backend, BackendCapabilities, InferenceModel, ModelSpec

if TYPE_CHECKING:
    from jmedllm.models.backends.openai.server import OpenAIServerModel

CONCURRENT_REQUESTS = 32
"""Default maximum number of concurrent requests."""


def _connect(spec: ModelSpec) -> "OpenAIServerModel":
    from jmedllm.models.backends.openai.server import connect

    concurrency = spec.batch_size or CONCURRENT_REQUESTS
    return connect(
        spec.server or "", spec.model, chat=spec.chat, concurrency=concurrency, settings=spec.server_settings,
        options=spec.client,
    )  # fmt: skip


def _open(spec: ModelSpec) -> InferenceModel:
    return _connect(spec)


def _prompts_contain_date(spec: ModelSpec) -> bool:
    return _connect(spec).reads_date()


BACKEND = Backend(
    title="OpenAI-compatible server",
    capabilities=BackendCapabilities(
        label_log_probs=True,
        local=False,
        server=True,
        chat_messages=True,
        images=True,
        sampling=True,
        thinking_budget=True,
        constrained=True,
    ),
    open=_open,
    package="openai",
    prompts_contain_date=_prompts_contain_date,
)
