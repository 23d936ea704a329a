"""Every relative link in the documentation leads to a file that exists, and to a heading of that file."""

import re
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[1]
OTHER_PAGES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / page for page in OTHER_PAGES)])
LINK = re.compile(r"\]\(([^()\s]+)\)")


def prose(page: Path) -> str:
    """The page without code blocks and inline code, which may contain brackets."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)(?:(?!\n\n).)+?\1", "code", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page: a repeated one gets a number."""
    text = re.sub(r"^(```|~~~).*?^\1", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    seen: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?)[ #]*$", text, flags=re.MULTILINE):
        shown = re.sub(r"\[(.+?)\]\(.*?\)", r"\1", heading)
        anchor = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def links(page: Path) -> list[str]:
    """The links of a page that point into this repository."""
    return [link for link in LINK.findall(prose(page)) if not re.match(r"[a-z]+:", link)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_has_its_target(page: Path) -> None:
    broken = []
    for link in links(page):
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_a_link_to_a_missing_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `--flag` page\n\n## Cost\n\n## Cost\n\n[a](#cost-1) [b](x.md#y) `[c](d)\n[e](f)`\n", encoding="utf-8"
    )
    assert anchors(page) == {"a---flag-page", "cost", "cost-1"}
    assert links(page) == ["#cost-1", "x.md#y"]


def test_the_index_links_to_every_page_but_decisions() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    expected = {page for page in (ROOT / "docs").rglob("*.md") if page != index and page.parent.name != "decisions"}
    assert expected <= linked


def test_the_map_of_the_evaluation_package_names_every_module() -> None:
    package = ROOT / "src" / "jmedllm" / "evaluation"
    modules = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    named = re.findall(r"`(\w+)`", (package / "__init__.py").read_text(encoding="utf-8"))
    assert Counter(named) == Counter(modules - {"__init__"})


FEATURES = [
    page
    for page in PAGES
    if page.is_relative_to(ROOT / "docs") and page.parent.name != "decisions" and page.stem != "index"
]


@pytest.mark.parametrize("page", FEATURES, ids=lambda page: page.stem)
def test_a_page_says_what_it_does_how_to_use_it_what_it_costs_and_its_limits(page: Path) -> None:
    headings = [line for line in page.read_text(encoding="utf-8").split("\n") if line.startswith("## ")]
    for section in ("What it does", "Usage", "Cost", "Limits"):
        assert any(heading.startswith(f"## {section}") for heading in headings), section
