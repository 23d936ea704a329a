"""A small exam inside the training loop, by likelihood."""

from collections.abc import Sequence
from typing import Any

from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.question import label
from jmedllm.evaluation.scorers.likelihood import judge
from jmedllm.evaluation.task import EvalTask
from jmedllm.models.backends.base import GenerationConfig, Request
from jmedllm.models.backends.transformers.capabilities import context_length, detect_capabilities
from jmedllm.models.backends.transformers.model import TransformersModel
from jmedllm.models.chat import ChatText, no_template
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.precision import Precision
from jmedllm.training.validation import Quiz

_NOTHING_WRITTEN = GenerationConfig(1)


def make_quiz(tasks: Sequence[EvalTask], tokenizer: Tokenizer, precision: Precision) -> Quiz:
    """An exam of these papers for a network in training, asked as the exam asks; each paper's accuracy by name.

    Args:
        tasks: of scorer likelihood.

    Raises:
        InputError: they are asked by chat, and the tokenizer has no template for that.
    """
    prompt_format = tasks[0].prompt_format
    chat_text = prompt_format.template(tokenizer).prompt if prompt_format.chat else no_template

    def evaluate_task(network: Any) -> dict[str, float]:
        capabilities = detect_capabilities(network, tokenizer, precision.device)
        context = context_length(network.config)
        model = TransformersModel("quiz", network, tokenizer, precision.device, context, capabilities)
        return {task.name: _accuracy(model, task, chat_text) for task in tasks}

    return evaluate_task


def _accuracy(model: TransformersModel, task: EvalTask, chat_text: ChatText) -> float:
    requests = [
        Request(
            id=question.id,
            prompt=ask(task.prompt_format, question, chat_text),
            group=question.id,
            choices=() if task.by_label else question.choices,
            labels=tuple(map(label, range(len(question.choices)))) if task.by_label else (),
        )
        for question in task.questions
    ]
    right = sum(
        judge(task.questions[index], response.log_probs or (), by_label=task.by_label).correct
        for index, response in model.answer(requests, _NOTHING_WRITTEN)
    )
    return right / len(requests)
