"""What the exam needs, by the arithmetic that the exam itself works by."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from conftest import write_questions
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.planning.eval import ASSUMED, ASSUMED_LONGEST, CHARACTERS, plan_eval
from jmedllm.planning.machine import GIB, Gpu, Machine, Rates
from jmedllm.planning.needs import NF4
from jmedllm.planning.plan import base_of
from jmedllm.planning.printing import print_plan
from jmedllm.recipe import Recipe
from jmedllm.recipe_file import load_recipe

MACHINE = Machine(Gpu("toy", 24 * GIB, Rates(1e14, 1e12, 3e10)), 1, 1, 64 * GIB)
QWEN2 = 7_615_616_512


def recipe(**exam: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "small",
            "data": "nowhere",
            "base": {"path": "Qwen/Qwen2-7B-Instruct"},
            "eval": {"benchmarks": ["igakuqa:ja"], "models": ["base"], "scorers": ["legacy", "likelihood"]} | exam,
        }
    )


def planned(wanted: Recipe, machine: Machine = MACHINE) -> Any:
    found = plan_eval(wanted, base_of(wanted), machine)
    assert found is not None
    return found


def size(found: Any, name: str) -> int:
    [part] = [part for part in found.parts if part.name == name]
    return int(part.gpu)


def test_weights_are_those_that_the_stage_loads() -> None:
    found = planned(recipe())
    assert size(found.planned, "weights, bfloat16") == 2 * QWEN2
    assert found.planned.fits(MACHINE)
    whole = planned(recipe().model_copy(update={"precision": "float32"}))
    assert size(whole.planned, "weights, float32") == 4 * QWEN2
    assert not whole.planned.fits(MACHINE) and whole.planned.hours(MACHINE) is None
    small = replace(MACHINE, gpu=Gpu("small", found.least.gpu))
    assert found.least.fits(small) and not found.least.fits(replace(small, gpu=Gpu("less", found.least.gpu - 1)))


def test_a_4_bit_model_keeps_its_adapter_unmerged() -> None:
    wanted = load_recipe(Path(__file__).parents[2] / "recipes" / "jmedlora-70b.yaml")
    assert wanted.eval and wanted.mpeft
    machine = replace(MACHINE, gpu=Gpu("toy", 48 * GIB, None))
    whole = planned(
        wanted.model_copy(update={"eval": wanted.eval.model_copy(update={"quantization": "none"})}), machine
    )
    assert whole.planned.gpu > 128 * GIB and not whole.planned.fits(machine)
    packed = planned(
        wanted.model_copy(update={"eval": wanted.eval.model_copy(update={"quantization": "nf4"})}), machine
    )
    assert packed.in_4_bits is None and packed.planned == whole.in_4_bits and packed.planned.fits(machine)
    linear = 80 * (2 * 8192 * 8192 + 2 * 1024 * 8192 + 3 * 28672 * 8192)
    rest = 2 * 32000 * 8192 + (2 * 80 + 1) * 8192
    assert size(packed.planned, "weights, 4 bits") == pytest.approx(2 * rest + NF4 * linear, rel=1e-6)
    sides = 2 * 2 * 8192 + 2 * (1024 + 8192) + 3 * (28672 + 8192)
    assert size(packed.planned, "adapter") == 4 * 64 * 80 * sides
    assert packed.least.gpu == whole.least.gpu < packed.planned.gpu


@pytest.mark.parametrize(("quantization", "message"), [("none", " (quantization: nf4)"), ("nf4", "")])
def test_the_smallest_machine_names_the_line_that_the_recipe_lacks(quantization: str, message: str) -> None:
    found, screen = planned(recipe(quantization=quantization)), StringIO()
    print_plan([], found, MACHINE, Console(file=screen, width=200))
    [line] = [each for each in screen.getvalue().splitlines() if each.startswith("smallest machine")]
    assert line.rstrip().endswith(f"on the host{message}")


def test_a_backend_that_is_not_estimated_is_named() -> None:
    assert planned(recipe()).note is None
    note = planned(recipe(backend="vllm")).note
    assert note == "backend vllm is not estimated; these figures are for backend transformers"


def test_passes_and_answers_take_what_the_exam_would() -> None:
    """Half of the memory that is free for passes, an eighth for keys and values."""
    found = planned(recipe()).planned
    free = 24 * GIB - 2 * QWEN2 - int(0.7 * GIB)
    keeping = 2 * 2 * 28 * 4 * 128
    reading = 2 * (8 * 3584 + 3 * 18944 + 152064) + keeping
    assert f"passes over {free // 2 // reading:,} tokens" in [part.name for part in found.parts]
    assert found.at_once == free // 8 // ((ASSUMED_LONGEST + 256) * keeping)
    assert planned(recipe(batch_size=4)).planned.at_once == 4


def test_samples_and_thoughts_take_their_time() -> None:
    one = planned(recipe()).planned
    sampled = planned(recipe(decoding={"temperature": 0.6, "samples": 4})).planned
    assert (sampled.written, sampled.read) == (4 * one.written, 4 * one.read)
    assert sampled.hours(MACHINE)[1] == pytest.approx(4 * one.hours(MACHINE)[1], rel=0.01)
    wanted = recipe()
    thinking = planned(wanted.model_copy(update={"prompt": PromptConfig(chat=True, thinking="on")})).planned
    assert (one.max_new_tokens, thinking.max_new_tokens, thinking.expected_tokens) == (256, 8192, 1100)
    assert thinking.hours(MACHINE)[0] > 3 * one.hours(MACHINE)[0]  # at best a thought is read, too
    assert thinking.at_once < one.at_once


def test_what_is_not_on_disk_is_counted_by_the_catalogue_or_said_to_be_unknown() -> None:
    found = planned(recipe(benchmarks=["igakuqa", "medmcqa:en", "medmcqa:ja"])).planned
    assert {task.name: task.items for task in found.tasks} == {
        "igakuqa.ja": 2000,
        "igakuqa.en": 2000,
        "medmcqa.en": 4183,
        "medmcqa.ja": None,
    }
    assert not any(task.is_there for task in found.tasks)
    assert found.read == (2000 + 2000 + 4183) * ASSUMED
    assert planned(recipe(limit=50, rotations=5)).planned.tasks[0].items == 250


def test_what_is_on_disk_is_read(tmp_path: Path) -> None:
    file = write_questions(tmp_path / "ward.jsonl", 6)
    found = planned(recipe(benchmarks=[str(file)], selection="all")).planned
    assert {task.name: (task.items, task.is_there) for task in found.tasks} == {
        "ward.ja": (6, True),
        "ward.en": (6, True),
    }
    [first, _] = found.tasks
    stems = [json.loads(line)["question"] for line in file.read_text(encoding="utf-8").splitlines()][:6]
    assert first.longest > max(map(len, stems)) / CHARACTERS["ja"]
    assert first.read <= first.longest < 200


def test_a_file_has_the_languages_of_its_questions_and_generates_nothing_for_likelihood(tmp_path: Path) -> None:
    file = tmp_path / "ward.csv"
    file.write_text("stem,A,B,key\nWhich metal?,iron,zinc,B\n", encoding="utf-8")
    columns = {"question": "stem", "choices": "A:B", "answer": "key"}
    asked = {"benchmarks": [str(file)], "map": columns, "selection": "all"}
    found = planned(recipe(**asked, scorers=["likelihood"])).planned
    assert [task.name for task in found.tasks] == ["ward.en"]
    assert not any("answers" in part.name for part in found.parts) and found.hours(MACHINE)
    assert any("answers" in part.name for part in planned(recipe(**asked, scorers=["answer"])).planned.parts)


def test_hours_go_from_reading_alone_to_every_answer_at_its_longest() -> None:
    silent, writing = planned(recipe(scorers=["likelihood"])).planned, planned(recipe()).planned
    assert silent.written == 0 and writing.written == 2000 * 256
    quick, slow = silent.hours(MACHINE), writing.hours(MACHINE)
    assert quick and quick[1] == pytest.approx(2.8 * quick[0])
    assert slow and slow[0] == pytest.approx(quick[0], rel=0.1)
    rounds = -(-2000 // writing.at_once)
    bytes_read = 256 * rounds * (2 * QWEN2 + writing.at_once * (ASSUMED_LONGEST + 256) * 2 * 2 * 28 * 4 * 128)
    assert slow[1] * 3600 == pytest.approx(2.8 * slow[0] * 3600 + bytes_read / 0.3e12)
    halves = writing.hours(replace(MACHINE, gpus=2))
    assert halves and halves[1] == pytest.approx(slow[1] / 2)


@pytest.mark.exhaustive
def test_recipes_that_come_with_jmedllm_have_an_exam_that_can_be_planned() -> None:
    for file in sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml")):
        path = yaml.safe_load(file.read_text(encoding="utf-8"))["base"].get("path")
        if path and not path.startswith("models/"):  # what `make real` converts first
            assert planned(load_recipe(file)).planned.tasks
