"""Chat templates: what ends a turn, which day it is, and which variables there are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer

from jmedllm.errors import InputError
from jmedllm.models.backends.base import Request
from jmedllm.models.backends.completion import Ends, completion, ends_of
from jmedllm.models.backends.transformers.model import load_model
from jmedllm.models.chat import ChatTemplate, turn_end
from jmedllm.precision import choose_precision
from jmedllm.training.examples import example_sample
from plain_generation import complete
from small_tokenizers import sentencepiece

LOOP = "{% for m in messages %}"
HARMONY = "<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
THINKING = "<A>{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<B>\n"
SINGLE = "{{ raise_exception('one turn') if messages[1] is defined }}{{ messages[0].content }}"
TURN = [{"role": "user", "content": "何?"}]
# Methods to end a turn, in our own words: template, markers, text after an answer, token that ends a completion,
# plain text that does.
ENDS = {
    "marker and line feed": (LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
                             ["<|im_start|>", "<|im_end|>"], "<|im_end|>", "<|im_end|>", ""),
    "marker, words stripped": (LOOP + "<start>{{ m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}",
                               ["<start>", "<end_of_turn>"], "<end_of_turn>", "<end_of_turn>", ""),
    "line feeds, then marker": (LOOP + "{{ m.content }}\n\n<|eot_id|>{% endfor %}",
                                ["<|eot_id|>"], "\n\n<|eot_id|>", "<|eot_id|>", ""),
    "EOS after a space": (LOOP + "[INST] {{ m.content }} [/INST] {{ eos_token }}{% endfor %}",
                          [], " [/INST] </s>", "</s>", ""),
    "another marker behind the last": (
        LOOP + HARMONY + "{% endfor %}",
        ["<|channel|>", "<|message|>", "<|return|>", "<|end|>"], "<|return|>", "<|return|>", ""),
    "marker, then EOS": (LOOP + "{{ m.content }}<|end|>\n{% endfor %}{{ eos_token }}",
                         ["<|end|>"], "<|end|>", "<|end|>", ""),
    "the next user's marker": (LOOP + "<|{{ m.role }}|>\n{{ m.content }}{% endfor %}",
                               ["<|user|>", "<|assistant|>"], "", "<|user|>", ""),
    "a marker that is no token": (LOOP + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
                                  [], "<|im_end|>", None, "<|im_end|>"),
    "a thought before the words": (
        LOOP + THINKING + "{% endfor %}",
        ["<A>", "<B>", "<think>", "</think>"], "<B>", "<B>", ""),
    "nothing": (LOOP + "{{ m.role }}: {{ m.content }}\n{% endfor %}", [], "", None, ""),
    "single questions only": (SINGLE, [], "", None, ""),
    "no template": (None, [], "", None, ""),
}  # fmt: skip


def tokenizer_of(case: str) -> Any:
    template, markers, *_ = ENDS[case]
    tokenizer = sentencepiece(dummy_prefix=True)
    # Not all that begin or end a turn are marked as special: a decode that hides special tokens keeps them.
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("case", ENDS)
def test_a_turn_ends_as_the_template_ends_it(case: str) -> None:
    _, _, text, token, words = ENDS[case]
    tokenizer = tokenizer_of(case)
    wanted = None if token is None else tokenizer.convert_tokens_to_ids(token)
    end = turn_end(ChatTemplate(tokenizer))
    assert (end.text, end.token, end.words) == (text, wanted, words)
    assert ends_of(tokenizer, [7]) == Ends(frozenset({2, 7, *([wanted] if wanted else [])}), words)


@pytest.mark.parametrize("case", [case for case, row in ENDS.items() if row[3] or row[4]])
def test_the_end_of_a_turn_is_not_part_of_the_answer(case: str) -> None:
    tokenizer = tokenizer_of(case)
    ends, end = ends_of(tokenizer), ENDS[case][3] or ENDS[case][4]
    ids = tokenizer("a b" + end + "\n", add_special_tokens=False)["input_ids"]
    reached = [ends.reached(tokenizer, ids[:length]) for length in range(1, len(ids) + 1)]
    assert completion(tokenizer, ends, [5], ids[: reached.index(True) + 1]).text == "a b"
    assert not any(reached[:2])


@pytest.mark.parametrize("case", ["marker and line feed", "EOS after a space", "nothing"])
def test_an_answer_by_chat_is_trained_to_end_its_turn(case: str) -> None:
    tokenizer = tokenizer_of(case)
    closing = turn_end(ChatTemplate(tokenizer)).text
    sample = example_sample(tokenizer, "n", "a:\n", "b", closing)
    trained = [token for token, wanted in zip(sample.ids, sample.loss_mask, strict=True) if wanted]
    plain = ["b", *tokenizer.tokenize(closing)] if closing else ["b"]
    tokens = tokenizer.convert_ids_to_tokens(trained)
    assert tokens[0] == "b" and tokens[-1] == "</s>" and tokens.count("</s>") == 1
    assert (tokens if plain[-1] == "</s>" else tokens[:-1])[-1] == plain[-1]


class Says:
    """A network that writes these tokens, whatever it is asked."""

    def __init__(self, network: Any, ids: list[int]) -> None:
        self.network, self.ids = network, [*ids, *[ids[0]] * 40]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def __call__(self, **inputs: Any) -> Any:
        output = self.network(**inputs)
        output.logits = torch.zeros_like(output.logits)
        output.logits[..., self.ids.pop(0)] = 9.0
        return output


def test_a_model_stops_where_its_template_ends_a_turn(tiny_model: Path) -> None:
    tokenizer = tokenizer_of("marker, words stripped")
    model = load_model(tiny_model, choose_precision("float32", "cpu"))
    ids = tokenizer.convert_tokens_to_ids(["b", "a", "<end_of_turn>", "c", "c"])
    says = replace(model, network=Says(model.network, ids), tokenizer=tokenizer, ends=ends_of(tokenizer))
    [found] = complete(says, [Request("1", "a:\n", "1")], 8)
    assert (found.text, found.truncated) == ("ba", False)


DATED = (
    "{% if x is not defined %}{% set x = strftime_now('%d %b %Y, %-d.%m %A') %}{% endif %}\n  {{ x }}"
    + LOOP
    + "{{ m.content }}{% endfor %}{{ strftime_now is defined }}"
)


def test_a_template_reads_the_day_it_is_given(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = DATED
    dated = ChatTemplate(tokenizer, date="2024-02-03")
    assert dated.prompt(TURN) == "  03 Feb 2024, 3.02 Saturday何?True"
    assert ChatTemplate(tokenizer, date="2024-02-04").prompt(TURN) != dated.prompt(TURN)
    assert dated.settings() == ChatTemplate(tokenizer).settings() | {"date": "2024-02-03"}
    today = ChatTemplate(tokenizer).today()
    assert ChatTemplate(tokenizer, date=today).prompt(TURN) == ChatTemplate(tokenizer).prompt(TURN)
    tokenizer.chat_template = LOOP + "{{ m.content }}{% endfor %}"
    assert "date" not in dated.settings()


@pytest.mark.parametrize(
    "source", ["\n {% if true %}\nx{% endif %}\n", "  {% set y = 1 %}{{ y }}", "{#- a -#} b", "\n\n"]
)
def test_a_fixed_clock_changes_nothing_else(tiny_model: Path, source: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = source + "{{ messages[0].content }}{{ strftime_now('%Y') }}"
    assert ChatTemplate(tokenizer, date="2024-02-03").prompt(TURN)[:-4] == ChatTemplate(tokenizer).prompt(TURN)[:-4]


PARTS = LOOP + "<{{ m.role }}>{% for part in m.content %}{{ part.text }}{% endfor %}</>{% endfor %}"
# templates that leave plain text out, or cannot take it, and what is made of "何?"
NO_PLAIN_TEXT = [
    (PARTS, "<user>何?</>"),
    (PARTS.replace("part.text", "part.text if part.type == 'text'"), "<user>何?</>"),
    (LOOP + "{{ m.content[0]['text'] + '' }}{% endfor %}", "何?"),
    (LOOP + "{{ m.content if m.content is string else m.content[0].text }}{% endfor %}", "何?"),
    (LOOP + "{{ m.role }}{% endfor %}", None),
    (LOOP + "{{ m.text }}{% endfor %}", None),
    (LOOP + "{{ m.content | replace('何', '') }}{% endfor %}", None),
]


@pytest.mark.parametrize(("source", "text"), NO_PLAIN_TEXT)
def test_a_question_that_a_template_leaves_out_is_never_asked(tiny_model: Path, source: str, text: str | None) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = source
    if text is not None:
        assert ChatTemplate(tokenizer).prompt(TURN) == text
        return
    with pytest.raises(InputError, match="the model's chat template leaves out or rewrites what the user says"):
        ChatTemplate(tokenizer).prompt(TURN)


def test_a_template_for_parts_ends_turns_too() -> None:
    tokenizer = tokenizer_of("marker and line feed")
    tokenizer.chat_template = PARTS.replace("</>", "<|im_end|>\n")
    assert turn_end(ChatTemplate(tokenizer)).text == "<|im_end|>"


# variables of a template that reads enable_thinking, and what is said of them
VARIABLES = [
    ({"enable_thinkng": False}, "unknown variable of the model's chat template .*did you mean enable_thinking"),
    ({"tokenize": True}, "template_args: tokenize is set by jmedllm itself; leave it out"),
    ({"enable_thinking": False}, None),
]


@pytest.mark.parametrize(("variables", "message"), VARIABLES)
def test_a_variable_that_changes_nothing_is_refused(
    tiny_model: Path, variables: dict[str, Any], message: str | None
) -> None:
    template = ChatTemplate(AutoTokenizer.from_pretrained(tiny_model), variables)
    template.tokenizer.chat_template = (
        LOOP + "{{ m.content }}{{ enable_thinking }}{% generation %}{% endgeneration %}{% endfor %}"
    )
    if message is None:
        template.require_variables()
        assert template.prompt(TURN) == "何?False"
        return
    with pytest.raises(InputError, match=message):
        template.require_variables()


# broken templates, and what is said of them
BROKEN = [
    ("{% if %}", "the model's chat template is broken: line 1: Expected an expression"),
    ("{{ messages[0].content + 1 }}", "the model's chat template refuses this conversation: "),
    ("{{ raise_exception('no users') }}", "the model's chat template refuses this conversation: no users"),
    ({"tool_use": "x"}, "tokenizer .*: This model has multiple chat templates"),
]


@pytest.mark.parametrize(("template", "message"), BROKEN)
def test_a_broken_template_is_one_line(tiny_model: Path, template: Any, message: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=message) as error:
        ChatTemplate(tokenizer).prompt(TURN)
    assert "\n" not in str(error.value)
