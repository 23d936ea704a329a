"""YAML from anywhere: one line for each text that is refused, whatever it contains or expands to."""

from pathlib import Path

import pytest
import yaml

from jmedllm.bounded_yaml import MOST_CHARACTERS, MOST_DEPTH, MOST_VALUES, load_yaml
from jmedllm.errors import InputError
from jmedllm.recipe_file import load_recipe

LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}x]\n" for n in range(1, 12))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 30))

REFUSED = {
    "cyclic list": ("name: x\nbase: &a [*a]\n", "2: broken YAML: the anchor a contains itself"),
    "cyclic section": ("base: &a {b: *a}\n", "1: broken YAML: the anchor a contains itself"),
    "cyclic merge": ("name: x\n<<: &m {<<: *m}\n", "2: broken YAML: the anchor m contains itself"),
    "unknown anchor": ("name: *a\n", "1: broken YAML: found undefined alias 'a'"),
    "a billion laughs": (LAUGHS, f"5: broken YAML: more than {MOST_VALUES:,} values"),
    "a billion merges": (MERGES, f"11: broken YAML: more than {MOST_VALUES:,} values"),
    "many values": (
        "a: &a [" + "1," * 200 + "]\nb: [" + "*a," * 99 + "]",
        f"2: broken YAML: more than {MOST_VALUES:,} values",
    ),
    "deep lists": ("name: " + "[" * 99, f"1: broken YAML: nested more than {MOST_DEPTH} levels deep"),
    "deep dashes": ("name:\n" + "- " * 99 + "x", f"2: broken YAML: nested more than {MOST_DEPTH} levels deep"),
    "deep sections": (
        "\n".join(" " * n + "a:" for n in range(99)),
        f"50: broken YAML: nested more than {MOST_DEPTH}",
    ),
    "long text": ("#" * (MOST_CHARACTERS + 1), f" broken YAML: has more than {MOST_CHARACTERS:,} characters"),
    "long integer": ("seed: " + "9" * 5000, "1: broken YAML: a number of more than 100 characters"),
    "long hexadecimal": ("seed: 0x" + "f" * 90, "1: broken YAML: an integer of more than 64 bits"),
    "long sexagesimal": ("seed: 1" + ":59" * 999, "1: broken YAML: a number of more than 100 characters"),
    "no date": ("name: 2020-13-45\n", "1: broken YAML: month must be in 1..12; put the value in quotes"),
    "python object": (
        'name: !!python/object/apply:os.system ["id"]',
        "1: broken YAML: the tag tag:yaml.org,2002:python",
    ),
    "false tag": ("name: x\nseed: !!bool x\n", "2: broken YAML: the tag tag:yaml.org,2002:bool is not supported"),
    "half a character": ('name: "\\ud800"\n', "1: broken YAML: \\ud800 is half a character"),
    "half a key": ('"\\udfff": 1\n', "1: broken YAML: \\udfff is half a character"),
    "list as a key": ("? [a, b]\n: c\n", "1: broken YAML: a key must be a word, not a list or a section"),
    "zero byte": ("name: a\0b\n", " broken YAML: unacceptable character #x0000"),
    "value of nothing": ("name: =\n", "1: broken YAML: could not determine a constructor"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_one_line(name: str, tmp_path: Path) -> None:
    text, message = REFUSED[name]
    path = tmp_path / "hostile.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_recipe(path)
    assert str(error.value).startswith(f"{path}:{message}")
    assert "\n" not in str(error.value)
    with pytest.raises(yaml.YAMLError):  # so are the headers of model cards
        load_yaml(text)


def test_anchors_and_merges_that_expand_to_little_are_read() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 2}\nc: [*a, *a]\nd: 2020-01-02\ne: 0x1f\nf: 1e5\n"
    assert load_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize(
    "file", sorted((Path(__file__).parents[1] / "src").rglob("*.yaml")), ids=lambda file: file.name
)
def test_our_own_files_are_within_the_limits(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert load_yaml(text) == yaml.safe_load(text)
