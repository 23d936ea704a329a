"""The items of a task as a task of lm-eval (EleutherAI's evaluation harness), so that others can evaluate the same."""

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
    """One task.

    Attributes:
        n: items in it.
        left_out: items with several right choices or answers, or none, which multiple choice there
            cannot ask.
    """

    name: str
    n: int
    left_out: int


def export_lm_eval(tasks: Sequence[EvalTask], output: Path) -> list[Exported]:
    """Write TASK.yaml and TASK.jsonl for each task; run them with `lm_eval --include_path OUTPUT --tasks TASK`.

    Prompts are written out, so that lm-eval asks what we ask to the last character. The choices are their texts, or
    their letters if the task asks for letters; see `parted` for what precedes them.

    Raises:
        InputError: prompts go through a chat template, no item can be asked there, or `output` cannot be written.
    """
    exported = []
    for task in tasks:
        if task.prompt_format.chat:
            raise InputError("export: prompts are written out, a chat template is the model's; leave --chat out")
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
    """Whether exactly one choice is right, and no other answer would be."""
    only = not question.also_right and "every_answer_right" not in question.flags
    return only and len(question.gold) == 1


_AFTER_LETTERS = re.compile(r"(?<=[^\W\d_])[\W\d_]*\s\Z")


def parted(prompt: str) -> tuple[str, str]:
    """A prompt, and those of its last characters that lm-eval is to count with each choice.

    lm-eval moves white space at the end of a prompt into the choice, and cuts the joint tokens by the length of
    the prompt without it. Where a tokenizer makes one token of ":" and a line feed, as Qwen's does, that cut is
    wrong: the model never sees the line feed. So such a prompt is cut behind its last letter, where tokens end in
    all but a few tokenizers. The rest is then part of each choice and adds the same to the log-likelihood of all.
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
