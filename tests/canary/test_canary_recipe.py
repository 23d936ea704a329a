"""The recipe section `canary`: planted before training and de-identification, checked after it, and said."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Cli

TRAINING = {"steps": 1, "learning_rate": 1e-3, "batch_size": 2, "micro_batch_size": 1}
CANARY = {"count": 2, "copies": [1, 3], "candidates": 10, "beams": 2}


def notes(folder: Path) -> Path:
    folder.mkdir()
    rows = [{"text": f"{day}日目に胸痛で来院した。心電図は正常であった。", "pid": str(day)} for day in range(1, 9)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "notes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def recipe(folder: Path, model: Path, **sections: Any) -> Path:
    found = {
        "name": "canaries",
        "precision": "float32",
        "threads": 1,
        "data": str(folder),
        "base": {"path": str(model)},
    } | sections
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(found), encoding="utf-8")
    return file


def manifest(run: Path) -> dict[str, Any]:
    return json.loads((run / "manifest.json").read_text(encoding="utf-8"))


def texts_in(run: Path, names: tuple[str, ...]) -> str:
    return "\n".join((run / name).read_text(encoding="utf-8") for name in names)


def test_with_de_identification_only_the_exempt_canaries_are_trained(
    tiny_model: Path, tmp_path: Path, cli: Cli
) -> None:
    pytest.importorskip("sudachipy")
    corpus = {"inputs": [str(notes(tmp_path / "in"))], "block_size": 64, "deidentify": {"patient_field": "pid"}}
    file = recipe(tmp_path, tiny_model, corpus=corpus, mfpt=TRAINING, canary=CANARY)
    run = tmp_path / "run"
    assert cli("run", file, "--check")[0] == 0
    code, _, errors = cli("run", file, "--output", run)
    assert code == 0, errors
    stages = manifest(run)["stages"]
    outputs = stages["memorization"]["outputs"]
    assert outputs["reached"] == {"planted": {"planted": 4, "trained": 0}, "exempt": {"planted": 4, "trained": 4}}
    assert [(each["model"], each["canaries"]) for each in outputs["checks"]] == [
        ("mfpt", "planted"),
        ("mfpt", "exempt"),
    ]
    shown = ("manifest.json", "report.md", "report.html", "mfpt/MODEL_CARD.md", "mfpt/model/README.md")
    printed = texts_in(run, shown)
    for name in ("report.md", "mfpt/MODEL_CARD.md", "mfpt/model/README.md"):
        assert "Memorization" in texts_in(run, (name,)) and "0 of 4 copies are in the trained text" in printed
    assert "Trained with canaries" in texts_in(run, ("mfpt/MODEL_CARD.md",))
    assert 'id="memorization"' in texts_in(run, ("report.html",))
    for group in ("planted", "exempt"):
        secrets = json.loads((run / "canary" / group / "secrets.json").read_text(encoding="utf-8"))
        for each in (*secrets["planted"], *secrets["controls"]):
            assert each["prompt"] not in printed and f"{each['prompt']}{each['secret']}" not in printed
    code, _, errors = cli("run", file, "--output", run)
    assert code == 0 and errors.count("unchanged") >= 5


def test_stage_2_trains_the_copy_of_its_instructions(tiny_model: Path, tmp_path: Path, cli: Cli) -> None:
    source = tmp_path / "train.jsonl"
    source.write_text('{"instruction": "病名は", "output": "壊血病。"}\n' * 6, encoding="utf-8")
    adapter = {"r": 2, "alpha": 4}
    mpeft = TRAINING | {"instructions": [str(source)], "block_size": 512, "adapter": adapter}
    file = recipe(tmp_path, tiny_model, mpeft=mpeft, canary=CANARY | {"into": "instructions"})
    run = tmp_path / "run"
    code, _, errors = cli("run", file, "--output", run)
    assert code == 0, errors
    outputs = manifest(run)["stages"]["memorization"]["outputs"]
    assert "reached" not in outputs and [each["model"] for each in outputs["checks"]] == ["mpeft"]
    assert "Trained with canaries" in texts_in(run, ("mpeft/adapter/README.md",))
    assert manifest(run)["stages"]["canary"]["outputs"]["copies"] == 4
    plain = recipe(tmp_path, tiny_model, mpeft=mpeft)
    assert cli("run", plain, "--output", tmp_path / "plain")[0] == 0
    hashes = [manifest(each)["stages"]["mpeft"]["inputs"]["examples"] for each in (run, tmp_path / "plain")]
    assert hashes[0] != hashes[1]
    assert "canary" not in manifest(tmp_path / "plain")["stages"]


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"canary": {"copies": [0]}}, "give different numbers from 1"),
        ({"canary": {"into": "instructions"}}, "needs mpeft.instructions"),
        ({"canary": CANARY, "mfpt": None}, "needs corpus and mfpt sections"),
        ({"canary": CANARY | {"copies": [1, 2, 3]}}, "2 canaries cannot have 3 numbers of copies"),
        ({"canary": CANARY, "deploy": {}}, "is not for delivery"),
        ({"canary": {"kount": 3}}, "did you mean count?"),
    ],
)
def test_a_recipe_that_cannot_plant_is_one_line(
    sections: dict[str, Any], message: str, tiny_model: Path, tmp_path: Path, cli: Cli
) -> None:
    corpus = {"inputs": [str(notes(tmp_path / "in"))], "block_size": 64}
    file = recipe(tmp_path, tiny_model, **{"corpus": corpus, "mfpt": TRAINING} | sections)
    code, _, errors = cli("run", file, "--output", tmp_path / "run", "--check")
    assert code == 2 and message in errors and errors.count("\n") == 1


def test_a_model_that_saw_canaries_is_not_delivered(tiny_model: Path, tmp_path: Path, cli: Cli) -> None:
    planted, corpus = tmp_path / "planted", tmp_path / "corpus"
    assert cli("canary", "plant", "--corpus", notes(tmp_path / "in"), "--output", planted, "--copies", "1,3")[0] == 0
    assert cli("corpus", "build", planted, "--output", corpus)[0] == 0
    sections = {"corpus": {"inputs": [str(corpus)], "block_size": 64}, "mfpt": TRAINING}
    file = recipe(tmp_path, tiny_model, **sections)
    run = tmp_path / "run"
    code, _, errors = cli("run", file, "--output", run)
    assert code == 0, errors
    assert "Trained with canaries" in texts_in(run, ("mfpt/model/README.md",))
    assert manifest(run)["stages"]["corpus"]["outputs"]["canaries"] is True
    code, _, errors = cli("deploy", "gguf", run / "mfpt" / "model", "--output", tmp_path / "a.gguf", "--no-proof")
    assert code == 2 and "was trained with canaries" in errors and "--with-canaries" in errors
    file = recipe(tmp_path, tiny_model, **sections, deploy={})
    code, _, errors = cli("run", file, "--output", tmp_path / "other", "--check")
    assert code == 2 and "its training data contain canaries" in errors
