"""Prompts are rendered as transformers renders them."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from jmedllm.errors import InputError
from jmedllm.models.chat_text import render, variables_of

TEMPLATES = {
    path.stem: path.read_text(encoding="utf-8") for path in (Path(__file__).parents[1] / "templates").glob("*.jinja")
}
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
USER, OTHER = {"role": "user", "content": " 高血圧とは?\n"}, {"role": "user", "content": "<b>Why</b>? 𠮟\u2028\r\nx"}
ASSISTANT = {"role": "assistant", "content": "病気です。 "}
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "question": [USER],
    "with system": [{"role": "system", "content": "簡潔に。"}, USER],
    "second turn": [USER, ASSISTANT, OTHER],
    "thought": [USER, {**ASSISTANT, "reasoning_content": "考え中\n"}, OTHER],
    "thought by another name": [USER, {**ASSISTANT, "reasoning": "考え中"}, OTHER],
    "thought in the text": [USER, {**ASSISTANT, "content": "<think>\n考え\n</think>\n\n答え"}, OTHER],
    "null": [{**USER, "name": None}],
    "unknown role": [{"role": "nurse", "content": "はい"}],
    "two questions": [USER, OTHER],
    "ends with the answer": [USER, ASSISTANT],
}
VARIABLES: tuple[dict[str, Any], ...] = (
    {},
    {"enable_thinking": False},
    {"enable_thinking": True, "reasoning_effort": "high"},
)
FEATURES = {
    "tojson": "{{ messages | tojson(indent=2) }}{{ {'<': 'é'} | tojson }}",
    "break": "{% for m in messages %}{{ m.role }}{% break %}{% endfor %}",
    "generation": "{% set a = 1 %}{% generation %}{% set a = 2 %}{{ a }}{{ messages[0] }}{% endgeneration %}{{ a }}",
    "namespace": "{% set n = namespace(self=2) %}{% for m in [1] %}{% set n.a = 1 %}{% endfor %}{{ n.a + n.self }}",
    "dict": "{{ dict(a=1).a }}{{ dict.fromkeys('ab', 1) }}",
    "white space": "  {% if true %}\n  a\n  {% endif %}\n b",
    "undefined": "{{ nothing }}{{ tools is none }}{{ documents }}",
    "date": "{{ strftime_now('%Y') }}",
}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), **SPECIAL)


def both(tokenizer: Any, template: str, messages: Any, variables: Any, answer: bool) -> tuple[str | None, str | None]:
    """Return the prompts of transformers and ours; None where it is refused."""
    try:
        expected = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=answer, **variables
        )
    except Exception:  # noqa: BLE001 - templates raise anything
        expected = None
    try:
        found = render(template, messages, SPECIAL, variables, answer=answer)
    except InputError:
        found = None
    return expected, found


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_every_feature_of_templates(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    expected, found = both(tokenizer, FEATURES[name], CONVERSATIONS["second turn"], {}, True)
    assert found == expected is not None


@pytest.mark.parametrize("conversation", sorted(CONVERSATIONS))
def test_a_conversation_with_every_template(tokenizer: PreTrainedTokenizerFast, conversation: str) -> None:
    rendered = 0
    for template in TEMPLATES.values():
        expected, found = both(tokenizer, template, CONVERSATIONS[conversation], {}, True)
        assert found == expected
        rendered += expected is not None
    assert rendered >= len(TEMPLATES) // 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_all_conversations_and_variables(tokenizer: PreTrainedTokenizerFast, name: str) -> None:
    cases = list(product(CONVERSATIONS.values(), VARIABLES, (True, False)))
    results = [both(tokenizer, TEMPLATES[name], *case) for case in cases]
    assert [found for _, found in results] == [expected for expected, _ in results]
    assert sum(expected is not None for expected, _ in results) >= len(cases) // 2


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if %}", "broken: line 1"),
        ("{{ messages[9].content }}", "refuses this conversation"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{% set ns = namespace() %}{% set ns.__init__ = 1 %}", "__init__"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{{ 'a' * 10 }}{{ 1 // 0 }}", "division"),
    ],
)
def test_what_a_template_refuses_is_one_line(template: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as error:
        render(template, [USER], SPECIAL)
    assert "\n" not in str(error.value)


def test_the_variables_of_a_template() -> None:
    assert variables_of(TEMPLATES["qwen3"]) == {"enable_thinking"}
    assert "enable_thinking" not in variables_of(TEMPLATES["qwen2"])
