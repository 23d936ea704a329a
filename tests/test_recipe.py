"""Every included recipe loads; every invalid one is refused in one line with file, line and fix."""

import re
import textwrap
from pathlib import Path

import pytest

from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks import BENCHMARKS
from jmedllm.evaluation.evaluate import EvalConfig, split_language
from jmedllm.models.folder import is_hub_id
from jmedllm.planning.published import published_config
from jmedllm.recipe import Recipe
from jmedllm.recipe_file import load_recipe
from jmedllm.settings import Settings, from_options

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))

MINIMAL = """\
name: mine
base: {path: model}
corpus: {inputs: [demo]}
mfpt:
  steps: 10
  learning_rate: 5e-5
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def error_of(path: Path, control: str | None = None, seed: int | None = None) -> str:
    """The one line that loading ends in, without the folder of the recipe."""
    with pytest.raises(InputError) as error:
        load_recipe(path, control=control, seed=seed)
    line = str(error.value)
    assert "\n" not in line
    return line.replace(str(path), path.name)


def test_the_recipes_of_the_readme_are_there() -> None:
    assert [path.stem for path in RECIPES] == [
        "demo",
        "gpt-oss-20b",
        "jmedllm-v1",
        "jmedlora-70b",
        "jmedlora-7b",
        "llama-3.3-swallow-70b",
        "medgemma-27b",
        "medswallow-70b",
        "qwen3-30b-a3b",
        "qwen3.5-35b-a3b",
        "qwen3.5-9b",
        "real",
    ]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_recipes_load_with_every_control(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    for control in recipe.controls:
        assert load_recipe(path, control=control).name == f"{path.stem}.{control}"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_our_recipes_name_splits_that_exist(path: Path) -> None:
    recipe = load_recipe(path)
    named = [(s.benchmark, language, s.split) for s in recipe.mpeft.questions for language in s.languages]
    exam = recipe.eval
    for name, only in map(split_language, exam.benchmarks):
        named += [(name, language, exam.split) for language in only or exam.languages]
    for benchmark, language, split in named:
        assert split in BENCHMARKS[benchmark].splits(language), (benchmark, language, split)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_config_of_every_base_on_the_hub_comes_with_jmedllm(path: Path) -> None:
    base = load_recipe(path).base.path
    assert base is None or not is_hub_id(base) or base.startswith("models/") or published_config(base)


PUBLISHED = {
    "jmedlora-7b": {"steps": 3000, "learning_rate": 5e-5, "r": 8, "alpha": 32, "dropout": 0.05},
    "medswallow-70b": {"r": 64, "targets": "all-linear", "quantization": "nf4"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values_arrive_as_numbers(name: str) -> None:
    recipe = load_recipe(next(path for path in RECIPES if path.stem == name))
    assert recipe.mpeft is not None
    values = recipe.mpeft.model_dump() | recipe.mpeft.adapter.model_dump()
    assert {key: values[key] for key in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("5e-5", 5e-5),
        ("5E-5", 5e-5),
        ("5.0e-5", 5e-5),
        ("5.e-5", 5e-5),
        ("1e+1", 10.0),
        ("0.00005", 5e-5),
        ("1", 1.0),
    ],
)
def test_learning_rates_may_be_written_in_any_common_way(tmp_path: Path, written: str, expected: float) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL.replace("5e-5", written)))
    assert recipe.mfpt is not None
    assert recipe.mfpt.learning_rate == expected
    assert isinstance(recipe.mfpt.learning_rate, float)


MPEFT = """\
name: mine
base: {path: model}
mpeft:
  steps: 10
  learning_rate: 1e-4
  questions:
    - {benchmark: demo, languages: [ja]}
"""
EXAM = "name: mine\nbase: {path: model}\neval:\n  benchmarks: [demo]\n"

# name: (recipe, message)
BROKEN = {
    "unknown key": (MINIMAL + "sed: 1\n", "mine.yaml:7: sed: unknown key; did you mean seed?"),
    "unlike any key": (
        MINIMAL + "prompt: {wxyz: 1}\n",
        "mine.yaml:7: prompt.wxyz: unknown key; known: pack, answer_as, chat, thinking, effort, system, "
        "template_args, date, shots",
    ),
    "variables of a template that is not used": (
        MINIMAL + "prompt: {template_args: {enable_thinking: false}}\n",
        "mine.yaml: prompt.template_args shapes the chat template; set prompt.chat: true",
    ),
    "no date": (
        MINIMAL + "prompt: {chat: true, date: 29.11.2026}\n",
        "mine.yaml:7: prompt.date: 29.11.2026 is not a date; write it as YYYY-MM-DD",
    ),
    "key of another section": (
        MINIMAL + "block_sise: 8\n",
        "mine.yaml:7: block_sise: unknown key; known: name, seed, data, precision, device, threads, memory, base, "
        "prompt, corpus, validation, mfpt, mpeft, merge, eval, deploy, canary, controls",
    ),
    "mistyped nested key": (
        MINIMAL + "  batchs: 3\n",
        "mine.yaml:7: mfpt.batchs: unknown key; did you mean batch_size?",
    ),
    "mistyped needed key": (
        MINIMAL.replace("learning_rate", "learning_rat"),
        "mine.yaml:6: mfpt.learning_rat: unknown key; did you mean learning_rate?",
    ),
    "mistyped key in a list": (
        MPEFT.replace("languages", "langauges"),
        "mine.yaml:7: mpeft.questions.0.langauges: unknown key; did you mean languages?",
    ),
    "mistyped key two levels down": (
        MPEFT + "  adapter:\n    alpa: 3\n",
        "mine.yaml:9: mpeft.adapter.alpa: unknown key; did you mean alpha?",
    ),
    "key twice": (MINIMAL + "name: other\n", "mine.yaml:7: name: given twice, first in line 1; remove one"),
    "key that is a number": (MINIMAL + "1: 2\n", "mine.yaml: 1: keys should be strings, found 1"),
    "wrong type": (
        MINIMAL + "seed: one\n",
        "mine.yaml:7: seed: input should be a valid integer, found 'one'; write a number",
    ),
    "yes is not a step": (
        MINIMAL.replace("steps: 10", "steps: yes"),
        "mine.yaml:5: mfpt.steps: input should be a valid integer, found True",
    ),
    "half a step": (
        MINIMAL.replace("steps: 10", "steps: 10.0"),
        "mine.yaml:5: mfpt.steps: input should be a valid integer, found 10.0",
    ),
    "quoted learning rate": (
        MINIMAL.replace("5e-5", '"5e-5"'),
        "mine.yaml:6: mfpt.learning_rate: input should be a valid number, found '5e-5'; write it as a number, "
        "without quotes",
    ),
    "learning rate in words": (
        MINIMAL.replace("5e-5", "fast"),
        "mine.yaml:6: mfpt.learning_rate: input should be a valid number, found 'fast'; write a number",
    ),
    "negative learning rate": (
        MINIMAL.replace("5e-5", "-5e-5"),
        "mine.yaml:6: mfpt.learning_rate: input should be greater than 0, found -5e-05",
    ),
    "text where a list should be": (
        MINIMAL.replace("[demo]", "demo"),
        "mine.yaml:3: corpus.inputs: input should be a valid list, found 'demo'; write [demo]",
    ),
    "model where a section should be": (
        MINIMAL.replace("{path: model}", "org/model"),
        "mine.yaml:2: base: should be a section of `key: value` lines, found 'org/model'",
    ),
    "name with a slash": (
        MINIMAL.replace("mine", "a/b"),
        r"mine.yaml:1: name: string should match pattern '^\w[\w.-]*$', found 'a/b'",
    ),
    "section left empty": (
        MINIMAL + "prompt:\n",
        "mine.yaml:7: prompt: should be a section of `key: value` lines",
    ),
    "no base": (MINIMAL.replace("base: {path: model}", ""), "mine.yaml: base: missing; it has no default"),
    "no name": (MINIMAL.replace("name: mine", ""), "mine.yaml: name: missing; it has no default"),
    "no learning rate": (
        MINIMAL.replace("  learning_rate: 5e-5\n", ""),
        "mine.yaml:4: mfpt.learning_rate: missing; it has no default",
    ),
    "neither steps nor epochs": (
        MINIMAL.replace("  steps: 10\n", ""),
        "mine.yaml:4: mfpt: give either steps or epochs",
    ),
    "steps and epochs": (MINIMAL + "  epochs: 2\n", "mine.yaml:4: mfpt: give either steps or epochs"),
    "mfpt without corpus": (
        MINIMAL.replace("corpus: {inputs: [demo]}", ""),
        "mine.yaml:4: mfpt: needs a corpus section",
    ),
    "corpus of nothing": (
        MINIMAL.replace("[demo]", "[]"),
        "mine.yaml:3: corpus.inputs: list should have at least 1 item after validation, not 0",
    ),
    "replay without corpus": (MPEFT + "  replay: 0.3\n", "mine.yaml:3: mpeft: replay needs a corpus section"),
    "mpeft on nothing": (
        MPEFT.replace("- {benchmark: demo, languages: [ja]}", "[]"),
        "mine.yaml:3: mpeft: give questions or instructions to train on",
    ),
    "adapter preset": (
        MPEFT + "  adapter: {targets: all_linear}\n",
        "mine.yaml:8: mpeft.adapter.targets: input should be 'all-linear', 'attention' or 'qkv', found 'all_linear'",
    ),
    "unknown benchmark to train on": (
        MPEFT.replace("demo", "medqaa"),
        "mine.yaml:7: mpeft.questions.0: unknown benchmark 'medqaa': did you mean medqa or medqa-5 or medmcqa?",
    ),
    "test split to train on": (
        MPEFT.replace("[ja]", "[ja], split: test"),
        "mine.yaml:7: mpeft.questions.0.split: a model trained on a test split has seen the answers; train on "
        "another split",
    ),
    "unknown selection to train on": (
        MPEFT.replace("[ja]", "[ja], selection: grade"),
        "mine.yaml:7: mpeft.questions.0: unknown selection 'grade': did you mean graded?",
    ),
    "unknown language": (
        MPEFT.replace("[ja]", "[jp]"),
        "mine.yaml:7: mpeft.questions.0.languages.0: input should be 'ja' or 'en', found 'jp'",
    ),
    "nothing to measure": (
        MINIMAL + "validation: {limit: 5}\n",
        "mine.yaml:7: validation: nothing to measure; give held_out, texts or benchmarks",
    ),
    "held out of nothing": (
        EXAM.replace("eval:", "validation: {held_out: 0.1}\neval:") + "  models: [base]\n",
        "mine.yaml:3: validation: held_out needs a corpus section",
    ),
    "best by what is not measured": (
        MINIMAL + "  early_stopping: {metric: [bits_per_byte.ja]}\n",
        "mine.yaml:4: mfpt: early_stopping.metric needs a validation section, which configures what is measured",
    ),
    "best by bits and marks": (
        MINIMAL + "  early_stopping: {metric: [bits_per_byte.ja, accuracy.demo.ja]}\n",
        "mine.yaml:7: mfpt.early_stopping: metric must name bits_per_byte.SET or accuracy.TASK, all of one kind, "
        "so that they have a mean",
    ),
    "patience with nothing": (
        MINIMAL + "  early_stopping: {patience: 3}\n",
        "mine.yaml:7: mfpt.early_stopping: patience needs metric, which names what is to improve",
    ),
    "weights chosen by a benchmark of eval": (
        MINIMAL
        + "  early_stopping: {metric: [accuracy.demo.ja]}\nvalidation: {benchmarks: ['demo:ja']}\n"
        + "eval: {benchmarks: [demo], models: [mfpt]}\n",
        "mine.yaml:9: eval: demo also chooses the weights (early_stopping.metric), which biases its score upwards; "
        "choose by another benchmark, another split or bits per byte",
    ),
    "replay of nothing": (
        MINIMAL.replace("[demo]", "[demo], mixing: {replay: 0.1}"),
        "mine.yaml:3: corpus.mixing: general and replay must be given together: the text, and its share of the bytes",
    ),
    "weight below nothing": (
        MINIMAL.replace("[demo]", "[demo], mixing: {weights: {ja: -1}}"),
        "mine.yaml:3: corpus.mixing: weights must be 0 or more",
    ),
    "evaluation of a stage that is not there": (
        EXAM + "  models: [base, mpeft]\n",
        "mine.yaml:5: eval.models: unknown model of this recipe 'mpeft': known: base",
    ),
    "evaluation of an unknown stage": (
        EXAM + "  models: [base, mpfet]\n",
        "mine.yaml:5: eval.models: unknown model of this recipe 'mpfet': known: base",
    ),
    "day of the release": (
        EXAM.replace("base: {", "base: {released: soon, "),
        "mine.yaml:2: base.released: 'soon' is not a day; write it as YYYY-MM-DD, such as 2025-04-28",
    ),
    "unknown benchmark to evaluate": (
        EXAM.replace("[demo]", "[igakuqa-ja]") + "  models: [base]\n",
        "mine.yaml:3: eval: unknown benchmark 'igakuqa-ja': did you mean igakuqa or igakuqa119 or yakugakuqa?",
    ),
    "unknown scorer": (
        EXAM + "  models: [base]\n  scorers: [likelyhood]\n",
        "mine.yaml:3: eval: unknown scorer 'likelyhood': did you mean likelihood?",
    ),
    "random_init and path": (
        MINIMAL.replace("{path: model}", "{path: model, random_init: {layers: 2}}"),
        "mine.yaml:2: base: give either path or random_init",
    ),
    "neither random_init nor path": (
        MINIMAL.replace("{path: model}", "{}"),
        "mine.yaml:2: base: give either path or random_init",
    ),
    "random_init without corpus": (
        MPEFT.replace("{path: model}", "{random_init: {}}"),
        "mine.yaml: base.random_init needs a corpus section, for its tokenizer",
    ),
    "two errors": (
        MINIMAL + "seed: one\ndata: 3\n",
        "mine.yaml:7: seed: input should be a valid integer, found 'one'; write a number; also "
        "mine.yaml:8: data: input should be a valid string, found 3",
    ),
    "three errors": (
        MINIMAL + "seed: one\ndata: 3\ndevice: tpu\n",
        "mine.yaml:7: seed: input should be a valid integer, found 'one'; write a number (and 2 more)",
    ),
    "the stage's long name": (
        MINIMAL + "evaluation: {benchmarks: [demo]}\n",
        "mine.yaml:7: evaluation: unknown key; did you mean eval?",
    ),
    "questions without languages": (
        MPEFT.replace(", languages: [ja]", ""),
        "mine.yaml:7: mpeft.questions.0.languages: missing; write [ja], [en] or [ja, en]",
    ),
    "another language": (
        MINIMAL + "eval: {benchmarks: ['medqa:fr']}\n",
        "mine.yaml:7: eval: medqa:fr: unknown language 'fr'; the languages are ja, en",
    ),
    "broken YAML": ("name: [mine\nbase: {}\n", "mine.yaml:2: broken YAML: expected ',' or ']', but got ':'"),
    "tab": (
        "name: mine\n\tbase: {}\n",
        "mine.yaml:2: broken YAML: found character '\\t' that cannot start any token",
    ),
    "control character": (
        "name: \x00\n",
        "mine.yaml: broken YAML: unacceptable character #x0000: special characters are not allowed",
    ),
    "unknown alias": (MINIMAL + "prompt: *other\n", "mine.yaml:7: broken YAML: found undefined alias 'other'"),
    "list": ("- name: mine\n", "mine.yaml: a recipe must consist of `key: value` lines, but this file is a list"),
    "text": ("mine\n", "mine.yaml: a recipe must consist of `key: value` lines, but this file is a str"),
    "nothing": ("# mine\n", "mine.yaml: a recipe must consist of `key: value` lines, but this file is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_recipe_is_one_line(tmp_path: Path, name: str) -> None:
    text, expected = BROKEN[name]
    assert error_of(write(tmp_path, text)) == expected


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert error_of(path) == "mine.yaml: no such recipe"
    path.write_bytes("name: 壊血病\n".encode("shift-jis"))
    assert error_of(path).startswith("mine.yaml: cannot be read: 'utf-8' codec can't decode byte")
    assert error_of(tmp_path).endswith(
        f"cannot be read: [Errno 21] Is a directory: '{tmp_path}'".replace(str(tmp_path), tmp_path.name)
    )


def test_a_byte_order_mark_is_no_part_of_a_key(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "\ufeff" + MINIMAL)).name == "mine"


CONTROLLED = (
    MINIMAL
    + """\
controls:
  longer:
    mfpt: {steps: 20}
  without-stages:
    mfpt: null
    seed: 3
  mistyped:
    mfpt:
      step: 20
  unknown:
    eval: {benchmarks: [dmeo], models: [base]}
"""
)


def test_a_control_changes_only_the_values_that_it_names(tmp_path: Path) -> None:
    path = write(tmp_path, CONTROLLED)
    plain, longer = load_recipe(path), load_recipe(path, control="longer")
    assert longer.name == "mine.longer"
    assert longer.mfpt is not None and longer.mfpt.steps == 20
    expected = plain.model_dump() | {"name": "mine.longer", "mfpt": plain.model_dump()["mfpt"] | {"steps": 20}}
    assert longer.model_dump() == expected
    assert load_recipe(path, control="without-stages").mfpt is None


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("long", "unknown control of mine.yaml 'long': did you mean longer?"),
        ("mistyped", "mine.yaml:15: mfpt.step: unknown key; did you mean steps?"),
        ("unknown", "mine.yaml:17: eval: unknown benchmark 'dmeo': did you mean demo?"),
    ],
)
def test_a_wrong_control_is_one_line(tmp_path: Path, control: str, expected: str) -> None:
    assert error_of(write(tmp_path, CONTROLLED), control) == expected


@pytest.mark.parametrize(
    ("controls", "expected"),
    [
        ("", "mine.yaml: has no controls; leave --control out"),
        ("controls: 3\n", "mine.yaml:7: controls: input should be a valid dictionary, found 3"),
        ("controls: [x]\n", "mine.yaml:7: controls: input should be a valid dictionary"),
        ("controls:\n  x: 3\n", "mine.yaml:8: controls.x: input should be a valid dictionary, found 3"),
    ],
)
def test_invalid_controls_are_refused(tmp_path: Path, controls: str, expected: str) -> None:
    assert error_of(write(tmp_path, MINIMAL + controls), "x") == expected


@pytest.mark.parametrize(
    ("text", "control", "given", "expected"),
    [
        (MINIMAL, None, None, 0),
        (MINIMAL + "seed: 7\n", None, None, 7),
        (MINIMAL + "seed: 7\n", None, 0, 0),
        (CONTROLLED, "without-stages", None, 3),
        (CONTROLLED, "without-stages", 5, 5),
    ],
    ids=["default", "recipe", "option", "control", "option over control"],
)
def test_whose_seed_counts(tmp_path: Path, text: str, control: str | None, given: int | None, expected: int) -> None:
    assert load_recipe(write(tmp_path, text), control=control, seed=given).seed == expected


def test_an_invalid_seed_option_does_not_name_a_line_of_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "seed: 7\n")
    assert error_of(path, seed=-1) == "mine.yaml: seed: input should be greater than or equal to 0, found -1"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"limit": 0}, "--limit 0: input should be greater than or equal to 1"),
        ({"max_new_tokens": "many"}, "--max-new-tokens 'many': input should be a valid integer"),
        ({"languages": ["jp"]}, "--language 'jp': input should be 'ja' or 'en'"),
    ],
)
def test_options_of_the_command_line_are_named_as_they_are_typed(options: dict[str, object], expected: str) -> None:
    with pytest.raises(InputError, match=f"^{re.escape(expected)}$"):
        from_options(EvalConfig, **{"benchmarks": ["demo"], **options})


def sections(settings: type[Settings]) -> set[type[Settings]]:
    """All sections that can be written below one, itself among them."""
    found = {settings}
    for field in settings.model_fields.values():
        parts = [field.annotation]
        while parts:
            part = parts.pop()
            if isinstance(part, type) and issubclass(part, Settings):
                found |= sections(part)
            parts += getattr(part, "__args__", ())
    return found


def test_every_section_refuses_what_it_does_not_know() -> None:
    found = sections(Recipe)
    assert " ".join(sorted(section.__name__ for section in found)) == (
        "AdapterConfig BaseConfig CanaryConfig CorpusConfig DecodingConfig DeidentifyConfig DeployConfig "
        "EarlyStopping EvalSection MergeConfig MfptConfig MixingConfig MpeftConfig PromptConfig QuestionSource "
        "RandomInit Recipe ValidationConfig Vocabulary"
    )
    for section in found:
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["strict"] is True
        assert section.model_config["frozen"] is True
