"""A small exam inside the training loop, by likelihood."""

from collections.abc import Sequence
from typing import Any

from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.question import label
from jmedllm.evaluation.scorers.likelihood import judge
from jmedllm.evaluation.task import Paper
from jmedllm.models.backends.base import Request, Writing
from jmedllm.models.backends.capabilities import context_length, find_ways
from jmedllm.models.backends.transformers import LocalModel
from jmedllm.models.chat import ChatText, no_template
from jmedllm.models.tokenizer.encoding import Tokenizer
from jmedllm.precision import Precision
from jmedllm.training.validation import Quiz

_NOTHING_WRITTEN = Writing(1)


def make_quiz(papers: Sequence[Paper], tokenizer: Tokenizer, precision: Precision) -> Quiz:
    """An exam of these papers for a network in training, asked as the exam asks; each paper's accuracy by name.

    Args:
        papers: of track likelihood.

    Raises:
        InputError: they are asked by chat, and the tokenizer has no template for that.
    """
    asking = papers[0].asking
    chat_text = asking.template(tokenizer).prompt if asking.chat else no_template

    def sit(network: Any) -> dict[str, float]:
        ways = find_ways(network, tokenizer, precision.device)
        context = context_length(network.config)
        model = LocalModel("quiz", network, tokenizer, precision.device, context, ways)
        return {paper.name: _accuracy(model, paper, chat_text) for paper in papers}

    return sit


def _accuracy(model: LocalModel, paper: Paper, chat_text: ChatText) -> float:
    requests = [
        Request(
            id=question.id,
            prompt=ask(paper.asking, question, chat_text),
            group=question.id,
            choices=() if paper.by_label else question.choices,
            labels=tuple(map(label, range(len(question.choices)))) if paper.by_label else (),
        )
        for question in paper.questions
    ]
    right = sum(
        judge(paper.questions[index], response.log_probs or (), by_label=paper.by_label).correct
        for index, response in model.answer(requests, _NOTHING_WRITTEN)
    )
    return right / len(requests)
