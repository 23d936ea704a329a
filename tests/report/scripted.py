"""Models that answer by a script, and their results, for tests of reports."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jmedllm.evaluation.benchmarks import custom, load
from jmedllm.evaluation.evaluate import EvalConfig, evaluate_tasks, tasks
from jmedllm.evaluation.evaluate_task import PreparedModel
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.prompts.template import AnswerForm
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.scorers.base import GradedItemScore, ModelOutput, Scorer
from jmedllm.models.backends.base import Completion, Response
from jmedllm.report.training import TrainedStage

HOSTILE = "</script><img src=x onerror=alert(1)><b>答えは不明</b>"


class Scripted:
    """Writes what its script says; finds the first choice likeliest."""

    def __init__(self, name: str, questions: dict[str, Question], script: Callable[[Question], str]) -> None:
        self.name, self.questions, self.script = name, questions, script

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        return ""

    def answer(self, requests, generation_config):
        for index, request in enumerate(requests):
            text = self.script(self.questions[request.group])
            places = request.choices or request.labels
            scores = tuple(-float(place) for place in range(len(places))) if places else None
            yield index, Response(Completion(text, request.prompt + text), scores)


def gold(question: Question) -> str:
    return question.number or ",".join(label(i) for i in sorted(question.gold))


def prohibited(question: Question) -> str:
    return ",".join(label(i) for i in sorted(question.prohibited)[: question.select]) or gold(question)


SCRIPTS: dict[str, Callable[[Question], str]] = {
    "knows": gold,
    "reckless": prohibited,
    "hostile <b>": lambda question: HOSTILE if question.id.endswith("1") else gold(question),
}


def evaluate_igakuqa(
    data: Path,
    output: Path,
    *,
    limit: int = 40,
    rotations: int = 1,
    scorers: Sequence[str] = ("answer", "likelihood", "official"),
    scripts: Mapping[str, Callable[[Question], str]] = SCRIPTS,
    answer_as: AnswerForm = "letter",
) -> list[Path]:
    """Evaluate scripted models on the beginning of IgakuQA in both languages."""
    settings = EvalConfig(
        benchmarks=["igakuqa"],
        scorers=list(scorers),
        selection="all",
        limit=limit,
        rotations=rotations,
    )
    evaluated = tasks(settings, PromptConfig(answer_as=answer_as), data)
    questions = {question.id: question for question in load("igakuqa", "ja", data)}
    folders = []
    for number, (name, script) in enumerate(scripts.items()):
        folders.append(output / str(number))
        model = Scripted(name, questions, script)
        identity = {"model": name, "fingerprint": name, "precision": "float32"}
        evaluate_tasks(evaluated, PreparedModel(identity, lambda model=model: model), folders[-1])
    return folders


class Knows:
    """A model that answers the first items of an exam right, by their number."""

    name = "fake"

    def __init__(self, right: int, exam: Path) -> None:
        self.right = right
        self.questions = {question.id: question for question in custom.read_all(exam)}

    def chat_text(self, messages: list[dict[str, str]]) -> str:
        return ""

    def answer(self, requests, generation_config):
        for index, request in enumerate(requests):
            question = self.questions[request.group]
            known = int(request.group[1:]) < self.right
            wrong = question.choices[-1] if question.choices else _answer_text(question)[:5]
            text = _answer_text(question) if known else wrong
            yield index, Response(Completion(text, request.prompt + text))


def write_exam(file: Path) -> Path:
    """Twenty questions with two choices, in both languages."""
    lines = [
        f'{{"id": "q{i}", "language": "{language}", "question": "{i}?", "choices": ["x", "y"], "answer": ["a"]}}'
        for language in ("ja", "en")
        for i in range(20)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def evaluate_exam(
    exam: Path,
    output: Path,
    name: str,
    right: int,
    languages: Sequence[str] = ("ja",),
    *,
    fingerprint: str | None = None,
    adapter_fingerprint: str | None = None,
    scorers: Sequence[str] = ("answer", "legacy"),
    **settings: Any,
) -> Path:
    """Evaluate a model that knows `right` of the questions; its fingerprint is its name unless given."""
    config = EvalConfig(
        benchmarks=[str(exam)],
        languages=list(languages),
        scorers=list(scorers),
        selection="all",
        **settings,
    )
    identity = {"model": name, "fingerprint": fingerprint or name}
    identity |= {"adapter_fingerprint": adapter_fingerprint} if adapter_fingerprint else {}
    model = PreparedModel(identity, lambda: Knows(right, exam))
    evaluate_tasks(tasks(config, PromptConfig(), Path("unused")), model, output)
    return output


def trained(steps: int = 450) -> TrainedStage:
    """A stage whose loss falls while general text is forgotten; a held-out set has a hostile name."""
    metrics = [
        {
            "step": step,
            "loss": 3 - 2 * step / steps,
            "gradient_norm": 1.0,
            "learning_rate": 1e-4,
            "tokens_per_second": 5000.0,
            "waiting": 0.004,
            "peak_memory": 3 * 2**30,
        }
        for step in range(1, steps + 1)
    ]
    evaluations = [
        {
            "step": step,
            "bits_per_byte": {"ja": 1 - step / 1000, "<b>general": 0.8 + step / 5000},
            "accuracy": {"demo.ja": 0.2 + step / 1000},
        }
        for step in range(0, steps + 1, 50)
    ]
    sizes = {name: {"documents": 12, "bytes": 3456} for name in evaluations[0]["bits_per_byte"]}
    made = {"steps": steps, "trained_tokens": 99_000, "best_step": 400, "evaluated": sizes}
    return TrainedStage("mfpt", made, metrics, evaluations)


def letter_overlap(output: ModelOutput) -> GradedItemScore:
    """Share of the right answer's letters in the response: a graded score for tests."""
    wanted = set(_answer_text(output.presented.question))
    share = len(wanted & set(output.text or "")) / len(wanted)
    return GradedItemScore(share, "compared")


def _answer_text(question: Question) -> str:
    return question.reference or question.gold_choices[0]


GRADED = Scorer("compares letters", "response", lambda question: True, letter_overlap, binary=False)
