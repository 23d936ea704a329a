"""A stage from outside the package, as CONTRIBUTING.md shows it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from package import example, install

from conftest import Cli
from jmedllm import recipe_file, stages
from jmedllm.errors import InputError
from jmedllm.models.folder import fingerprint
from jmedllm.plugins import plugins
from jmedllm.recipe_file import load_recipe
from jmedllm.report import collect
from jmedllm.stages import STAGES
from jmedllm.stages.stage import Outputs, Stage, in_order
from test_pipeline import write_recipe

EXAMPLE = example("Add a stage")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with an `echo` section; the package with its stage is installed."""
    install(tmp_path / "package", monkeypatch, EXAMPLE, stages="echo = ECHO")
    every = {stage.name: stage for stage in in_order(list(STAGES.values()), plugins("stages", STAGES, Stage).values())}
    data = ("Echo texts: 3, licence: MIT",)
    every["echo"] = replace(every["echo"], card_data=lambda run: data)
    for module in (stages, recipe_file):
        monkeypatch.setattr(module, "STAGES", every)
    path = write_recipe(tmp_path, steps=4)
    text = path.read_text(encoding="utf-8").replace("controls:", "echo: {scale: 0.5}\ncontrols:")
    path.write_text(text, encoding="utf-8")
    return path


def test_the_example_is_short() -> None:
    assert 10 < len(EXAMPLE.splitlines()) <= 40


def test_its_model_is_evaluated_reported_and_on_the_card(cli: Cli, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, output, errors = cli("run", recipe, "--output", folder)
    assert code == 0, errors
    assert [line.split()[0] for line in errors.splitlines() if " done in " in line] == [
        "corpus", "mfpt", "mpeft", "echo", "merge", "eval", "report",
    ]  # fmt: skip
    assert "echo" in output
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["models"] == ["base", "mfpt", "echo", "mpeft"]
    assert manifest["stages"]["echo"]["outputs"]["model"] == fingerprint(folder / "echo" / "model")
    evaluated = list(dict.fromkeys(each.result.model for each in collect([folder])))
    assert evaluated == ["base", "mfpt", "echo", "mpeft"]
    assert "| echo |" in (folder / "report.md").read_text(encoding="utf-8")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ">echo<" in page and "the weights of mpeft, scaled." in page and "the model before training." in page
    card = (folder / "merge" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"- Fingerprint of the model (echo): `{fingerprint(folder / 'echo' / 'model')}`" in card
    assert "- Fingerprint of the base (corpus): `" in card and "- Fingerprint of the adapter (mpeft): `" in card
    assert (
        "licence: **unknown**\n" in card and "\n- Examples: " in card and "\n- Echo texts: 3, licence: MIT\n" in card
    )
    assert "Base | " not in card and " echo |" in card

    code, _, errors = cli("run", recipe, "--output", folder)
    assert code == 0 and errors.count("unchanged") == 7


def test_it_is_checked_and_planned(cli: Cli, recipe: Path, tmp_path: Path, tiny_model: Path) -> None:
    code, output, errors = cli("run", recipe, "--check", "--output", tmp_path / "run")
    assert code == 0, errors
    assert "echo    checked: scale" in output
    assert not (tmp_path / "run").exists()
    text = recipe.read_text(encoding="utf-8")
    start, end = text.index("base:"), text.index("prompt:")
    recipe.write_text(f"{text[:start]}base: {{path: {tiny_model}}}\n{text[end:]}", encoding="utf-8")
    code, output, errors = cli("plan", recipe, "--json", "--gpu", "24GiB")
    assert code == 0, errors
    assert 4 in {each["models"] for each in json.loads(output)["eval"].values() if each and "models" in each}
    code, _, errors = cli("plan", recipe, "--gpu", "24GiB")
    assert code == 0 and "no estimate for echo" in errors


def test_its_section_refuses_what_it_does_not_know(recipe: Path) -> None:
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("scale: 0.5", "scael: 0.5"), encoding="utf-8")
    with pytest.raises(InputError, match=r"echo.scael: unknown key; did you mean scale\?"):
        load_recipe(recipe)


@pytest.mark.parametrize(
    ("after", "needs", "problem"),
    [
        ("mepft", (), "unknown stage that outside follows (after) 'mepft': did you mean mpeft"),
        ("corpus", ("mpeft",), "stage outside needs the stage mpeft, which does not run before it"),
    ],
)
def test_a_place_that_does_not_exist_is_refused(after: str, needs: tuple[str, ...], problem: str) -> None:
    outside = Stage(
        name="outside",
        after=after,
        needs=needs,
        enabled=lambda recipe: True,
        inputs=lambda run: {},
        perform=lambda run, input_hash: Outputs(),
        outputs=Outputs,
    )
    with pytest.raises(InputError) as error:
        in_order(list(STAGES.values()), [outside])
    assert problem in str(error.value)
