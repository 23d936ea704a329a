"""A training bundle carries what was chosen, names what it leaves out, and accepts no wheel but those of the lock."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_constraints import wheel

from jmedllm.bundle import install
from jmedllm.bundle.constraints import Pin, read_constraints
from jmedllm.bundle.contents import gather
from jmedllm.bundle.locked_wheels import resolve_wheels
from jmedllm.bundle.target import parse_target, this_python, usual_platform
from jmedllm.bundle.training_bundle import Sizes, extra_requirements, require_room, write_training_bundle
from jmedllm.data.catalogue import SOURCES
from jmedllm.errors import InputError
from jmedllm.files import hash_file

HERE = parse_target(this_python(), usual_platform())


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model as the Hugging Face cache has it: links to blobs."""
    blobs, folder = tmp_path / "blobs", tmp_path / "ward model"
    blobs.mkdir()
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (blobs / name).write_text("{}")
    save_file({"a": np.zeros(1)}, blobs / "model.safetensors")
    for file in blobs.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "modeling_ward.py").write_text("raise SystemExit")
    return folder


def test_what_is_left_out_is_named(model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "notes").mkdir(parents=True)
    (data / ".git").mkdir()
    (data / ".env").write_text("KEY=1")
    (data / "notes" / "a.jsonl").write_text('{"text": "a", "license": "CC BY 4.0"}\n')
    (data / "linked").symlink_to(tmp_path / "blobs")
    (data / "broken").symlink_to(tmp_path / "nowhere")
    found = gather([], [str(model)], [data])
    assert set(found.files) == {
        "data/notes/a.jsonl",
        *(f"models/ward-model/{each}" for each in ("config.json", "model.safetensors")),
        *(f"models/ward-model/{each}" for each in ("tokenizer.json", "tokenizer_config.json")),
    }
    assert [line.partition(": ")[0].removeprefix(f"{tmp_path}/") for line in found.left_out] == [
        "ward model/modeling_ward.py",
        "ward model/pytorch_model.bin",
        "data/.env",
        "data/broken",
        "data/linked",
        "data/.git",
    ]
    assert (found.components[0].licence, found.texts) == ("CC BY 4.0", ["data/notes/a.jsonl"])


def test_licences_of_known_data_are_listed(tmp_path: Path) -> None:
    source = next(each for each in SOURCES.values() if each.files[0].sha256)
    assert gather([], [], [Path(__file__)]).components[0].licence is None
    shared = Path(__file__).parents[3] / "shared" / "data" / source.files[0].path
    if not shared.is_file():
        pytest.skip("no real benchmark here")
    assert gather([], [], [shared]).components[0].licence == source.licence


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda folder: ([folder / "a" / "r.yaml", folder / "b" / "r.yaml"], [], []), "would both be recipes/r.yaml"),
        (lambda folder: ([], [], [folder / "a", folder / "b"]), "would both be data/r.yaml"),
        (lambda folder: ([], [], [folder / "none"]), "no such file or directory"),
        (lambda folder: ([], [], [folder / "empty"]), "has no files"),
        (lambda folder: ([], [str(folder / "a")], []), "config.json"),
    ],
    ids=["two recipes", "two data files", "missing", "empty", "no model"],
)
def test_contents_that_are_refused(given: Callable[[Path], tuple], expected: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.yaml").write_text("name: r\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=expected):
        gather(*given(tmp_path))


def test_extras_and_room(tmp_path: Path) -> None:
    plain, gguf = extra_requirements([]), extra_requirements(["gguf"])
    assert "pip" in plain
    assert [each.partition(">")[0] for each in gguf if each not in plain] == ["gguf"]
    with pytest.raises(InputError, match="--extras ward: no such extra; one of "):
        extra_requirements(["ward"])
    with pytest.raises(InputError, match=r"needs up to 1001000\.1 GB, and .* GB are free"):
        require_room(Sizes(10**15, 10**12), tmp_path / "bundle")


def test_a_virtual_environment_without_the_module_venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "venv", None)
    install.create_environment(tmp_path)
    program = "import json, site, sys; print(json.dumps([sys.prefix, site.getsitepackages()[0]]))"
    done = subprocess.run([tmp_path / "bin" / "python", "-I", "-c", program], capture_output=True, check=True)
    version = "python{}.{}".format(*sys.version_info[:2])
    assert json.loads(done.stdout) == [str(tmp_path), str(tmp_path / "lib" / version / "site-packages")]


@pytest.mark.exhaustive
def test_it_is_written_and_verified_from_a_folder_of_wheels(model: Path, tmp_path: Path) -> None:
    local, recipe = tmp_path / "local", tmp_path / "ward.yaml"
    local.mkdir()
    file = wheel(local, "1.0")
    recipe.write_text("name: ward\n")
    lock = tmp_path / "constraints.txt"
    lock.write_text(f"# bytes: x86_64 900, aarch64 900\nward==1.0 --hash=sha256:{hash_file(file)}\n")
    lines = resolve_wheels(["ward"], HERE, read_constraints(lock), {}, local)
    contents = gather([recipe], [str(model)], [])
    for name in ("one", "two"):
        write_training_bundle(contents, lines, tmp_path / name, HERE, local, lock)
    one, two = tmp_path / "one", tmp_path / "two"
    assert (one / "wheels" / file.name).read_bytes() == (two / "wheels" / file.name).read_bytes()
    assert install.verify(one) == []
    assert not [path for path in one.rglob("*") if path.is_symlink() or path.stat().st_mode & 0o077]
    listed = json.loads((one / "sbom.cdx.json").read_text())["components"]
    parts = [part for each in listed for part in (each, *each.get("components", ()))]
    assert all(part["hashes"] and part["licenses"] for part in parts)
    assert {"ward-model", "ward.yaml", "ward", "jmedllm"} == {each["name"] for each in listed}
    names = install.files(one) - {install.SUMS}
    assert {"install.sh", "recipes/ward.yaml", "models/ward-model/model.safetensors", "constraints.txt"} < names
    for name in sorted(names - {name for name in names if name.startswith("licences/")}):
        content = (one / name).read_bytes()
        (one / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert install.verify(one) == [f"{name}: changed; its checksum is not that of SHA256SUMS"]
        (one / name).write_bytes(content)
    (one / "recipes" / "ward.yaml").unlink()
    (one / "run.sh").touch()
    assert install.verify(one) == ["recipes/ward.yaml: missing", "run.sh: added; SHA256SUMS does not list it"]


@pytest.mark.exhaustive
def test_a_wheel_that_is_not_in_the_lock_is_refused(tmp_path: Path) -> None:
    file = wheel(tmp_path, "1.0")
    pins = {"ward": Pin("ward", "1.0", ("0" * 64,), {HERE.machine: file.stat().st_size})}
    with pytest.raises(InputError, match="pip cannot get the wheels"):
        resolve_wheels(["ward"], HERE, pins, {}, tmp_path)
    with pytest.raises(InputError, match=r"constraints\.txt has 1\.0, and the bundle needs ward>=2"):
        resolve_wheels(["ward>=2"], HERE, pins, {}, tmp_path)
    with pytest.raises(InputError, match=r"other: is not in constraints\.txt"):
        resolve_wheels(["other"], HERE, pins, {}, tmp_path)
