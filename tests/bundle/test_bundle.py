"""A bundle has everything with its licence and checksum, and refuses to start if a byte of it is changed."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from safetensors.numpy import save_file

import jmedllm
from jmedllm.bundle import install
from jmedllm.bundle.component import Component
from jmedllm.bundle.licences import UNKNOWN, licence_of_package, licence_table
from jmedllm.bundle.model_card import licence_in
from jmedllm.bundle.native_parts import LIBRARY
from jmedllm.bundle.own_wheel import write_own_wheel
from jmedllm.bundle.sbom import sbom
from jmedllm.bundle.served_model import BundledModel, find_model, plain_name
from jmedllm.bundle.target import Target, parse_target, this_python
from jmedllm.bundle.training_data import training_data
from jmedllm.bundle.wheels import closure, download_wheels, read_wheel
from jmedllm.bundle.write import write_bundle
from jmedllm.errors import InputError
from jmedllm.manifest import FORMAT

HERE = Target(this_python(), (2, 17), os.uname().machine)


def model_of(folder: Path, name: str = "ward") -> BundledModel:
    """A model without packages, so that no index is asked; no llama.cpp reads its file."""
    file = folder / "some model.gguf"
    file.write_bytes(bytes(range(256)))
    served = f"model/{name}.gguf"
    return BundledModel(
        name, served, {served: file}, (), "json", "MIT", {"LICENSE": b"words"}, "# Card\n", '{"texts": 410}', ()
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("with spaces")
    write_bundle(model_of(folder), folder / "a bundle", HERE)
    return folder / "a bundle"


@pytest.fixture
def bundle(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "copied to a ward")


def test_the_same_model_gives_the_same_bytes(written: Path, tmp_path: Path) -> None:
    again = write_bundle(model_of(tmp_path), tmp_path / "again", HERE)
    assert (tmp_path / "again" / "SHA256SUMS").read_bytes() == (written / "SHA256SUMS").read_bytes()
    assert again.sha256 == install.sha256(written / "SHA256SUMS")
    assert again.files == len(install.files(written))


def test_sha256sum_reads_the_checksums(written: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"], cwd=written, check=True)


def test_one_changed_byte_of_any_file_is_refused_with_its_name(bundle: Path) -> None:
    assert install.verify(bundle) == []
    names = install.files(bundle) - {install.SUMS}
    assert {"run.sh", "install.py", "model/ward.gguf", "sbom.cdx.json", "licences/ward/LICENSE"} < names
    for name in sorted(names):
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert install.verify(bundle) == [f"{name}: changed; its checksum is not that of SHA256SUMS"]
        (bundle / name).write_bytes(content)


def test_missing_and_added_files_are_refused_with_their_names(bundle: Path) -> None:
    (bundle / "card.md").unlink()
    (bundle / "wheels" / "evil-1.0-py3-none-any.whl").touch()
    (bundle / "licences" / "link").symlink_to(bundle / "model")
    assert install.verify(bundle) == [
        "card.md: missing",
        "licences/link: added; SHA256SUMS does not list it",
        "wheels/evil-1.0-py3-none-any.whl: added; SHA256SUMS does not list it",
    ]


def test_links_and_devices_are_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle / "card.md", tmp_path / "card.md")
    (bundle / "card.md").symlink_to(tmp_path / "card.md")  # which can change after it was verified
    (bundle / "README.md").unlink()
    os.mkfifo(bundle / "README.md")  # to read it would never end
    assert install.verify(bundle) == [
        f"{name}: a link or a device; a bundle has files only" for name in ("README.md", "card.md")
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda sums: sums.replace(b"  ", b" ", 1), "SHA256SUMS: line 1 is damaged"),
        (lambda sums: sums[:30], "SHA256SUMS: line 1 is damaged"),
        (lambda sums: bytes([sums[0] ^ 1]) + sums[1:], "LICENCES.md: changed; its checksum is not that of SHA256SUMS"),
        (lambda sums: sums.replace(b"card.md", b"care.md"), "card.md: added; SHA256SUMS does not list it"),
    ],
    ids=["separator", "cut", "digest", "name"],
)
def test_damaged_checksums_are_refused(bundle: Path, change: object, expected: str) -> None:
    sums = bundle / install.SUMS
    sums.write_bytes(change(sums.read_bytes()))  # type: ignore[operator]
    assert expected in install.verify(bundle)


def run_sh(bundle: Path, *options: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(bundle / "run.sh"), *options]
    return subprocess.run(command, env={**os.environ, "PYTHON": python}, capture_output=True, text=True, check=False)


def test_run_sh_verifies_before_it_installs(bundle: Path, tmp_path: Path) -> None:
    assert run_sh(bundle, "--verify-only").stdout == "verified: every file is as SHA256SUMS lists it\n"
    (bundle / "model" / "ward.gguf").write_bytes(b"other")
    done = run_sh(bundle, "--venv", str(tmp_path / "venv"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "model/ward.gguf: changed" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_run_sh_verifies_its_installer_before_it_runs(bundle: Path) -> None:
    with (bundle / "install.py").open("a") as program:
        program.write("raise SystemExit('ran')\n")
    done = run_sh(bundle, "--verify-only")
    assert (done.returncode, done.stderr.startswith("error: install.py: changed")) == (2, True)
    (bundle / "SHA256SUMS").unlink()
    done = run_sh(bundle, "--verify-only")
    assert done.stderr == f"error: {bundle}/SHA256SUMS: No such file or directory; copy the bundle again\n"
    assert done.returncode == 2


def test_another_python_is_refused_in_one_line(tmp_path: Path) -> None:
    other = Target("3.99", (2, 17), HERE.machine)
    write_bundle(model_of(tmp_path), tmp_path / "bundle", other)
    done = run_sh(tmp_path / "bundle", "--verify-only")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: this is Python {this_python()} (")
    assert "the bundle is for 3.99; run it with: PYTHON=/path/to/python3.99 sh run.sh" in done.stderr


@pytest.mark.parametrize(
    ("facts", "expected"),
    [({"machine": "s390x"}, "the bundle is for linux s390x"), ({"glibc": [2, 99]}, "the bundle needs glibc 2.99")],
)
def test_another_machine_is_refused(written: Path, facts: dict[str, object], expected: str) -> None:
    recorded = json.loads((written / install.FACTS).read_text())
    install.require_machine(recorded)
    with pytest.raises(install.BundleError, match=expected):
        install.require_machine(recorded | facts)


def test_a_folder_with_other_files_is_not_replaced(written: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(install.BundleError, match="has other files; choose another --venv"):
        install.install(written, tmp_path, "0", "json")
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_own_wheel_has_the_package_and_its_commands(tmp_path: Path) -> None:
    file = write_own_wheel(tmp_path)
    names = set(ZipFile(file).namelist())
    root = Path(jmedllm.__file__).parent
    assert {f"jmedllm/{each.relative_to(root)}" for each in root.rglob("*.py")} < names
    assert not [name for name in names if name.endswith(".pyc")]
    wheel = read_wheel(file)
    assert (wheel.name, wheel.version) == ("jmedllm", jmedllm.__version__)
    assert wheel.component().licence == "Apache-2.0"
    assert [name for name in wheel.texts if name.endswith("/LICENSE")]


def test_damaged_wheels_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut-1.0-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"cut-1\.0-py3-none-any\.whl: is not a complete wheel"):
        read_wheel(tmp_path / "cut-1.0-py3-none-any.whl")


def test_what_is_compiled_into_llama_cpp_is_named(tmp_path: Path) -> None:
    file = tmp_path / "xllamacpp-1-cp310-abi3-linux_x86_64.whl"
    with ZipFile(file, "w") as archive:
        archive.writestr("xllamacpp-1.dist-info/METADATA", "Name: xllamacpp\nVersion: 1\nLicense: MIT\n")
        archive.writestr(LIBRARY, b"\0_ZN12ggml_backend\0_ZN7httplib6Server\0kOpenSSL BoringSSL\0")
    parts = read_wheel(file).component().parts
    assert [(each.name, each.licence) for each in parts] == [
        ("llama.cpp", "MIT"),
        ("cpp-httplib", "MIT"),
        ("BoringSSL", "Apache-2.0"),
    ]
    assert b"Copyright (c) 2023-2026 The ggml authors" in parts[0].texts["LICENSE"]


@pytest.mark.parametrize(
    ("package", "expected"),
    [
        ("click", "BSD-3-Clause"),
        ("h11", "MIT"),
        ("jinja2", "BSD-3-Clause"),
        ("mdurl", "MIT"),
        ("pyyaml", "MIT"),
        ("safetensors", "Apache-2.0"),
        ("shellingham", "ISC"),
        ("typing-extensions", "PSF-2.0"),
        ("xllamacpp", "MIT"),
    ],
)
def test_licence_of_real_packages(package: str, expected: str) -> None:
    installed = distribution(package)
    files = [file for file in installed.files or () if "licen" in file.name.lower()]
    texts = [file.locate().read_bytes() for file in files]  # type: ignore[attr-defined]
    assert licence_of_package(installed.metadata, texts) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\n---\n# A", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: llama3.1\n---\n", "llama3.1"),
        ("---\ntags: [medical]\n---\n", None),
        ("---\na: [\n---\n", None),
        ("# no header", None),
        ("", None),
    ],
)
def test_licence_of_a_model_card(card: str, expected: str | None) -> None:
    assert licence_in(card) == expected


def test_every_part_has_its_licence_and_checksum(written: Path) -> None:
    found = json.loads((written / "sbom.cdx.json").read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    model, package = found["components"]
    assert (model["name"], model["licenses"]) == ("ward", [{"expression": "MIT"}])
    assert model["hashes"][0]["content"] == install.sha256(written / "model" / "ward.gguf")
    assert package["purl"] == f"pkg:pypi/jmedllm@{jmedllm.__version__}"
    references = [each["bom-ref"] for each in (model, package, *model["components"])]
    assert len(references) == len(set(references))


def test_a_model_directory_is_served_under_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "ward 3"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    save_file({"a": np.zeros(1)}, folder / "model.safetensors")
    (folder / "LICENSE").write_text("words")
    (folder / "modeling_ward.py").write_text("raise SystemExit")
    model = find_model(str(folder))
    assert model.served == "model/ward-3"
    assert {name for name in model.requirements if name.startswith("torch")} == {"torch>=2.10"}
    names = {name.rpartition("/")[2] for name in model.files}
    assert {"config.json", "model.safetensors", "tokenizer.json", "LICENSE"} <= names
    assert "modeling_ward.py" not in names
    found = model.component(dict.fromkeys(model.files, "0" * 64))
    assert (len(found.sha256 or ""), len(found.parts)) == (64, len(model.files))


def test_a_run_with_several_files_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT, "stages": {}}))
    (tmp_path / "deploy").mkdir()
    for name in ("a-f16.gguf", "a-q8_0.gguf"):
        (tmp_path / "deploy" / name).touch()
    with pytest.raises(
        InputError, match=r"several GGUF files; give one of them instead: .*a-f16\.gguf, .*a-q8_0\.gguf"
    ):
        find_model(str(tmp_path))


def test_what_has_no_licence_says_so() -> None:
    part = Component("data", "letters of the ward")
    assert f"| letters of the ward | - | {UNKNOWN} | - |" in licence_table([part])
    assert sbom("x", [part])["components"][0]["licenses"] == [{"license": {"name": "NOASSERTION"}}]


def test_data_of_a_run_has_its_licences(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus" / "reports.jsonl"
    corpus.parent.mkdir()
    rows = [
        {"text": "a", "license": "CC BY 4.0"},
        {"text": "b", "license": None},
        {"text": "c", "license": "CC BY 4.0"},
    ]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    questions = [
        {"benchmark": "medqa", "languages": ["en"], "split": "train"},
        {"benchmark": "demo", "languages": ["ja"], "split": "train"},
        {"benchmark": "ours.jsonl", "languages": ["ja"], "split": "train"},
    ]
    stages = {
        "corpus": {"recipe": {"base": {"path": None}}, "outputs": {"files": ["corpus/reports.jsonl"]}},
        "mpeft": {"recipe": {}, "inputs": {"settings": {"questions": questions}}},
    }
    documents, medqa, demo, own = training_data(tmp_path, {"stages": stages})
    assert (documents.licence, documents.sha256) == ("CC BY 4.0; not stated", install.sha256(corpus))
    assert (medqa.name, medqa.licence, len(medqa.sha256 or "")) == ("medqa en", "MIT", 64)
    assert (demo.licence, len(demo.sha256 or "")) == ("Apache-2.0", 64)
    assert (own.licence, own.sha256) == (None, None)


@pytest.mark.parametrize(
    ("python", "platform", "expected"),
    [
        ("3.11", "manylinux_2_28_x86_64", Target("3.11", (2, 28), "x86_64")),
        ("3.13", "manylinux2014_aarch64", Target("3.13", (2, 17), "aarch64")),
        ("3.9", "manylinux_2_28_x86_64", "needs a version of Python from 3.11"),
        ("3", "manylinux_2_28_x86_64", "needs a version of Python from 3.11"),
        ("3.12", "win_amd64", "give a platform of Linux"),
        ("3.12", "manylinux_2_28_arm64", "give a platform of Linux"),
    ],
)
def test_targets(python: str, platform: str, expected: Target | str) -> None:
    if isinstance(expected, Target):
        assert parse_target(python, platform) == expected
        return
    with pytest.raises(InputError, match=expected):
        parse_target(python, platform)


def test_platforms_are_those_that_pip_knows() -> None:
    from packaging.tags import _manylinux  # type: ignore[attr-defined]

    known = set(_manylinux.platform_tags([HERE.machine]))
    assert {name for name in HERE.platforms if not name.startswith("manylinux1_")} <= known | {HERE.platforms[-1]}


REQUIRES = {
    "a": ["b>=2; python_version < '3.13'", "c; sys_platform == 'win32'", "D_e[fast]", "f; extra == 'g'", "A"],
    "d-e": ["h; extra == 'fast'", "i; extra == 'slow'", "a"],
}


@pytest.mark.parametrize(
    ("python", "given", "expected"),
    [
        ("3.13", "a", {"a", "d-e", "h"}),
        ("3.12", "a", {"a", "b", "d-e", "h"}),
        ("3.13", "a[g]", {"a", "d-e", "f", "h"}),
        ("3.13", "d.e", {"a", "d-e", "h"}),
    ],
)
def test_requirements_are_read_for_the_target(python: str, given: str, expected: set[str]) -> None:
    found = closure([given], lambda name: REQUIRES.get(name, ()), Target(python, (2, 28), "x86_64"))
    assert set(found) == expected


def test_a_missing_wheel_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"No matching distribution found for xllamacpp==.*; add it to {tmp_path}$"):
        download_wheels(["xllamacpp"], HERE, tmp_path / "wheels", tmp_path)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("model-q4_k_m", "model-q4_k_m"), ("my model's", "my-model-s"), ("日本語", "model"), ("..", "model")],
)
def test_names_need_no_quotes(written: str, expected: str) -> None:
    assert plain_name(written) == expected


def test_the_key_does_not_go_into_the_journal(written: Path) -> None:
    unit = (written / "jmedllm.service").read_text()  # the address with the key is all that goes to standard output
    assert {"StandardOutput=null", "StandardError=journal"} <= set(unit.splitlines())


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit_and_finds_it_tight(written: Path) -> None:
    unit = written / "jmedllm.service"
    copy = shutil.copy(unit, unit.parent.parent / "jmedllm.service")
    verified = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=15", copy]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0  # exposure of at most 1.5 of 10
