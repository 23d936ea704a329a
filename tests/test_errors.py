"""Messages to the user: installation advice that works for a checkout, because the name on the index is another
package."""

import tomllib
from pathlib import Path

import pytest

from jmedllm.errors import OPTIONAL, not_installed

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", OPTIONAL)
def test_advice_names_a_package_of_the_index_as_an_extra_needs_it(package: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {each for name, extra in extras["optional-dependencies"].items() if name != "dev" for each in extra}
    assert OPTIONAL[package] in wanted
    message = f"this needs {package}; install it with: pip install '{OPTIONAL[package]}'"
    assert str(not_installed("this", package)) == message


def test_nothing_advises_an_extra_of_a_name_on_the_index() -> None:
    places = [*ROOT.glob("src/**/*.py"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), *ROOT.glob("recipes/*")]
    assert not [str(place) for place in places if "jmedllm[" in place.read_text(encoding="utf-8")]
