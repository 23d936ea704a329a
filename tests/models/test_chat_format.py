"""The behavior of chat templates in the form in which models publish it, found by rendering them."""

from pathlib import Path
from typing import Any

import pytest

from jmedllm.errors import InputError
from jmedllm.models.chat import ChatTemplate
from jmedllm.models.chat_format import ChatFormat, chat_format, with_thinking
from small_tokenizers import byte_level

TEMPLATES = Path(__file__).parents[1] / "templates"
ON = {"enable_thinking": True}
OFF = {"enable_thinking": False}
EMPTY = "<think>\n\n</think>\n\n"
END = "\n</think>\n\n"
HARMONY = "<|end|><|start|>assistant<|channel|>final<|message|>"

# Template: what its generation prompt does with a thought; how to switch it on and off, as variables, a line of the
# system message or a closing of the prompt; opening and closing of a thought, its key, whether earlier ones are kept.
THINKING: dict[str, tuple[str, Any, Any, tuple[Any, ...]]] = {
    "qwen3": ("absent", {}, OFF, ("<think>\n", END, "reasoning_content", False)),
    "qwen3-thinking-2507": ("open", {}, END, ("", END, "reasoning_content", False)),
    "qwen3.5": ("open", {}, OFF, ("", END, "reasoning_content", False)),
    "deepseek-r1": ("open", {}, END, ("", END, None, False)),
    "deepseek-r1-distill": ("absent", {}, EMPTY, ("<think>\n", END, None, False)),
    "deepseek-v3.1": ("closed", {"thinking": True}, {"thinking": False}, ("", "</think>", None, False)),
    "gpt-oss": ("absent", {}, "<|channel|>final<|message|>", ("<|channel|>analysis<|message|>", HARMONY, ..., False)),
    "gemma4": ("closed", ON, OFF, ("<|channel>thought\n", "\n<channel|>", "reasoning_content", False)),
    "magistral": ("absent", {}, "[THINK][/THINK]", ("[THINK]", "[/THINK]", "parts", True)),
    "mistral-effort": (
        "absent", {"reasoning_effort": "high"}, {"reasoning_effort": "none"},
        ("[THINK]", "[/THINK]", "reasoning_content", True)),
    "nemotron": ("open", {}, "/no_think", ("", END, None, False)),
    "seed-oss": ("absent", {}, {"thinking_budget": 0}, ("<seed:think>", "</seed:think>", "reasoning_content", True)),
    "glm4.6": ("absent", {}, OFF, ("\n<think>", "</think>\n", "reasoning_content", False)),
    "granite3.3": ("absent", {"thinking": True}, {"thinking": False}, ("<think>\n", END, None, False)),
}  # fmt: skip
PLAIN = ("qwen2", "gemma2", "gemma3", "mistral", "llama3", "swallow", "llm-jp", "smollm2")


def template_of(name: str, **settings: Any) -> ChatTemplate:
    tokenizer = byte_level()
    tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return ChatTemplate(tokenizer, date="2026-11-30", **settings)


def format_of(name: str) -> ChatFormat:
    return chat_format(template_of(name))


def test_every_template_is_in_a_table() -> None:
    assert {path.stem for path in TEMPLATES.glob("*.jinja")} == {*THINKING, *PLAIN}


AT_ONCE = {"deepseek-v3.1", "gemma4", "mistral-effort", "granite3.3"}
"""Templates that can think and do not by default."""


@pytest.mark.parametrize("name", [*THINKING, *PLAIN])
def test_whether_a_template_thinks_first(name: str) -> None:
    assert chat_format(template_of(name)).thinks == (name in THINKING and name not in AT_ONCE)
    for thinking in ("on", "off") if name in THINKING else ():
        assert chat_format(with_thinking(template_of(name), thinking)).thinks == (thinking == "on")


@pytest.mark.parametrize("variables", [{"enable_thinking": False}, {"enable_thinking": True}])
def test_variables_switch_thinking_too(variables: dict[str, bool]) -> None:
    template = template_of("qwen3.5", variables=variables)
    assert chat_format(template).thinks == variables["enable_thinking"]


@pytest.mark.parametrize("name", THINKING)
def test_how_a_template_thinks(name: str) -> None:
    state, on, off, (opening, closing, key, kept) = THINKING[name]
    found = format_of(name)
    assert found.prompt_thought == state
    assert found.settings["on"].variables == on
    set_off = found.settings["off"]
    assert (set_off.variables or set_off.system or set_off.closing) == off
    assert found.thought is not None
    assert (found.thought.opening, found.thought.closing, found.thought.kept) == (opening, closing, kept)
    assert key is ... or found.thought.key == key


@pytest.mark.parametrize("name", PLAIN)
def test_a_template_without_thoughts(name: str) -> None:
    found = format_of(name)
    assert (found.prompt_thought, found.settings, found.efforts, found.thought) == ("absent", {}, {}, None)
    for setting in ("on", "off"):
        with pytest.raises(InputError, match="shows no sign of thoughts; leave it out"):
            with_thinking(template_of(name), setting)
    with pytest.raises(InputError, match="has no place for a thought"):
        found.reply("A", "T")


@pytest.mark.parametrize("name", [*THINKING, *PLAIN])
def test_what_else_a_template_takes(name: str) -> None:
    found = format_of(name)
    assert found.takes_system == (name != "gemma2")
    assert found.must_alternate == (name in ("gemma2", "gemma3", "mistral"))
    assert found.reads_date == (name in ("gpt-oss", "llama3"))
    efforts = {"gpt-oss": ("low", "medium", "high"), "mistral-effort": ("high",)}
    assert tuple(found.efforts) == efforts.get(name, ())


@pytest.mark.parametrize("name", THINKING)
def test_thinking_off_ends_the_thought_in_the_prompt(name: str) -> None:
    off = with_thinking(template_of(name), "off")
    assert chat_format(off).prompt_thought in ("closed", "absent")
    with_thinking(template_of(name), "on")
    if chat_format(off).prompt_thought == "closed":
        with pytest.raises(InputError, match="closes the thought before the answer"):
            chat_format(off).reply("A", "T")


@pytest.mark.parametrize("name", THINKING)
def test_a_reply_is_what_the_template_writes_after_its_prompt(name: str) -> None:
    template = with_thinking(template_of(name), "on")
    found, asked = chat_format(template), [{"role": "user", "content": "何?"}]
    assert found.thought is not None
    written = template.prompt(asked) + found.reply("答え", "考え")
    if found.thought.key == "reasoning_content":
        whole = template.conversation([*asked, {"role": "assistant", "content": "答え", "reasoning_content": "考え"}])
        assert whole.startswith(written)
    assert written.count("考え") == written.count("答え") == 1
    plain = found.prompt_thought != "open"
    if plain:
        assert found.reply("答え") in ("答え", "<|channel|>final<|message|>答え")
    else:
        with pytest.raises(InputError, match=r"set prompt\.thinking: off"):
            found.reply("答え")


def test_an_effort_is_a_variable_of_the_template() -> None:
    asked = [{"role": "user", "content": "何?"}]
    assert "Reasoning: high" in with_thinking(template_of("gpt-oss"), "default", "high").prompt(asked)
    assert "Reasoning: medium" in template_of("gpt-oss").prompt(asked)
    with pytest.raises(InputError, match="effort: low: it takes high, says"):
        with_thinking(template_of("mistral-effort"), "default", "low")
    with pytest.raises(InputError, match="it has no effort to set"):
        with_thinking(template_of("qwen3"), "default", "low")


def test_a_system_message_goes_before_that_of_the_messages() -> None:
    own = [{"role": "system", "content": "短く。"}, {"role": "user", "content": "何?"}]
    template = template_of("qwen2", system="医師として。")
    assert template.prompt(own).startswith("<|im_start|>system\n医師として。\n短く。<|im_end|>")
    assert template.prompt(own[1:]).startswith("<|im_start|>system\n医師として。<|im_end|>")
    assert template.settings()["system"] == "医師として。"


TURNS = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
MODE = TURNS + "{% if add_generation_prompt %}<|assistant|>{% if thinking_mode == 'off' %}<think></think>{% endif %}"
WORD = TURNS + "{% if add_generation_prompt %}<|assistant|><think>{% if thinking != 'true' %}</think>{% endif %}"
OPENS = TURNS + "{% if add_generation_prompt %}<|assistant|>{% if thinking %}<think>{% endif %}"
CLOSED = TURNS + "{% if add_generation_prompt %}<|assistant|><think></think>"
NEEDS = "{% if messages[0].role != 'system' %}{{ raise_exception('first a system message') }}{% endif %}" + MODE


def inline(source: str, **settings: Any) -> ChatTemplate:
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    tokenizer.chat_template = source + "{% endif %}"
    return ChatTemplate(tokenizer, **settings)


@pytest.mark.parametrize(
    ("source", "on", "off"),
    [
        (MODE, {}, {"thinking_mode": "off"}),
        (WORD, {"thinking": "true"}, {"thinking": False}),
        (OPENS, {"thinking": True}, {"thinking": False}),
        (NEEDS, {}, {"thinking_mode": "off"}),
    ],
    ids=["a mode", "a word", "off by default", "needs a system message"],
)
def test_other_spellings_of_a_switch(source: str, on: dict[str, Any], off: dict[str, Any]) -> None:
    found = chat_format(inline(source))
    assert (found.settings["on"].variables, found.settings["off"].variables) == (on, off)
    assert found.turn_end.text == "<|end|>"


@pytest.mark.parametrize(
    ("template", "thinking", "effort", "message"),
    [
        (inline(CLOSED), "on", None, "thinking: on: the model's chat template closes each thought in the prompt"),
        (inline(WORD, variables={"thinking": "false"}), "on", None, "sets thinking to 'false', not 'true'; leave one"),
        (template_of("qwen3.5", variables=OFF), "on", None, "sets enable_thinking to False, not True; leave one out"),
        (template_of("gpt-oss", variables={"reasoning_effort": "low"}), "default", "high", "'low', not 'high'; leave"),
        (inline("{{ raise_exception('not today') }}{% if x %}"), "off", None, "refuses this conversation: not today"),
        (template_of("mistral-effort"), "off", "high", "effort: high: with prompt.thinking: off there is no thought"),
    ],
)
def test_settings_that_contradict_each_other(template: ChatTemplate, thinking: Any, effort: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        with_thinking(template, thinking, effort)


def test_a_thought_that_only_the_switched_prompt_opens_is_not_trained_without_it() -> None:
    with pytest.raises(InputError, match=r"only with prompt\.thinking: on; set it, or remove reasoning_content"):
        chat_format(inline(OPENS)).reply("A", "T")
    switched = chat_format(with_thinking(inline(OPENS), "on"))
    assert switched.reply("A", "T") == "T</think>A"
    with pytest.raises(InputError, match="contains '</think>', which ends it; remove it"):
        switched.reply("A", "T</think>U")
