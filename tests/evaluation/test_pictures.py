"""Questions with pictures: read from files, shown to models that see, and counted apart."""

import base64
import csv
import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Cli
from jmedllm.errors import InputError
from jmedllm.evaluation.benchmarks.custom import ReadOptions, read_file
from jmedllm.evaluation.evaluate import EvalConfig, tasks
from jmedllm.evaluation.prompts.format import PromptConfig
from jmedllm.evaluation.question import content_hash, question_hash
from jmedllm.evaluation.records import read_samples
from jmedllm.evaluation.selection import select_counted, select_text_only
from jmedllm.files import read_json
from jmedllm.models.pictures import read_picture
from tiny_vision import VISION_MODELS, picture

ITEM = {"question": "胸部エックス線写真を示す。診断はどれか。", "choices": ["壊血病", "脚気", "健常"], "answer": ["a"]}


def exam(folder: Path, *images: list[str] | None) -> Path:
    """A file of questions with these pictures, which are drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, names in enumerate(images):
        rows.append({"id": f"Q{number}", **ITEM} | ({} if names is None else {"images": names}))
        for name in names or ():
            picture(folder / name, len(name) + number)
    file = folder / "exam.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def test_a_question_names_its_pictures_relative_to_its_file(tmp_path: Path) -> None:
    file = exam(tmp_path, ["x/a.png", "images/b.png"], None)
    shown, plain = read_file(file).questions
    assert [each.path for each in shown.images] == [tmp_path / "x/a.png", tmp_path / "images/b.png"]
    assert shown.images[0].hash != shown.images[1].hash and shown.images[0].place == f"{file}:1"
    assert "image" in shown.flags and not plain.images and not plain.flags
    assert read_file(file).notes[0].endswith("with pictures: 1; language taken from the script: 2 ja.")


def test_pictures_change_the_hashes_and_their_paths_do_not(tmp_path: Path) -> None:
    here, there = (read_file(exam(tmp_path / name, ["a.png"])).questions[0] for name in ("here", "there"))
    assert here == there and question_hash(here) == question_hash(there)
    picture(tmp_path / "there" / "a.png", 99)
    (tmp_path / "there" / "exam.jsonl").touch()
    changed = read_file(tmp_path / "there" / "exam.jsonl").questions[0]
    assert question_hash(changed) != question_hash(here) and content_hash(changed) != content_hash(here)
    assert content_hash(replace(here, images=())) != content_hash(here)


CELLS = [("a.png", 1), ("a.png;images/b.png", 2), ("a.png | b.png", 2), ('["a.png", "b.png"]', 2), ("", 0)]


@pytest.mark.parametrize(("cell", "count"), CELLS)
def test_a_cell_may_name_several_pictures(cell: str, count: int, tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    picture(tmp_path / "images" / "b.png", 2)
    file = tmp_path / "exam.csv"
    with file.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows(
            [
                ["stem", "A", "B", "key", "figure"],
                ["写真を示す", "脚気", "健常", "A", cell],
                ["問", "脚気", "健常", "B", ""],
            ]
        )
    options = ReadOptions((("question", "stem"), ("choices", "A:B"), ("answer", "key"), ("images", "figure")))
    assert [len(each.images) for each in read_file(file, options).questions] == [count, 0]


WRONG = [
    (["no.png"], r"exam.jsonl:1: field \"images\": .*no.png: no such file, nor in .*images; copy the pictures there"),
    ("a.png", r"exam.jsonl:1: field \"images\": expected a list of paths, found \"a.png\""),
    (["data:image/png;base64," + "A" * 5000], r"images\": .*/data:image/png;base64,A{9,200}…: no such file, nor in"),
    ([7], r"exam.jsonl:1: field \"images\": expected a list of paths"),
]


@pytest.mark.parametrize(("value", "message"), WRONG)
def test_a_missing_picture_names_file_and_line(value: Any, message: str, tmp_path: Path) -> None:
    file = tmp_path / "exam.jsonl"
    file.write_text(json.dumps({"id": "1", **ITEM, "images": value}) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_file(file)


def test_selections_keep_pictures_that_are_there(tmp_path: Path) -> None:
    questions = read_file(exam(tmp_path, ["a.png"], None)).questions
    missing = replace(questions[0], id="Q9", images=())
    every = (*questions, missing)
    assert [each.id for each in select_counted(every, "graded").questions] == ["Q0", "Q1"]
    assert select_counted(every, "legacy").left_out == {"with a picture": 2}
    assert select_text_only(every, "graded").left_out == {"with a picture": 2}  # training is on text


def test_the_pictures_of_a_published_exam_are_found_where_they_are(shared: Path, tmp_path: Path) -> None:
    source = shared / "jmle2026" / "jmle2026_dataset.json"
    if not source.is_file():
        pytest.skip("no jmle2026")
    rows = json.loads(source.read_text(encoding="utf-8"))[:40]
    file = tmp_path / "jmle2026_dataset.json"
    file.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    names = [name for row in rows for name in row["clinical_images"]]
    for number, name in enumerate(names):
        picture(tmp_path / "images" / name, number)
    mapped = "id=question_id,question=question_text,choices=question_text,select=num_choices_to_select"
    columns = f"{mapped},image=requires_image,images=clinical_images"
    options = ReadOptions(tuple(tuple(part.split("=")) for part in columns.split(",")))  # type: ignore[misc]
    questions = read_file(file, options).questions
    assert [each.path.name for question in questions for each in question.images] == names
    assert len(select_counted(questions, "graded").questions) == 40


def test_the_documented_script_joins_the_pictures_of_an_exam(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shared / "igakuqa119"
    if not source.is_dir():
        pytest.skip("no igakuqa119")
    for name in ("questions", "correct_answers.csv"):
        (tmp_path / name).symlink_to(source / name)
    drawn = ["119A9.png", "119A17-1.jpg", "119A17-2.jpg", "119A1-1.png"]
    for number, name in enumerate(drawn):
        picture(tmp_path / "images" / name, number)
    page = (Path(__file__).parents[2] / "docs" / "custom-questions.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(next(block.partition("```")[0] for block in page.split("```python\n")[1:] if "igakuqa119" in block), {})
    options = ReadOptions((("id", "number"), ("image", "has_image")), skip_invalid=True)
    questions = {each.id: each for each in read_file(tmp_path / "igakuqa119.jsonl", options).questions}
    found = {name: [each.path.name for each in question.images] for name, question in questions.items()}
    assert {name: files for name, files in found.items() if files} == {
        "119A9": drawn[:1], "119A17": drawn[1:3], "119A1": drawn[3:]
    }  # fmt: skip
    kept = {each.id for each in select_counted(questions.values(), "graded").questions}
    marked = sum("image" in each.flags for each in questions.values())
    assert marked > 100 and len(kept) == len(questions) - marked + 3


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("no picture"), "not a picture that Pillow can read; save it as PNG or JPEG"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-40]), "save it as PNG or JPEG"),
    "16 bits": (lambda path: Image.new("I;16", (8, 8), 4000).save(path), "has more than 8 bits per channel"),
    "frames": (
        lambda path: Image.new("L", (8, 8)).save(
            path, format="TIFF", save_all=True, append_images=[Image.new("L", (8, 8), 9)]
        ),
        "contains 2 pictures; save each as a file of its own",
    ),
}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return VISION_MODELS["gemma3"](tmp_path_factory.mktemp("models") / "seeing")


@pytest.mark.parametrize("chat", [(), ("--chat",)])
def test_a_question_that_contains_the_marker_of_pictures_is_one_line(
    chat: tuple[str, ...], seeing: Path, cli: Cli, tmp_path: Path
) -> None:
    file = exam(tmp_path, None, ["a.png"])
    file.write_text(file.read_text(encoding="utf-8").replace("写真", "写真<start_of_image>"), encoding="utf-8")
    code, _, error = run(cli, seeing, file, tmp_path / "out", *chat)
    assert code == 2
    assert f"{file}:2: the question contains <start_of_image>, which stands for a picture" in error


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_picture_is_one_line_before_the_model_is_loaded(
    kind: str, seeing: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: Any) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("jmedllm.evaluation.model.open_model", load)
    file = exam(tmp_path, None, ["a.png"])
    spoil, message = BROKEN[kind]
    spoil(tmp_path / "a.png")
    code, _, error = run(cli, seeing, file, tmp_path / "out")
    assert code == 2 and f'{file}:2: field "images": {tmp_path / "a.png"}: ' in error and message in error
    assert not (tmp_path / "out" / "exam.ja.samples.jsonl").exists()


def test_pictures_are_upright_and_rgb(tmp_path: Path) -> None:
    image = Image.new("LA", (20, 10), (200, 255))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.convert("RGB").save(tmp_path / "a.jpg", exif=exif)
    assert (read_picture(tmp_path / "a.jpg").size, read_picture(tmp_path / "a.jpg").mode) == ((10, 20), "RGB")


TRANSPARENT: dict[str, Image.Image] = {
    "RGBA": Image.new("RGBA", (8, 4), (0, 0, 0, 0)),
    "LA": Image.new("LA", (8, 4), (0, 0)),
    "palette": Image.new("P", (8, 4), 0),
}


@pytest.mark.parametrize("mode", TRANSPARENT)
def test_transparent_parts_are_white(mode: str, tmp_path: Path) -> None:
    image = TRANSPARENT[mode].copy()
    if mode == "palette":
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.putpixel((3, 2), 1)
    else:
        image.putpixel((3, 2), (9, 255) if mode == "LA" else (9, 9, 9, 255))
    image.save(tmp_path / "a.png", **({"transparency": 0} if mode == "palette" else {}))
    read = read_picture(tmp_path / "a.png")
    assert (read.mode, read.getpixel((0, 0)), read.getpixel((3, 2))) == ("RGB", (255, 255, 255), (9, 9, 9))


def run(cli: Cli, model: Path, file: Path, output: Path, *more: str) -> tuple[int, str, str]:
    options = ["--device", "cpu", "--precision", "float32", "--max-new-tokens", "4", "--name", "tiny"]
    return cli("eval", "--model", model, "--benchmark", file, "--output", output, *options, *more)


FULL = pytest.mark.exhaustive
OPTIONS = [
    ("--chat",),
    *(pytest.param(each, marks=FULL) for each in ((), ("--answer-as", "letter"), ("--rotations", "2"))),
]


@pytest.mark.parametrize("more", OPTIONS)
def test_a_model_that_sees_is_shown_the_pictures(
    more: tuple[str, ...], seeing: Path, cli: Cli, tmp_path: Path
) -> None:
    file = exam(tmp_path, ["a.png"], ["bb.png", "a.png"], None)
    code, printed, error = run(cli, seeing, file, tmp_path / "seen", *more, "--name", f"seen{tmp_path.name}")
    assert code == 0, error
    assert (
        run(cli, seeing, file, tmp_path / "hidden", "--no-images", *more, "--name", f"hidden{tmp_path.name}")[0] == 0
    )
    seen, hidden = (read_samples(tmp_path / name / "exam.ja.samples.jsonl") for name in ("seen", "hidden"))
    assert [len(seen[name].images) for name in ("Q0", "Q1", "Q2")] == [1, 2, 0]
    assert seen["Q2"].log_probs == pytest.approx(hidden["Q2"].log_probs)
    for name in ("Q0", "Q1"):
        assert seen[name].prompt_hash != hidden[name].prompt_hash and not hidden[name].images
        assert seen[name].log_probs != pytest.approx(hidden[name].log_probs, abs=1e-3)
    assert "of 2 items whose pictures the model saw" in " ".join(printed.split())
    code, _, error = cli("compare", tmp_path / "seen", tmp_path / "hidden")
    seeing_models = f"hidden{tmp_path.name} was not shown them, seen{tmp_path.name} saw them"  # a note is printed once
    assert code == 0 and f"exam ja: some items have pictures: {seeing_models}" in error
    summary = read_json(tmp_path / "seen" / "exam.ja.json")
    assert summary["settings"]["images"] == "shown"
    assert {(each["pictures"], each["n"]) for each in summary["pictures"]} == {("shown", 2), ("none", 1)}
    assert read_json(tmp_path / "hidden" / "exam.ja.json")["settings"]["images"] == "hidden"


def test_the_page_counts_pictures_and_contains_none(tiny_model: Path, cli: Cli, tmp_path: Path) -> None:
    from jmedllm.evaluation.stored_questions import QuestionPlaces
    from jmedllm.report import collect, questions_of
    from jmedllm.report.page.items import pack

    file = exam(tmp_path, ["a.png", "bb.png"], None)
    assert run(cli, tiny_model, file, tmp_path / "out")[0] == 0
    collected = collect([tmp_path / "out"])
    [task] = pack(collected, questions_of(collected, QuestionPlaces()))
    items = json.loads(gzip.decompress(base64.b64decode(task.packed)))
    assert [item.get("images") for item in items] == [2, None] and not any("flags" in item for item in items)
    assert cli("report", tmp_path / "out", "--html", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "of 1 items whose pictures the model does not see" in page and "a.png" not in page


def test_results_do_not_depend_on_the_batch_or_on_an_interruption(seeing: Path, cli: Cli, tmp_path: Path) -> None:
    file = exam(tmp_path, ["a.png"], None, ["bb.png"], None, ["c.png"])
    samples = {}
    for batch in ("1", "4"):
        run(cli, seeing, file, tmp_path / batch, "--batch-size", batch)
        samples[batch] = (tmp_path / batch / "exam.ja.samples.jsonl").read_text(encoding="utf-8").splitlines()
    cut = tmp_path / "cut" / "exam.ja.samples.jsonl"
    cut.parent.mkdir()
    (cut.parent / "exam.ja.json").write_bytes((tmp_path / "1" / "exam.ja.json").read_bytes())
    cut.write_text("\n".join([*samples["1"][3:], samples["1"][0][:60]]), encoding="utf-8")  # killed while writing
    assert run(cli, seeing, file, cut.parent)[0] == 0
    found = [read_samples(tmp_path / name / "exam.ja.samples.jsonl") for name in ("1", "4", "cut")]
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for name, sample in found[0].items():
            assert replace(other[name], seconds=None, log_probs=None) == replace(sample, seconds=None, log_probs=None)
            assert other[name].log_probs == pytest.approx(sample.log_probs, abs=1e-5)


def test_a_limited_evaluation_goes_on_with_questions_that_show_pictures(
    seeing: Path, cli: Cli, tmp_path: Path
) -> None:
    file = exam(tmp_path, None, ["a.png"])
    assert run(cli, seeing, file, tmp_path / "out", "--limit", "1")[0] == 0
    assert "images" not in read_json(tmp_path / "out" / "exam.ja.json")["settings"]
    assert run(cli, seeing, file, tmp_path / "out")[0] == 0
    assert read_json(tmp_path / "out" / "exam.ja.json")["settings"]["images"] == "shown"
    code, _, error = run(cli, seeing, file, tmp_path / "out", "--no-images")
    assert code == 2 and "images 'shown' is now 'hidden'" in error


def test_a_changed_picture_is_asked_again_and_the_others_are_not(seeing: Path, cli: Cli, tmp_path: Path) -> None:
    file = exam(tmp_path, ["a.png"], ["bb.png"])
    run(cli, seeing, file, tmp_path / "out")
    before = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    picture(tmp_path / "bb.png", 77)
    file.touch()  # within one process a file is read once
    assert run(cli, seeing, file, tmp_path / "out")[0] == 0
    after = read_samples(tmp_path / "out" / "exam.ja.samples.jsonl")
    assert after["Q0"] == before["Q0"] and after["Q1"].images != before["Q1"].images
    assert after["Q1"].log_probs != before["Q1"].log_probs


def test_a_text_only_model_answers_blind_and_apart(tiny_model: Path, cli: Cli, tmp_path: Path) -> None:
    file = exam(tmp_path, ["a.png"], None, None)
    (tmp_path / "a.png").write_text("nothing shows it, so it is not read")
    code, printed, error = run(cli, tiny_model, file, tmp_path / "out")
    assert code == 0, error
    text = " ".join(printed.split())
    assert "1 of 3 items have pictures, which tiny does not see." in text
    assert "of 1 items whose pictures the model does not see" in text and "of 2 items without pictures" in text
    assert read_json(tmp_path / "out" / "exam.ja.json")["settings"]["images"] == "blind"


def test_a_template_that_only_the_processor_reads_is_used(seeing: Path, tmp_path: Path) -> None:
    from jmedllm.models.folder import fingerprint
    from jmedllm.models.tokenizer.load import load_tokenizer

    old = tmp_path / "old"
    shutil.copytree(seeing, old)
    template = (old / "chat_template.jinja").read_text(encoding="utf-8")
    (old / "chat_template.jinja").unlink()
    (old / "chat_template.json").write_text(json.dumps({"chat_template": template}), encoding="utf-8")
    assert load_tokenizer(old).chat_template == template
    before = fingerprint(old)
    (old / "chat_template.json").write_text(json.dumps({"chat_template": template + " "}), encoding="utf-8")
    assert fingerprint(old) != before


TEXT_ONLY = [
    "{{ 'User: ' + messages[0].content }}",
    "User: {{ messages[0].content }}",
    "{{ messages[0].content[-1].text }}",
]


@pytest.mark.parametrize("template", TEXT_ONLY)
def test_a_template_that_writes_no_pictures_is_one_line(template: str, seeing: Path, cli: Cli, tmp_path: Path) -> None:
    model = shutil.copytree(seeing, tmp_path / "model")
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    code, _, error = run(cli, model, exam(tmp_path, ["a.png"]), tmp_path / "out", "--chat")
    assert code == 2 and "the model's chat template writes no pictures; use the template of its base" in error


def test_run_check_reads_the_pictures(seeing: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exam(tmp_path, ["a.png"], None)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"name: mine\nbase: {{path: {seeing}}}\nprecision: float32\ndevice: cpu\n"
        "eval: {benchmarks: [exam.jsonl], models: [base]}\n",
        encoding="utf-8",
    )
    code, printed, error = cli("run", recipe, "--check")
    assert code == 0, error
    assert "pictures" in next(line for line in printed.splitlines() if line.startswith("eval"))
    (tmp_path / "a.png").write_text("no picture")
    (tmp_path / "exam.jsonl").touch()
    code, _, error = cli("run", recipe, "--check")
    assert code == 2 and 'exam.jsonl:1: field "images": a.png: not a picture that Pillow can read' in error


def test_validation_leaves_pictures_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jmedllm.stages.validation import without_pictures

    config = EvalConfig(benchmarks=[str(exam(tmp_path, ["a.png"], None))], scorers=["likelihood"])
    [task] = tasks(config, PromptConfig(), tmp_path)
    assert [each.id for each in without_pictures(task).questions] == ["Q1"]
    assert "validation: exam.ja: 1 of 2 items have pictures, left out" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"validation: all questions of exam.ja show pictures; choose another"):
        without_pictures(replace(task, questions=task.questions[:1]))


def test_what_cannot_show_pictures_says_so(seeing: Path, cli: Cli, tmp_path: Path) -> None:
    file = exam(tmp_path, ["a.png"])
    served = ("eval", "--backend", "openai", "--server", "http://127.0.0.1:1/v1", "--model", "m", "--benchmark", file)
    code, _, error = cli(*served, "--scorer", "answer", "--output", tmp_path / "out")
    assert code == 2 and "only chat messages carry to a server; ask with --chat, or without pictures" in error
    bare = tmp_path / "bare"
    bare.mkdir()
    for each in seeing.iterdir():
        if each.name != "processor_config.json":
            (bare / each.name).write_bytes(each.read_bytes())
    code, _, error = run(cli, bare, file, tmp_path / "out")
    assert code == 2 and "sees pictures, but has no preprocessor_config.json or processor_config.json; copy" in error
    shots = ("--shots", file)
    code, _, error = run(cli, seeing, exam(tmp_path / "other", None), tmp_path / "out", *shots)
    assert code == 2 and f"{file}:1: a solved example shows a picture; leave it out" in error
