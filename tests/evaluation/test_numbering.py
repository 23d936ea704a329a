"""Whether a prompt numbered its choices, so that a number in the reply names one."""

from pathlib import Path

import pytest

from jmedllm.evaluation.prompts.format import PromptFormat, ask
from jmedllm.evaluation.prompts.numbering import shows_numbers
from jmedllm.evaluation.prompts.pack import load_pack
from jmedllm.evaluation.question import Question

CANCERS = ("胃癌", "大腸癌", "膵癌")
DOSES = ("4 mg", "6 mg", "2 mg")


@pytest.mark.parametrize(
    ("prompt", "choices", "numbered"),
    [
        ("どれか。\n1. 胃癌\n2. 大腸癌\n3. 膵癌", CANCERS, True),
        ("どれか。\n１．胃癌　２．大腸癌　３．膵癌", CANCERS, True),
        ("どれか。①胃癌 ②大腸癌 ③膵癌", CANCERS, True),
        ("(1) 胃癌 (2) 大腸癌 (3) 膵癌", CANCERS, True),
        ("1: 4 mg\n2: 6 mg\n3: 2 mg", DOSES, True),
        ("a. 胃癌\nb. 大腸癌\nc. 膵癌", CANCERS, False),
        ("胃癌、大腸癌、膵癌。どれか。", CANCERS, False),
        ("11. 胃癌\n12. 大腸癌\n13. 膵癌", CANCERS, False),
        ("4 mg, 6 mg, 2 mg", DOSES, False),
        ("求めよ。", (), False),
    ],
)
def test_prompts(prompt, choices, numbered):
    assert shows_numbers(prompt, choices) is numbered


def test_packs_of_ours_do_not_number(tmp_path: Path):
    question = Question("q", "own", "ja", "どれか。", CANCERS, frozenset({1}))
    for pack in ("instruction", "preamble", "plain"):
        for form in ("text", "letter") if pack != "plain" else ("text",):
            prompt_format = PromptFormat(load_pack(pack, tmp_path), form)
            assert not shows_numbers(ask(prompt_format, question, lambda turns: ""), CANCERS)
