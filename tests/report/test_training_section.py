"""The page's training section: every curve with its numbers, and nothing where nothing was trained."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from scripted import trained

from jmedllm.manifest import FORMAT, write_manifest
from jmedllm.report.page import page
from jmedllm.report.page.curves import MOST_POINTS, figures, thinned
from jmedllm.report.training import read_training


@pytest.fixture(scope="module")
def html() -> str:
    return page([], {}, "trained", [trained()])


def test_the_section_is_there_only_where_something_was_trained(html: str) -> None:
    assert '<section id="training">' in html and '<a href="#training">' in html
    assert 'id="training"' not in page([], {}, "not trained")


def test_without_an_evaluation_there_is_only_training(html: str) -> None:
    assert re.findall(r'<a href="#(.*?)">', html.split("</nav>")[0]) == ["training", "glossary"]
    assert re.findall(r'<section id="(.*?)">', html) == ["training", "glossary"]


def test_the_table_has_the_change_of_the_weights_that_were_kept(html: str) -> None:
    assert "450 steps, 99,000 trained tokens; the weights of step 400, the best, were kept." in html
    rows = re.findall(
        r'<th scope="row">(.*?)</th>(.*?)</tr>', html.split('id="training"')[1].split("</table>")[0], re.S
    )
    found = {name: re.findall(r">([^<>]+)<", cells) for name, cells in rows}
    assert found == {
        "ja": ["12", "3,456", "1.0000", "0.6000", "−40.0 %"],
        "&lt;b&gt;general": ["12", "3,456", "0.8000", "0.8800", "+10.0 %"],
    }


def test_names_of_sets_stay_text(html: str) -> None:
    assert "<b>general" not in html


def test_every_curve_spans_its_first_to_its_last_value() -> None:
    drawn = {figure.title: re.findall(r'aria-label="(.*?)"', figure.picture)[0] for figure in figures(trained(50))}
    assert drawn["Loss"] == "Loss nats per trained token: loss from 2.96 to 1"
    assert "ja from 0 to -5" in drawn["Change since the start"]
    assert drawn["In-loop evaluation"] == "In-loop evaluation % right: demo.ja from 20 to 25"
    assert drawn["Peak memory"] == "Peak memory GiB: memory from 3 to 3"


def test_a_collapsed_router_is_visible() -> None:
    stage = trained(50)
    even, collapsed = {"max": 0.3, "min": 0.2, "experts": 3.9}, {"max": 0.5, "min": 0.0, "experts": 2.0}
    metrics = [row | {"expert_load": {"0": even, "1": collapsed, "2": even}} for row in stage.metrics]
    drawn = {figure.title: figure for figure in figures(replace(stage, metrics=metrics))}
    [label] = re.findall(r'aria-label="(.*?)"', drawn["Experts in use"].picture)
    assert label.endswith("least balanced (last: layer 1) from 2 to 2; median layer from 3.9 to 3.9")
    assert re.findall(r'text-anchor="end">(.*?)<', drawn["Experts in use"].picture) == ["0", "1", "2", "3", "4"]
    [label] = re.findall(r'aria-label="(.*?)"', drawn["Busiest expert"].picture)
    assert label.endswith("least balanced (last: layer 1) from 50 to 50; median layer from 30 to 30")
    assert "Load-balancing loss" not in drawn and "Experts in use" not in {each.title for each in figures(stage)}


def test_a_long_curve_is_thinned_by_means() -> None:
    points = [(step, float(step % 2)) for step in range(1, 100_001)]
    few = thinned(points)
    assert len(few) == MOST_POINTS and {value for _, value in few} == {0.5}
    assert few[0][0] == 250.5
    assert thinned(points[:7]) == points[:7]


def test_a_stage_without_evaluations_shows_the_rest() -> None:
    bare = replace(trained(), evaluations=[], outputs={"steps": 450, "trained_tokens": 9})
    assert [figure.title for figure in figures(bare)] == [
        "Loss",
        "Learning rate",
        "Gradient norm",
        "Speed",
        "Peak memory",
    ]
    assert "held-out text</abbr></th>" not in page([], {}, "bare", [bare])


def test_a_stage_without_improvement_has_a_note_at_its_first_curve() -> None:
    vain = replace(trained(), outputs=trained().outputs | {"best_step": 0})
    sentence = "Stage mfpt improved nothing: the weights of step 0 were kept"
    assert sentence in figures(vain)[0].unit and sentence in page([], {}, "vain", [vain])
    assert figures(trained())[0].unit == "nats per trained token"


def test_points_are_in_the_picture() -> None:
    for figure in figures(trained()):
        for path in re.findall(r'points="(.*?)"', figure.picture):
            for x, y in (map(float, point.split(",")) for point in path.split()):
                assert 44 <= x <= 312 and 8 <= y <= 130


def test_a_stage_that_is_no_longer_in_the_recipe_is_not_read(tmp_path: Path) -> None:
    for stage in ("mfpt", "mpeft"):
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "metrics.jsonl").write_text("{}\n", encoding="utf-8")
    done = {"mfpt": {"outputs": {}}, "mpeft": {"outputs": {}}}
    for enabled in (["mfpt", "mpeft"], ["mpeft"]):
        write_manifest(tmp_path, {"format": FORMAT, "enabled": enabled, "stages": done})
        assert [stage.name for stage in read_training([tmp_path])] == enabled


def test_other_folders_have_no_training(tmp_path: object) -> None:
    assert read_training([tmp_path]) == []
