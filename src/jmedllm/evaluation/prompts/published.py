"""Convert the published prompt templates (JSON with Liquid placeholders) to Jinja by the published rules.

The texts are data (`data/prompts/sukeda2024.json`, from stardust-coder/japanese-lm-med-harness at ef9544a,
CC BY-SA 4.0) and not part of this package. This module picks and fills them as that harness does.
"""

import re
from pathlib import Path

from jmedllm.errors import InputError, unknown
from jmedllm.evaluation.prompts.template import PromptTemplate
from jmedllm.evaluation.question import LANGUAGES, Language
from jmedllm.files import read_json

DEFAULT_TEMPLATE = "medpalm_five_choice_cot"
"""The template of the published leaderboard, also for questions with four choices."""

_UNKNOWN_THERE = "medpalm_four_choice_"
"""The published file has names with this prefix, but the published harness does not know them."""

_COMMA_JOINED = '{{ choices | join(",") }}'
_LETTERED_LINES = (
    "{% for choice in choices %}"
    '({{ letters[loop.index0] | upper }}){{ choice }}{{ "" if loop.last else "\\n" }}'
    "{% endfor +%}"
)


def published_templates(path: Path, name: str) -> dict[Language, PromptTemplate]:
    """Load the template called `name` for each language; `origin` ends with the name that is used.

    Japanese uses `name`_ja if the file has it. A name that the published harness does not know becomes
    alpaca_ja if it contains "ja", else alpaca, as it does there.

    Raises:
        InputError: the file is not of the published form, or has no template of that name.
    """
    texts = _read(path)
    used = {language: _name_used(texts, name, language) for language in LANGUAGES}
    return {
        language: PromptTemplate(f"{path}:{used_name}", _to_jinja(used_name, _text(path, texts, used_name)))
        for language, used_name in used.items()
    }


def _read(path: Path) -> dict[str, str]:
    value = read_json(path)
    texts = value.get("templates") if isinstance(value, dict) else None
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise InputError(f'{path}: no prompt templates; expected {{"templates": {{"NAME": "TEXT", ...}}}}')
    return texts


def _name_used(texts: dict[str, str], name: str, language: Language) -> str:
    wanted = f"{name}_ja" if language == "ja" and f"{name}_ja" in texts else name
    if wanted in texts and wanted.startswith(_UNKNOWN_THERE):
        return "alpaca_ja" if "ja" in wanted else "alpaca"
    return wanted


def _text(path: Path, texts: dict[str, str], name: str) -> str:
    if name not in texts:
        raise unknown(f"prompt template in {path}:", name, texts)
    return texts[name]


def _to_jinja(name: str, text: str) -> str:
    choices = _LETTERED_LINES if name == "meditron_five_choice" else _COMMA_JOINED
    text = re.sub(r"\{\{\s*instruction\s*\}\}", lambda _: "{{ instruction or stem }}", text)
    return re.sub(
        r"\{\{\s*input\s*\}\}",
        lambda _: "{% if instruction %}{{ stem }}{% else %}" + choices + "{% endif +%}",
        text,
    )
