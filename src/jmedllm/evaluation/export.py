"""Export the items of a task to lm-eval (EleutherAI's evaluation harness)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jmedllm.errors import InputError
from jmedllm.evaluation.prompts.format import ask
from jmedllm.evaluation.question import Question, label
from jmedllm.evaluation.task import EvalTask
from jmedllm.files import write_atomic, write_jsonl


@dataclass(frozen=True, slots=True)
class Exported:
    """An exported task.

    Attributes:
        n: number of items.
        left_out: number of items without exactly one right choice, which lm-eval's multiple choice does not support.
    """

    name: str
    n: int
    left_out: int


def export_lm_eval(tasks: Sequence[EvalTask], output: Path) -> list[Exported]:
    """Write TASK.yaml and TASK.jsonl for each task; run them with `lm_eval --include_path OUTPUT --tasks TASK`.

    Prompts are written in full, so lm-eval sends exactly the same text. The choices are texts, or letters if the task
    asks for letters; see `parted` for the text before them.

    Raises:
        InputError: the prompts use a chat template, no item is supported, or `output` cannot be written.
    """
    exported = []
    for task in tasks:
        if task.prompt_format.chat:
            raise InputError(
                "export writes prompts without a model, so it cannot apply a chat template; leave --chat out"
            )
        rows = [_row(task, index) for index, question in enumerate(task.questions) if _has_one_gold(question)]
        lm_eval_name = f"jmedllm_{task.name.replace('.', '_').replace('-', '_')}"
        if not rows:
            raise InputError(f"{task.name}: no item with exactly one right choice; choose another selection")
        file = (output / f"{lm_eval_name}.jsonl").resolve()
        write_jsonl(file, rows)
        write_atomic(output / f"{lm_eval_name}.yaml", yaml.safe_dump(_task(lm_eval_name, file, task), sort_keys=False))
        exported.append(Exported(lm_eval_name, len(rows), len(task.questions) - len(rows)))
    return exported


def _has_one_gold(question: Question) -> bool:
    """Return whether exactly one choice is right and no other answer is accepted."""
    only = not question.also_right and "every_answer_right" not in question.flags
    return only and len(question.gold) == 1


_AFTER_LETTERS = re.compile(r"(?<=[^\W\d_])[\W\d_]*\s\Z")


def parted(prompt: str) -> tuple[str, str]:
    """Split a prompt into the context and the characters that lm-eval must score with each choice.

    lm-eval moves white space at the end of a prompt into the choice, and cuts the joint tokens by the length of the
    prompt without it. If a tokenizer merges ":" and a line feed into one token, as Qwen's does, this cut is wrong and
    the model never sees the line feed. Such a prompt is therefore cut after its last letter, where tokens end in
    nearly all tokenizers. The rest becomes part of each choice and adds the same amount to all log-likelihoods.
    """
    found = _AFTER_LETTERS.search(prompt)
    return (prompt[: found.start()], found[0]) if found else (prompt, "")


def _row(task: EvalTask, index: int) -> dict[str, Any]:
    question = task.questions[index]
    prompt, rest = parted(ask(task.prompt_format, question, chat_text=str))
    letters = [label(place) for place in range(len(question.choices))]
    return {
        "id": question.id,
        "prompt": prompt,
        "choices": [rest + choice for choice in (letters if task.by_label else question.choices)],
        "gold": next(iter(question.gold)),
    }


def _task(name: str, file: Path, task: EvalTask) -> dict[str, Any]:
    return {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{prompt}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "gold",
        "target_delimiter": "",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1, "questions": task.questions_hash()},
    }
