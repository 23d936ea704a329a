"""Tasks for lm-eval: cut where tokens end, so that it sees the same tokens as we do."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.export import export_lm_eval, parted
from jmedllm.evaluation.prompts.format import PromptConfig


@pytest.mark.parametrize(
    ("prompt", "rest"),
    [
        ("### 応答：\n", "：\n"),
        ("Which?\n### Response:\n", ":\n"),
        ("答え： ", "： "),
        ("Answer:", ""),
        ("答え：b\n\n答え", ""),
        ("Answer\n", "\n"),
        ("1)\n", ""),
        ("体温は37\n", "37\n"),
    ],
)
def test_a_prompt_that_ends_in_white_space_is_cut_after_its_last_letter(prompt: str, rest: str) -> None:
    assert parted(prompt) == (prompt.removesuffix(rest), rest)


def test_an_item_with_another_right_answer_is_left_out(tmp_path: Path) -> None:
    answers = [["a"], [["a"], ["b"]], ["a", "b"]]
    rows = [
        {"id": f"{n}", "question": "Which?", "choices": ["iron", "zinc"], "answer": answer}
        for n, answer in enumerate(answers)
    ]
    path = tmp_path / "custom.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = EvalConfig(benchmarks=[str(path)], languages=["en"], scorers=["likelihood"], selection="all")
    [exported] = export_lm_eval(tasks(settings, PromptConfig(), tmp_path), tmp_path / "tasks")
    assert (exported.n, exported.left_out) == (1, 2)


@pytest.mark.parametrize("name", ["qwen2", "llm-jp-v2.2"])
@pytest.mark.parametrize("prompt", ["診断はどれか。\n\n### 応答：\n", "Which?\n\n### Response:\n", "答え： "])
def test_real_tokenizers_end_a_token_there(shared: Path, name: str, prompt: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared / "tokenizers" / name)
    head, rest = parted(prompt)
    alone = tokenizer(head, add_special_tokens=False)["input_ids"]
    for choice in ("胃癌", "(b) Vitamin C", "37"):
        joint = tokenizer(head + rest + choice, add_special_tokens=False)["input_ids"]
        assert joint[: len(alone)] == alone
