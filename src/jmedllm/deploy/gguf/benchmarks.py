"""The same benchmarks for the model in transformers and for its file: same prompts, same reading, same scorers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jmedllm.deploy.gguf.parity import BenchmarkAgreement
from jmedllm.deploy.gguf.source import Source
from jmedllm.deploy.llama_cpp import LlamaServer, serving
from jmedllm.errors import InputError
from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel, evaluate_task
from jmedllm.evaluation.generate import requests_of
from jmedllm.evaluation.model import as_shown, prepare_model
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.records import read_samples, read_scores
from jmedllm.evaluation.resume import files_of
from jmedllm.evaluation.scorers import SCORERS, from_values
from jmedllm.evaluation.statistics import compare_pairs, interval
from jmedllm.evaluation.task import EvalTask
from jmedllm.manifest import read_manifest
from jmedllm.models.backends.base import GenerationConfig, ModelSpec, Request, Response
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.backends.transformers.replies import Decoder, Reply, closing_tokens
from jmedllm.models.tokenizer.encoding import encode
from jmedllm.precision import choose_precision
from jmedllm.settings import from_options

_SCORER = "answer"
"""Scorer of models whose run used none that reads responses."""

_CHUNK = 32
"""Tokens that a server writes before it is seen whether the reply has ended."""


@dataclass(frozen=True, slots=True)
class Benchmarks:
    """Benchmarks with their prompts.

    Attributes:
        config: benchmarks and scorers.
        prompt: prompts.
        data: directory of the benchmarks.
    """

    config: EvalConfig
    prompt: PromptConfig
    data: Path

    def tasks(self) -> list[EvalTask]:
        """Load the questions.

        Raises:
            InputError: a benchmark is unknown, or its files are missing or invalid.
        """
        return tasks(self.config, self.prompt, self.data)


def benchmarks_of(
    given: str, source: Source, names: Sequence[str], data: Path, limit: int | None = None
) -> Benchmarks:
    """Return benchmarks with the prompts and scorers of a run; with the usual ones for another model.

    Args:
        given: directory of the run or the model, as the user named it.
        source: the model.
        names: benchmarks, or files of the user's own questions.
        data: directory of the benchmarks.
        limit: only the first items of each benchmark and language.

    Raises:
        InputError: a setting is not valid.
    """
    recipe = _recipe(Path(given))
    asked = (recipe or {}).get("eval") or {}
    config = from_options(
        EvalConfig,
        benchmarks=list(names),
        scorers=reading_scorers(asked.get("scorers", ())),
        max_new_tokens=asked.get("max_new_tokens"),
        limit=limit,
    )
    prompt = recipe["prompt"] if recipe else {"chat": bool(source.tokenizer.chat_template)}
    return Benchmarks(config, from_options(PromptConfig, **prompt), data)


def _recipe(run: Path) -> Mapping[str, Any] | None:
    """Return the recipe of a run's last stage; None for other directories."""
    stages = list(((read_manifest(run) or {}).get("stages") or {}).values())
    return stages[-1]["recipe"] if stages else None


def reading_scorers(asked: Iterable[str]) -> list[str]:
    """Return those of a run's scorers that read responses without a judge, else the usual one."""
    reading = [name for name in asked if SCORERS[name].needs == "response" and SCORERS[name].judge_prompt is None]
    return reading or [_SCORER]


def compare_on_benchmarks(file: Path, source: Source, benchmarks: Benchmarks) -> tuple[BenchmarkAgreement, ...]:
    """Ask the model and its file the same items; one result for each benchmark, language and scorer.

    Args:
        file: a GGUF file, or a model directory, which transformers runs.
        source: the model.
        benchmarks: the items, with their prompts and scorers.

    Raises:
        InputError: the questions are missing, a prompt does not fit, or the file cannot be served.
    """
    found = benchmarks.tasks()
    spec = ModelSpec(str(source.folder), source.folder.name, precision=choose_precision("float32", "cpu"))
    with TemporaryDirectory(prefix="jmedllm-benchmarks-") as folder, ExitStack() as stack:
        trained, served = Path(folder) / "trained", Path(folder) / "served"
        model = prepare_model(spec, found, trained)
        found = [as_shown(task, model) for task in found]
        for task in found:
            evaluate_task(task, model, trained)
        if file.is_dir():
            other = prepare_model(replace(spec, model=str(file), name=file.name), found, served)
        else:
            other = stack.enter_context(_served(file, model, found))
        for task in found:
            evaluate_task(task, other, served)
        return tuple(each for task in found for each in _agreements(task, trained, served))


@contextmanager
def _served(file: Path, model: PreparedModel, asked: Sequence[EvalTask]) -> Iterator[PreparedModel]:
    """Serve a file that gets the prompts of a model and whose replies are read as the model's are."""
    network = model.open()
    assert isinstance(network, TransformersModel)
    longest = max(_longest(task, model, network) for task in asked)
    with serving(file, context=longest) as server:
        yield replace(
            model, open=lambda: LlamaCppModel(server, network), settings=model.settings | {"backend": "gguf"}
        )


def _longest(task: EvalTask, model: PreparedModel, network: TransformersModel) -> int:
    """Return the number of tokens of the longest prompt and response of a task."""
    prompts = [request.text for request in requests_of(task, model.chat_text)]
    longest = max(map(len, encode(network.tokenizer, prompts)))
    return min(network.context, longest + task.token_limit + _CHUNK)


def _agreements(task: EvalTask, trained: Path, served: Path) -> Iterator[BenchmarkAgreement]:
    samples = [read_samples(files_of(task.name, folder).samples) for folder in (trained, served)]
    texts = [{key: (each.reasoning, each.response) for key, each in one.items()} for one in samples]
    scores = [read_scores(files_of(task.name, folder).scores) for folder in (trained, served)]
    for scorer in task.scorers:
        is_binary = SCORERS[scorer].binary
        values = [
            {
                key: from_values(scorer, each.item_scores[scorer]).value
                for key, each in one.items()
                if scorer in each.item_scores
            }
            for one in scores
        ]
        items = list(values[0])
        first, second = ([one[key] for key in items] for one in values)
        paired = compare_pairs(first, second, binary=is_binary)
        yield BenchmarkAgreement(
            task.questions[0].benchmark,
            task.questions[0].language,
            scorer,
            paired.n,
            sum(texts[0][key] == texts[1][key] for key in items),
            paired.first,
            interval(first, binary=is_binary),
            paired.second,
            interval(second, binary=is_binary),
            paired.only_first,
            paired.only_second,
            paired.p,
            task.settings() | {"questions_hash": task.questions_hash()},
        )


@dataclass(frozen=True)
class LlamaCppModel:
    """A served file as a model to evaluate. Prompts are token ids; replies are read as those of transformers are.

    Attributes:
        server: the server, with one slot: texts of parallel slots can differ.
        model: the model in transformers, for its tokenizer and its ends.
    """

    server: LlamaServer
    model: TransformersModel

    @property
    def name(self) -> str:
        """Name in the progress line."""
        return f"{self.model.name} (file)"

    def answer(
        self, requests: Sequence[Request], generation_config: GenerationConfig
    ) -> Iterator[tuple[int, Response]]:
        """Yield responses with the index of their request, in order; see `InferenceModel`."""
        model = self.model
        closing = closing_tokens(model.tokenizer, generation_config)
        decoder = Decoder(model.tokenizer, model.ends, generation_config, model.thoughts, closing)
        for index, request in enumerate(requests):
            [ids] = encode(model.tokenizer, [request.text])
            reply = decoder.reply(ids, request.text, request.seed)
            while reply.finish_reason is None:
                self._continue(reply, decoder)
            yield index, Response(decoder.completion(reply))

    def _continue(self, reply: Reply, decoder: Decoder) -> None:
        """Add the next tokens to a reply, until it ends or a thought is closed for it."""
        while reply.pending:
            decoder.add(reply, reply.pending[0])
        body = {"prompt": reply.tokens, "n_predict": _CHUNK, "temperature": -1, "return_tokens": True}
        tokens = self.server.post("/completion", body | {"cache_prompt": True})["tokens"]
        if not tokens:
            raise InputError(
                f"server {self.server.url}: has written nothing after {reply.length} tokens; check its context"
            )
        for token in tokens:
            decoder.add(reply, int(token))
            if reply.finish_reason is not None or reply.pending:
                return
