"""What stage 2 is given: lengths that are never cut in silence, and mixtures that follow from the recipe."""

import json
import shutil
from collections import Counter
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import write_questions
from jmedllm.errors import InputError
from jmedllm.files import hash_text, to_json
from jmedllm.manifest import FORMAT
from jmedllm.models.tokenizer.load import load_tokenizer
from jmedllm.pipeline import run_pipeline
from jmedllm.precision import choose_precision
from jmedllm.recipe_file import load_recipe
from jmedllm.stages import STAGES
from jmedllm.stages.examples import Example, Pair, examples, fitting, notes_on_examples, require_fitting, weighted
from jmedllm.stages.mpeft import _inputs
from jmedllm.stages.stage import Outputs, Run, Stage
from jmedllm.training.examples import LengthLimits, filter_by_length, split_document
from jmedllm.training.packing import TrainingSample


def sample(source: int, target: int, name: str = "q1") -> TrainingSample:
    return TrainingSample(name, [7] * (source + target), [False] * source + [True] * target)


# tokens of prompt and answer, limits -> what is too long
LENGTHS = [
    ((4, 3), LengthLimits(4, 3, 7), None),
    ((4, 3), LengthLimits(None, None, 7), None),
    ((5, 3), LengthLimits(4, 3, 100), "prompt of 5 tokens, more than max_prompt_tokens 4"),
    ((4, 4), LengthLimits(4, 3, 100), "answer of 4 tokens, more than max_completion_tokens 3"),
    ((4, 4), LengthLimits(4, 4, 7), "prompt and answer of 8 tokens, more than block_size 7"),
    ((1500, 9), LengthLimits(None, None, 1024), "prompt and answer of 1,509 tokens, more than block_size 1,024"),
]


@pytest.mark.parametrize(("tokens", "limits", "message"), LENGTHS)
def test_what_is_too_long_is_an_error_that_names_it_or_is_skipped(
    tokens: tuple[int, int], limits: LengthLimits, message: str | None
) -> None:
    short, long = sample(1, 2, "short"), sample(*tokens)
    if message is None:
        assert list(filter_by_length([short, long], limits, "raise")) == [short, long]
        return
    with pytest.raises(InputError) as error:
        list(filter_by_length([short, long], limits, "raise"))
    assert (
        str(error.value)
        == f"example q1: {message}; raise it, leave the example out, or set excess_length_strategy: drop"
    )
    assert list(filter_by_length([long, short], limits, "drop")) == [short]
    with pytest.raises(InputError, match="every example is too long: raise the limits"):
        list(filter_by_length([long], limits, "drop"))


@given(length=st.integers(0, 40), block=st.integers(2, 16))
def test_each_token_of_a_replayed_document_but_its_first_is_predicted_once(length: int, block: int) -> None:
    document = TrainingSample("d", list(range(length)), [False] + [True] * (length - 1))
    parts = list(split_document(document, block))
    assert all(2 <= len(part.ids) <= block for part in parts)
    targets = [token for part in parts for token, trained in zip(part.ids, part.loss_mask, strict=True) if trained]
    assert targets == list(range(1, length))
    assert all(part.ids[0] == before.ids[-1] for before, part in pairwise(parts))


def example(number: int, source: str, language: Any) -> Example:
    return Example(source, language, Pair(str(number), f"question {number}", "answer"))


FOUND = [
    example(n, source, language)
    for source in ("medqa", "custom.json")
    for language in ("ja", "en")
    for n in range(200)
]


def counts(examples: list[Example]) -> dict[tuple[str, str], int]:
    return dict(Counter((each.source, each.language) for each in examples))


def test_weights_say_how_often_an_example_is_there() -> None:
    assert weighted(FOUND, {}) == FOUND
    twice = counts(weighted(FOUND, {"ja": 2.0, "custom.json": 0.0}))
    assert twice == {("medqa", "ja"): 400, ("medqa", "en"): 200}
    part = weighted(FOUND, {"en": 0.3, "medqa": 1.5})
    assert part == weighted(FOUND, {"en": 0.3, "medqa": 1.5})
    # Drawn by hash: 200 examples at a share of 0.3 or 0.45 vary by 6.5 or 7 (one standard deviation).
    assert counts(part)["custom.json", "ja"] == 200
    for place, expected in {("medqa", "ja"): 300, ("medqa", "en"): 90, ("custom.json", "en"): 60}.items():
        assert abs(counts(part)[place] - expected) < 28
    assert set(map(id, weighted(FOUND, {"en": 0.3}))) <= set(map(id, FOUND))


def test_a_weight_that_weighs_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="unknown source or language in weights 'medq': did you mean medqa"):
        weighted(FOUND, {"medq": 2.0})
    with pytest.raises(InputError, match="leave no example to train on"):
        weighted(FOUND, {"ja": 0.0, "en": 0.0})


CPU = choose_precision("float32", "cpu")

RECIPE = """
name: tiny
precision: float32
base: {{path: {base}}}
prompt: {{pack: plain}}
mpeft:
  questions: [{{benchmark: {folder}/exam.jsonl, languages: [ja, en]}}]
  instructions: [{folder}/custom.jsonl]
  weights: {{{folder}/custom.jsonl: 3, en: 0}}
  max_completion_tokens: 40
  excess_length_strategy: {excess_length_strategy}
  steps: 2
  learning_rate: 1e-2
  batch_size: 2
  block_size: 256
  adapter: {{kind: pissa, r: 4, alpha: 4}}
"""


def write(folder: Path, base: Path, *rows: Any, excess_length_strategy: str = "drop") -> Path:
    write_questions(folder / "exam.jsonl", count=4)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "custom.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = folder / "tiny.yaml"
    path.write_text(
        RECIPE.format(folder=folder, base=base, excess_length_strategy=excess_length_strategy), encoding="utf-8"
    )
    return path


def made(recipe: Path, folder: Path) -> dict[str, Any]:
    run_pipeline(
        STAGES.values(),
        Run(load_recipe(recipe), folder, choose_precision("float32", "cpu"), {}),
        "merge",
        lambda *_: None,
    )
    stages = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["stages"]
    return {stage: entry["outputs"] for stage, entry in stages.items()}


SHORT = {"instruction": "説明せよ。", "input": "壊血病", "output": "ビタミンC"}
LONG = {"instruction": "説明せよ。", "input": "壊血病", "output": "ビタミンCの欠乏。" * 20}
TALK = {"messages": [{"role": "user", "content": "壊血病?"}, {"role": "assistant", "content": "ビタミンC"}]}


def test_a_run_reports_its_mixture_skipped_examples_and_divergence(tiny_model: Path, tmp_path: Path) -> None:
    found = made(write(tmp_path, tiny_model, SHORT, LONG), tmp_path / "run")
    assert found["mpeft"]["mixture"] == {f"{tmp_path}/exam.jsonl ja": 4, f"{tmp_path}/custom.jsonl ja": 6}
    assert (found["mpeft"]["examples"], found["mpeft"]["dropped"]) == (7, 3)
    assert 0 <= found["merge"]["divergence"] < 1e-6


def test_too_long_an_example_ends_a_run_that_does_not_skip(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"example .*custom.jsonl:2: answer of \d+ tokens, more than max_completion_tokens 40"
    ):
        made(write(tmp_path, tiny_model, SHORT, LONG, excess_length_strategy="raise"), tmp_path / "run")


def test_tables_are_trained_on_by_a_mapping_and_what_is_left_out_is_counted(tiny_model: Path, tmp_path: Path) -> None:
    recipe = write(tmp_path, tiny_model, {"q": "説明せよ。", "a": "ビタミンC"}, {"q": "説明せよ。"})
    table = "stem,A,B,key,pic\n壊血病は,鉄,ビタミンC,B,\n脚気は,鉄,亜鉛,A,yes\n夜盲症は,鉄,,A,\n"
    (tmp_path / "ward.csv").write_text(table, encoding="utf-8")
    columns = "map: {question: stem, choices: 'A:B', answer: key, image: pic}, skip_invalid: true"
    text = recipe.read_text(encoding="utf-8")
    text = text.replace("exam.jsonl, languages: [ja, en]", f"ward.csv, languages: [ja], {columns}")
    text = text.replace(f"{tmp_path}/custom.jsonl: 3, en: 0", "ja: 1")
    text += "  map: {instruction: q, output: a}\n  skip_invalid: true\n"
    recipe.write_text(text, encoding="utf-8")
    run = Run(load_recipe(recipe), tmp_path / "run", CPU, {})
    assert run.recipe.mpeft is not None
    samples, message = fitting(run, run.recipe.mpeft, load_tokenizer(tiny_model))
    assert len(samples) == 2 and message["left_out"] == {
        f"{tmp_path}/ward.csv ja": {"with a picture": 1},
        f"{tmp_path}/ward.csv": {"in invalid rows (skip_invalid)": 1},
        f"{tmp_path}/custom.jsonl": {"in invalid rows (skip_invalid)": 1},
    }
    recipe.write_text(text.replace("{instruction: q", "{instrction: q"), encoding="utf-8")
    with pytest.raises(InputError, match=r"mpeft.map: unknown field in map 'instrction': did you mean"):
        load_recipe(recipe)


def test_a_conversation_needs_a_chat_template(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"custom.jsonl:2: a conversation, but .* has no chat template"):
        made(write(tmp_path, tiny_model, SHORT, TALK), tmp_path / "run")


CHATML = (
    "{{ strftime_now('%Y-%m-%d') }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_a_run_by_chat_ends_turns_and_keeps_its_day(tiny_model: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    (base / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    recipe = write(tmp_path, base, SHORT, TALK)
    text = recipe.read_text(encoding="utf-8").replace("{pack: plain}", "{pack: plain, chat: true}")
    recipe.write_text(text, encoding="utf-8")
    run = Run(load_recipe(recipe), tmp_path / "run", CPU, {}, date="2024-02-03")
    assert run.recipe.mpeft is not None
    samples, _ = fitting(run, run.recipe.mpeft, load_tokenizer(base))
    texts = [load_tokenizer(base).decode(sample.ids) for sample in samples]
    assert all(text.startswith("2024-02-03<|user|>") for text in texts)
    assert all(text.endswith("<|end|><|endoftext|>") for text in texts)
    assert _inputs(run)["template"] == {"chat_template": hash_text(CHATML), "date": "2024-02-03"}


QWEN3 = Path(__file__).parents[1] / "templates" / "qwen3.jinja"
THINKS = {"role": "assistant", "content": "ビタミンC", "reasoning_content": "歯肉の出血"}
MARKED = {"instruction": "説明せよ。", "input": "壊血病", "output": "<think>出血</think>ビタミンC"}
# mpeft.reasoning: what is trained of two turns with thoughts, and of an output with one
REASONING = {
    "train": ("<think>\n歯肉の出血\n</think>\n\nビタミンC", "<think>\n出血\n</think>\n\nビタミンC"),
    "mask": ("ビタミンC", "ビタミンC"),
}


@pytest.mark.parametrize("reasoning", REASONING)
def test_thoughts_are_trained_or_masked_and_counted(tiny_model: Path, tmp_path: Path, reasoning: str) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_model, base)
    shutil.copy(QWEN3, base / "chat_template.jinja")
    talk = {"messages": [TALK["messages"][0], THINKS] * 2}
    text = write(tmp_path, base, talk, MARKED, TALK, APART).read_text(encoding="utf-8")
    text = text.replace("{pack: plain}", "{pack: plain, chat: true}").replace("  max_completion_tokens: 40\n", "")
    (tmp_path / "tiny.yaml").write_text(text + f"  reasoning: {reasoning}\n", encoding="utf-8")
    run = Run(load_recipe(tmp_path / "tiny.yaml"), tmp_path / "run", CPU, {})
    assert run.recipe.mpeft is not None
    tokenizer = load_tokenizer(base)
    samples, outputs = fitting(run, run.recipe.mpeft, tokenizer)
    found = {
        sample.name.rpartition(":")[2]: tokenizer.decode(
            [token for token, trained in zip(sample.ids, sample.loss_mask, strict=True) if trained]
        )
        for sample in samples
    }
    turn, output = (f"{each}<|im_end|><|endoftext|>" for each in REASONING[reasoning])
    assert (found["1"], found["2"], found["4"]) == (turn, output, output)
    assert found["3"] == "ビタミンC<|im_end|><|endoftext|>"
    assert all(
        "<think>\n歯肉の出血\n</think>" in tokenizer.decode(each.ids) for each in samples if each.name[-2:] == ":1"
    )
    assert (outputs["with_thoughts"], outputs["separate_turns"]) == (9, 3)  # the file has weight 3
    assert require_fitting(run, run.recipe.mpeft, tokenizer) == notes_on_examples(run.recipe.mpeft, 9, 3)


APART = SHORT | {"reasoning_content": "出血"}
# whether prompt.chat is set, an instruction, the error
UNTRAINABLE = [
    (True, MARKED | {"output": "<think>出血"}, "field 'output': the thought '<think>' is not closed"),
    (
        True,
        MARKED | {"thinking": "歯肉"},
        "field 'output': two different thoughts, in reasoning_content and the content",
    ),
    (False, APART, r"a thought \(reasoning_content\) needs the chat template; set prompt.chat: true"),
]


@pytest.mark.parametrize(("chat", "row", "printed"), UNTRAINABLE)
def test_a_thought_of_an_instruction_that_cannot_be_trained_is_named(
    tiny_model: Path, tmp_path: Path, chat: bool, row: dict[str, Any], printed: str
) -> None:
    recipe = write(tmp_path, tiny_model, SHORT, row)
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("{pack: plain}", f"{{pack: plain, chat: {str(chat).lower()}}}"), encoding="utf-8")
    run = Run(load_recipe(recipe), tmp_path / "run", CPU, {})
    assert run.recipe.mpeft is not None
    with pytest.raises(InputError, match=f"custom.jsonl:2: {printed}"):
        examples(run, run.recipe.mpeft, to_json)


def test_a_run_resumed_after_midnight_keeps_its_date(tiny_model: Path, tmp_path: Path) -> None:
    started = {"format": FORMAT, "date": "2024-02-03", "stages": {}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").write_text(json.dumps(started), encoding="utf-8")
    loaded = load_recipe(write(tmp_path, tiny_model, SHORT))
    days = []

    def perform(run: Run, _: str) -> Outputs:
        days.append(run.prompt_config.date)
        return Outputs()

    stage = Stage(name="corpus", enabled=lambda _: True, inputs=lambda _: {}, perform=perform, outputs=Outputs)
    run_pipeline([stage], Run(loaded, tmp_path / "run", CPU, {}), "corpus", lambda *_: None)
    run_pipeline([stage], Run(loaded, tmp_path / "new", CPU, {}), "corpus", lambda *_: None)
    assert days == ["2024-02-03", date.today().isoformat()]
