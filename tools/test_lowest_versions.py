"""Run a fast part of the tests with the lowest version that pyproject.toml allows of each direct dependency.

    python3 tools/test_lowest_versions.py [TEST...]      # makes .venv-lowest; TORCH=torch==2.13.0 as for make

torch is not lowered: its older builds are not on every index, and each is gigabytes on Linux with a GPU.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venv-lowest"
TESTS = (
    "tests/corpus/readers/test_html.py",
    "tests/corpus/readers/test_pdf.py",
    "tests/corpus/readers/test_reader.py",
    "tests/bundle/test_bundle.py",
    "tests/deploy/test_gguf.py",
    "tests/deploy/test_merge.py",
    "tests/evaluation/test_legacy.py",
    "tests/evaluation/test_prompts.py",
    "tests/models/conversion/test_convert.py",
    "tests/models/tokenizer/test_encoding.py",
    "tests/models/backends/test_top_logprobs.py",
    "tests/models/backends/test_transformers.py",
    "tests/models/tokenizer/test_roundtrip.py",
    "tests/planning/test_machine.py",
    "tests/report/test_table.py",
    "tests/serving/test_app.py",
    "tests/training/test_lora.py",
    "tests/test_recipe.py",
)
"""At least one test of everything that each dependency does."""


def lowest(requirement: str) -> str:
    """`name>=1.2,<3` as `name==1.2`."""
    found = re.match(r"([\w-]+)>=([\w.]+)", requirement)
    if found is None:
        sys.exit(f"pyproject.toml: {requirement!r} has no lower bound; write NAME>=VERSION")
    return f"{found[1]}=={found[2]}"


def requirements() -> list[str]:
    """What to install: direct dependencies at their lowest, and what runs the tests as constraints.txt has it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = [*project["dependencies"], *project["optional-dependencies"]["deploy"]]
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    runners = [line.partition(" ")[0] for line in pinned if line.startswith(("pytest==", "hypothesis=="))]
    torch = os.environ.get("TORCH", "torch==2.13.0")
    return [torch, *(lowest(each) for each in direct if not each.startswith("torch>=")), *runners]


def main() -> int:
    """Make the environment, say what is in it, run the tests."""
    python = VENV / "bin" / "python"
    if not (VENV / "bin" / "pip").exists() and subprocess.call([sys.executable, "-m", "venv", VENV]):
        subprocess.check_call([sys.executable, ROOT / "tools" / "bootstrap_venv.py", VENV])
    wanted = requirements()
    print("lowest versions:", *wanted, flush=True)
    subprocess.check_call([python, "-m", "pip", "install", "--quiet", *wanted])
    subprocess.check_call([python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", ROOT])
    tests = sys.argv[1:] or [test for test in TESTS if (ROOT / test).exists()]
    # bitsandbytes is an extra for GPUs, so tests with 4-bit weights are left out.
    return subprocess.call([python, "-m", "pytest", "-q", "-k", "not nf4 and not 4_bit", *tests], cwd=ROOT)


if __name__ == "__main__":
    sys.exit(main())
