"""Templates from anywhere: limits on their time and on the text that they produce, and no way out of the sandbox."""

import threading
import time
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.prompts.template import PromptTemplate, fill_instruction
from jmedllm.models import sandbox
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.chat_format import chat_format
from jmedllm.models.chat_text import render, variables_of
from jmedllm.models.sandbox import TemplateLimitError
from jmedllm.models.time_limit import OverrunError, within

USER = [{"role": "user", "content": "高血圧とは?"}]
TWICE = "{%% set ns = namespace(a='a') %%}{%% for i in range(60) %%}{%% set ns.a = %s %%}{%% endfor %%}%s"

TOO_MUCH = {
    "product": "{{ 'a' * 10**10 }}",
    "product of products": "{{ ('a' * 100000) * 100000 }}",
    "list": "{{ [1] * 10**10 }}",
    "power": "{{ 9 ** (9 ** 9) }}",
    "squares": "{% set ns = namespace(a=99) %}{% for i in range(60) %}{% set ns.a = ns.a * ns.a %}{% endfor %}",
    "center": "{{ 'a' | center(10**10) }}",
    "center, known when it is compiled": "{{ 'a' | center(10000000000) }}",
    "method center": "{{ 'a'.center(10000000000) }}",
    "method zfill": "{{ 'a'.zfill(width=10000000000) if false else 'a'.zfill(10000000000) }}",
    "method expandtabs": r"{{ '\t'.expandtabs(9999999999) }}",
    "indent": r"{{ 'a\n' | indent(10**9) }}",
    "indent of many lines": r"{{ ('a\n' * 100000) | indent('x' * 100000) }}",
    "join": "{{ range(100000) | join('x' * 100000) }}",
    "sum of lists": "{{ ([[1] * 1000] * 10000) | sum(start=[]) | length }}",
    "sum of an iterator": "{{ ([[1] * 1000] * 10000) | map('list') | sum(start=[]) | length }}",
    "largest of an iterator": (
        "{% set n = namespace(a=[1], b=[2]) %}{% for _ in range(60) %}"
        "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}"
        "{% endfor %}{{ [n.a, n.b] | select | max }}"
    ),
    "join of an iterator": "{{ range(100000) | map('string') | join('x' * 100000) }}",
    "method join": "{{ ('x' * 100000).join('y' * 100000) }}",
    "width of %": "{{ '%1000000000d' % 5 }}",
    "precision of %": "{{ '%.1000000000f' % 5.0 }}",
    "filter format": "{{ '%1000000000d' | format(5) }}",
    "method format": "{{ '{:1000000000}'.format(5) }}",
    "width that is an argument": "{{ '{:{}}'.format(5, 1000000000) }}",
    "format_map": "{{ '{a:>1000000000}'.format_map({'a': 5}) }}",
    "long argument many times": "{{ ('{0!r}' * 100000).format('a' * 100000) }}",
    "replace": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "replace nothing": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "tojson": "{{ [[1]] | tojson(indent=10**9) }}",
    "batch": "{{ [1] | batch(10**9, ' ') | list }}",
    "slice": "{{ [1] | slice(10**9) | list }}",
    "round": "{{ 5.5 | round(10**9, 'ceil') }}",
    "split": "{{ ('a ' * 50000000).split() | length }}",
    "doubled by ~": TWICE % ("ns.a ~ ns.a", ""),
    "doubled by +": TWICE % ("ns.a + ns.a", ""),
    "doubled by set": TWICE % ("ns.a", "")
    + "{% set big = 'a' * 1000000 %}{% set x %}{% for i in range(9999) %}{{ big }}{% endfor %}{% endset %}",
    "a billion laughs": TWICE % ("[ns.a, ns.a]", "{{ ns.a }}"),
    "laughs as JSON": TWICE % ("{'x': ns.a, 'y': ns.a}", "{{ ns.a | tojson }}"),
    "laughs joined": TWICE % ("[ns.a, ns.a]", "{{ ns.a ~ '' }}"),
    "laughs compared": TWICE % ("[ns.a, ns.a]", "{{ ns.a == ns.a }}"),
    "laughs looked for": TWICE % ("[ns.a, ns.a]", "{{ ns.a in [ns.a] }}"),
    "laughs tested": TWICE % ("[ns.a, ns.a]", "{{ ns.a is eq(ns.a) }}"),
    "laughs as a key": TWICE % ("(ns.a, ns.a)", "{{ messages[0][ns.a] }}"),
    "laughs in a call": "{% macro f(n) %}{{ f(n-1, varargs, varargs) if n else varargs }}{% endmacro %}{{ f(60, 1) }}",
    "many lists of long texts": "{% set ns = namespace(a=[]) %}{% set big = 'a' * 1000000 %}"
    "{% for i in range(100000) %}{% set ns.a = ns.a + [big ~ i] %}{% endfor %}",
}

TOO_LONG = {
    "nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "exponential macro": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "exponential loop": "{% for a in [1] recursive %}{{ loop([1, 1]) if loop.depth < 40 }}{% endfor %}",
}

REFUSED = {
    "long range": ("{{ range(10**9) | list }}", "Range too big"),
    "endless macro": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "recursion"),
    "endless loop": ("{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}", "recursion"),
    "deep list": (
        "{% set ns = namespace(a=1) %}{% for i in range(9999) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a }}",
        "recursion",
    ),
    "deep expression": ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "recursion"),
    "deep loops": ("{% for i in [1] %}" * 60 + "{% endfor %}" * 60, "nested"),
    "half a character": ("{{ '\ud800' }}", "half a character"),
    "class": ("{{ ''.__class__.__mro__ }}", "unsafe"),
    "class by a filter": ("{{ (''|attr('__class__')).__mro__ }}", "unsafe"),
    "class by a format": ("{{ '{0.__class__.__mro__}'.format(1) }}", "unsafe"),
    "class by map": ("{{ ([1] | map(attribute='__class__') | first).__mro__ }}", "unsafe"),
    "globals of a function": ("{{ raise_exception.__globals__.os }}", "unsafe"),
    "globals of a class": ("{{ cycler.__init__.__globals__ }}", "unsafe"),
    "context": ("{{ self._TemplateReference__context.x }}", "unsafe"),
    "change of a message": ("{{ messages.append(1) }}", "unsafe"),
    "file": ("{% include '/etc/passwd' %}", "no loader"),
    "bytes": ("{{ (5).to_bytes(9999999999) }}", "not supported"),
    "width *": ("{{ '%*d' % (1000000000, 5) }}", "not supported"),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_template_that_produces_too_much_is_refused_before_it_does(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 60.0)  # a slow machine needs longer for the same amount
    with pytest.raises(TemplateLimitError) as error:
        render(TOO_MUCH[name], USER, {})
    assert (
        str(error.value) == "the model's chat template produces more than 134,217,728 characters; use another template"
    )


@pytest.mark.parametrize("name", TOO_LONG)
def test_a_template_that_runs_too_long_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 0.05)
    with pytest.raises(TemplateLimitError, match=r"^the model's chat template runs for more than 0.05 seconds; use"):
        render(TOO_LONG[name], USER, {})
    monkeypatch.undo()
    assert render("{{ messages[0].content }}", USER, {}) == "高血圧とは?"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_one_line(name: str) -> None:
    template, reason = REFUSED[name]
    with pytest.raises(InputError, match=reason) as error:
        render(template, USER, {})
    assert "\n" not in str(error.value)
    assert not isinstance(error.value, TemplateLimitError)


@pytest.mark.parametrize("name", [*TOO_MUCH, *TOO_LONG, *REFUSED])
def test_the_variables_of_a_hostile_template(name: str) -> None:
    template = TOO_MUCH.get(name) or TOO_LONG.get(name) or REFUSED[name][0]
    try:
        assert variables_of(template) == frozenset()
    except InputError as error:
        assert "\n" not in str(error)


def test_the_limit_is_for_every_thread_and_ends_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 0.2)
    results: dict[str, str] = {}

    def one(name: str, template: str) -> None:
        try:
            results[name] = render(template, USER, {})
        except TemplateLimitError as error:
            results[name] = str(error)

    threads = [threading.Thread(target=one, args=(name, TOO_LONG[name])) for name in TOO_LONG]
    threads.append(threading.Thread(target=one, args=("good", "{{ messages[0].content }}")))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.pop("good") == "高血圧とは?"
    assert set(results) == set(TOO_LONG)
    assert all("0.2 seconds" in result for result in results.values())


def test_waiting_is_not_working_and_errors_pass_through() -> None:
    assert within(0.01, lambda: time.sleep(0.05) or "done") == "done"
    with pytest.raises(ZeroDivisionError):
        within(1, lambda: 1 // 0)
    with pytest.raises(OverrunError):
        within(0.01, lambda: [0 for _ in iter(int, 1)])


def test_what_asks_a_template_about_itself_ends_at_the_first_overrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MOST_SECONDS", 0.05)
    rendered: list[int] = []
    limited = sandbox.limited
    monkeypatch.setattr("jmedllm.models.chat_text.limited", lambda *given: (rendered.append(1), limited(*given))[1])

    class Tokenizer:
        name_or_path, chat_template, special_tokens_map = "hostile", TOO_LONG["nested loops"], dict[str, Any]()

        def get_chat_template(self) -> str:
            return self.chat_template

    with pytest.raises(TemplateLimitError, match=r"0\.05 seconds"):
        chat_format(ChatTemplate(Tokenizer()))
    assert len(rendered) == 1


def test_a_hostile_prompt_pack_is_refused_with_its_file() -> None:
    template = PromptTemplate("packs/x/ja.j2", "{{ instruction }}{{ 'a' * 10**10 }}")
    with pytest.raises(InputError, match=r"^packs/x/ja.j2: the prompt template produces more than 134,217,728 char"):
        fill_instruction(template, "要約", "患者")
