"""Types of the inference backends: requests, responses and capabilities."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from jmedllm.errors import InputError
from jmedllm.models.chat_format import Effort, Thinking
from jmedllm.models.folder import Quantization
from jmedllm.models.thoughts import Thought
from jmedllm.named_server import ClientOptions

if TYPE_CHECKING:
    from jmedllm.models.tokenizer.encoding import Tokenizer
    from jmedllm.precision import Precision  # imports torch


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the next token is chosen; greedy by default.

    Attributes:
        temperature: 0 for the most likely token.
        top_p: smallest share of the probability that the kept tokens have together.
        top_k: number of tokens to keep; 0 for all.
        min_p: smallest probability of a kept token, relative to that of the most likely one.
        repetition_penalty: factor by which tokens of the prompt and the reply become less likely; 1 for none.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


GREEDY = Decoding()


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt, and what to compute for it.

    Attributes:
        id: name of the item in messages.
        group: requests of one group share a beginning, which a model may compute once.
        choices: texts to compute the log-probability of, as continuations of the prompt.
        labels: short labels to compute the log-probability of, as the next token; not together with `choices`.
        generate: whether to generate a completion.
        images: files of the pictures that the prompt shows, one for each of the model's markers in it; in chat
            messages as JSON, one for each part of the type `image`.
        seed: seed of the random numbers of this completion, which depend on nothing else.
        allowed: texts one of which the completion must be; empty for any text.
        answer_opening: text between the prompt and an answer, which choices and labels follow: what closes a thought
            that the prompt has opened, or the header of a channel.
    """

    id: str
    prompt: str
    group: str = ""
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    generate: bool = False
    images: tuple[Path, ...] = ()
    seed: int = 0
    allowed: tuple[str, ...] = ()
    answer_opening: str = ""

    @property
    def answer_prompt(self) -> str:
        """The text that choices and labels continue."""
        return (self.text if self.answer_opening else self.prompt) + self.answer_opening

    @property
    def text(self) -> str:
        """The prompt without trailing spaces, as every backend gets it.

        Tokenizers put a space in front of the next word, so no model was trained to continue after a lone space.
        """
        return self.prompt.rstrip(" ")


@dataclass(frozen=True, slots=True)
class Completion:
    """Continuation of one prompt.

    Attributes:
        text: the new tokens, decoded up to the end of the turn, with the markers of thoughts and channels.
        decoded: prompt and new tokens decoded together without special tokens, which the published protocol reads;
            None if only the response is read.
        finish_reason: why it ended, as reported by the backend: "stop", "length" and others; None if not reported.
        new_tokens: number of generated tokens, including the one that ended it; None if unknown.
        plain: `text` without special tokens, if that differs.
        thought_open: whether the prompt had opened a thought; None if a server does not report it.
        thoughts: markers of thoughts that only this model's template has.
        reasoning: the thought, if a server returns it separately from the text.
        reasoning_tokens: number of generated tokens up to the end of the thought; None if unknown or without one.
        reasoning_seconds: from the reading of the prompt to the end of the thought; None if unknown or without one.
        forced: whether the thought was closed because it had reached the thinking budget.
    """

    text: str
    decoded: str | None = None
    finish_reason: str | None = "stop"
    new_tokens: int | None = None
    plain: str | None = None
    thought_open: bool | None = False
    thoughts: tuple[Thought, ...] = ()
    reasoning: str | None = None
    reasoning_tokens: int | None = None
    reasoning_seconds: float | None = field(default=None, compare=False)
    forced: bool = False

    @property
    def truncated(self) -> bool:
        """Whether the completion ended before it was complete."""
        return is_truncated(self.finish_reason)


EARLY_STOP = "early_stop"
"""Finish reason if generation stopped because the scorers read no further."""

COMPLETE = {
    "stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete", "tool_calls", "tool_use", "function_call",
    EARLY_STOP,
}  # fmt: skip
CUT = {
    "length", "max_tokens", "max_new_tokens", "max_output_tokens", "model_length", "content_filter", "safety",
    "abort",
}  # fmt: skip
"""Finish reasons of backends and servers: the response is complete, or it was cut off."""


def is_truncated(finish_reason: str | None) -> bool:
    """Return whether a response ended before it was complete; False if no finish reason is given."""
    return finish_reason is not None and finish_reason.lower() not in COMPLETE


def never(_: Completion) -> bool:
    """Return False: no part of a completion is enough."""
    return False


def ignore(_: int) -> None:
    """Do nothing: nobody watches the new tokens."""


Failure = Literal["too long", "rejected", "missing"]
"""Why there is no response to one prompt: it does not fit the context, a server refuses it, or none was recorded."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """Generation settings.

    Attributes:
        max_new_tokens: maximum length of a completion in tokens.
        is_final: returns whether the text so far is enough; called only at line ends. A backend that cannot call it
            during generation stops at the first line end and starts again, unless it is `never`.
        skip_invalid: whether a prompt that cannot be answered is a `Failure` instead of an error.
        on_tokens: called with the number of new tokens during generation, for the progress line; backends that only
            see whole completions do not call it.
        decoding: how tokens are chosen.
        thinking_budget: maximum length of a thought in tokens, after which it is closed and the answer written; None
            for no limit but `max_new_tokens`.
        thought_closing: text that closes a thought at the budget, as the chat template writes it; not counted as
            generated. Empty for a backend that closes thoughts itself.
    """

    max_new_tokens: int
    is_final: Callable[[Completion], bool] = never
    skip_invalid: bool = False
    on_tokens: Callable[[int], None] = ignore
    decoding: Decoding = GREEDY
    thinking_budget: int | None = None
    thought_closing: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer of a model to one request; None for what was not requested.

    Attributes:
        log_probs: natural log-probability of each choice (sum over its tokens) or of each label; `UNLISTED` for
            labels that the backend does not report, and None if it reports none of them.
        failure: why there is neither.
        seconds: from the reading of the prompt to the end of the reply, beside others; None if the backend does not
            measure it.
    """

    completion: Completion | None = None
    log_probs: tuple[float, ...] | None = None
    failure: Failure | None = None
    seconds: float | None = None


def does_not_fit(reasons: Collection[str]) -> InputError:
    """Build the error for prompts that do not fit the context, from the reason for each."""
    more = f" ({len(reasons) - 1} more do not fit either)" if len(reasons) > 1 else ""
    return InputError(
        f"{next(iter(reasons))}{more}; use fewer shots, a shorter prompt pack or fewer new tokens, or count such "
        "items as no answer with --skip-invalid"
    )


@dataclass(frozen=True, slots=True)
class ContextLimit:
    """The longest sequence of a model.

    Attributes:
        name: name of the model in messages.
        context: maximum number of tokens of prompt and continuation.
    """

    name: str
    tokenizer: "Tokenizer"
    context: int


class InferenceModel(Protocol):
    """A loaded model, or a connection to one."""

    @property
    def name(self) -> str:
        """Short name for reports."""
        ...

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses with the index of their request, in any order, as soon as they are ready."""
        ...


DEFAULT_BACKEND = "transformers"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Settings of every request to a server besides the prompt and the decoding.

    Attributes:
        thinking: whether the model thinks before it answers.
        effort: effort of its thought; None for the server's default.
        template_args: values for variables of the server's chat template.
        extra_body: fields of the request's JSON; None removes a field.
    """

    thinking: Thinking = "default"
    effort: Effort | None = None
    template_args: Mapping[str, Any] = field(default_factory=dict)
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Return the settings that are not the defaults, as plain values."""
        thinking = None if self.thinking == "default" else self.thinking
        found: dict[str, Any] = {"thinking": thinking, "effort": self.effort}
        found |= {"template_args": dict(self.template_args), "extra_body": dict(self.extra_body)}
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model and the options for opening it.

    Attributes:
        model: model directory, or name of the model on a server.
        name: short name for reports.
        backend: name of the backend, see `BACKENDS`.
        server: URL of the server's API; None for a backend that needs none.
        server_settings: settings of every request to the server.
        client: key of the server and limits of each request, which change no reply.
        chat: whether the prompts are chat messages as JSON, for a backend that renders them.
        precision: device and dtype; None for a backend that does not compute on this machine.
        adapter: directory of a PEFT adapter to apply.
        ignore_adapter: whether to ignore adapter files in the model directory.
        quantization: quantization of the weights; None for that of the adapter's training, else none.
        dequantize: whether to load weights that are stored quantized in bfloat16.
        batch_size: maximum number of concurrent requests; None for the backend's default.
    """

    model: str
    name: str
    backend: str = DEFAULT_BACKEND
    server: str | None = None
    server_settings: ServerSettings = field(default_factory=ServerSettings)
    client: ClientOptions = field(default_factory=ClientOptions)
    chat: bool = False
    precision: "Precision | None" = None
    adapter: Path | None = None
    ignore_adapter: bool = False
    quantization: Quantization | None = None
    dequantize: bool = False
    batch_size: int | None = None

    @property
    def folder(self) -> Path:
        """The model directory."""
        return Path(self.model)


@dataclass(frozen=True, slots=True)
class BackendCapabilities:
    """Capabilities of a backend, known before a model is opened.

    Attributes:
        generation: generates text.
        text_log_probs: returns log-probabilities of texts after a prompt (`Request.choices`).
        label_log_probs: returns log-probabilities of labels after a prompt (`Request.labels`).
        local: runs model directories on this machine; otherwise a model is a name that the backend understands.
        server: needs the URL of a server.
        chat_messages: applies the model's chat template to messages as JSON.
        adapters: applies PEFT adapters.
        quantization: supported quantizations of the weights.
        dequantize: dequantizes weights that are stored quantized.
        needs_kernels: computes with quantized weights as transformers does; otherwise the backend has its own kernels.
        distributed: several processes under torchrun may each open a model.
        needs_gpu: runs only on CUDA GPUs.
        estimated: `jmedllm plan` estimates its memory and time.
        images: shows pictures to vision-language models (`Request.images`).
        sampling: samples tokens (`GenerationConfig.decoding`).
        thinking_budget: limits the length of thoughts (`GenerationConfig.thinking_budget`).
        constrained: writes nothing but one of several texts (`Request.allowed`).
    """

    generation: bool = True
    text_log_probs: bool = False
    label_log_probs: bool = False
    local: bool = True
    server: bool = False
    chat_messages: bool = False
    adapters: bool = False
    quantization: frozenset[Quantization] = frozenset({"none"})
    dequantize: bool = False
    needs_kernels: bool = False
    distributed: bool = False
    needs_gpu: bool = False
    estimated: bool = False
    images: bool = False
    sampling: bool = False
    thinking_budget: bool = False
    constrained: bool = False


def answer_all(
    model: InferenceModel, backend: str, requests: Sequence[Request], generation_config: GenerationConfig
) -> Iterator[tuple[int, Response]]:
    """Yield the responses of a model, see `InferenceModel.answer`, and check that no request is left unanswered.

    Args:
        backend: name of the model's backend, for the message.

    Raises:
        InputError: the backend has omitted requests; raised after all responses.
    """
    unanswered = set(range(len(requests)))
    for index, response in model.answer(requests, generation_config):
        if response.completion is not None or response.failure is not None or not requests[index].generate:
            unanswered.discard(index)
        yield index, response
    if unanswered:
        first = requests[min(unanswered)].id
        raise InputError(
            f"backend {backend}: has not answered {len(unanswered):,} of {len(requests):,} requests, the first "
            f"is item {first}; fix the backend. The responses so far are kept"
        )


def _never(_: ModelSpec) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Backend:
    """An inference backend. Its module imports heavy libraries only when a model is opened.

    Attributes:
        title: a few words for help texts.
        capabilities: capabilities of the backend.
        open: opens a model, or raises an InputError.
        package: name of the optional Python package that it needs.
        require_context: checks requests against the context of a model that is not loaded; None if only a loaded model
            knows its limit.
        prompts_contain_date: returns whether the backend writes today's date into the prompts of a model.
    """

    title: str
    capabilities: BackendCapabilities
    open: Callable[[ModelSpec], InferenceModel]
    package: str | None = None
    prompts_contain_date: Callable[[ModelSpec], bool] = _never
    require_context: Callable[[Sequence[Request], GenerationConfig, ContextLimit], None] | None = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement to a backend.

    Attributes:
        what: description for messages, such as "adapters (--adapter)".
        met_by: returns whether a backend with these capabilities meets it.
        remedy: alternative without it, if there is one.
    """

    what: str
    met_by: Callable[[BackendCapabilities], bool]
    remedy: str = ""
