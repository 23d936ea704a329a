"""Only files whose checksum is known are loaded."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from jmedllm.deploy.trust import add_trusted, require_trusted, trusted_list
from jmedllm.errors import InputError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "model 漢字.gguf"
    path.write_bytes(b"GGUF and more")
    return path


def test_a_file_from_elsewhere_is_refused_with_its_checksum_until_the_user_trusts_it(file: Path) -> None:
    with pytest.raises(InputError, match=sha256(b"GGUF and more").hexdigest()) as refused:
        require_trusted(file, False)
    assert "--trust" in str(refused.value) and not trusted_list().exists()
    require_trusted(file, True)
    require_trusted(file, False)
    require_trusted(file.rename(file.with_name("renamed.gguf")), False)
    assert trusted_list().stat().st_mode & 0o777 == 0o600


def test_a_file_that_was_written_here_is_trusted_once_and_not_after_a_change(file: Path) -> None:
    add_trusted(file)
    add_trusted(file)
    require_trusted(file, False)
    assert len(trusted_list().read_text().splitlines()) == 1
    file.write_bytes(b"GGUF and mora")
    with pytest.raises(InputError, match="was not exported here"):
        require_trusted(file, False)


def test_a_file_is_trusted_under_the_name_that_it_will_have(file: Path) -> None:
    final = file.with_name("final.gguf")
    add_trusted(file, final)
    file.replace(final)
    require_trusted(final, False)
    assert trusted_list().read_text(encoding="utf-8").endswith(f"  {final}\n")


@pytest.mark.parametrize("line", ["{sum}  {name}", "{sum} *./{name}", "{SUM}  {name}\n"])
def test_the_list_beside_a_file_vouches_for_it_and_refuses_a_flipped_byte(file: Path, line: str) -> None:
    digest = sha256(file.read_bytes()).hexdigest()
    written = line.format(sum=digest, SUM=digest.upper(), name=file.name)
    file.with_name("SHA256SUMS").write_text(f"# a bundle\n{'0' * 64}  other.gguf\n{written}\n")
    require_trusted(file, False)
    file.write_bytes(b"GGUF and mora")
    for trust in (False, True):
        with pytest.raises(InputError, match=r"is not the file that .*SHA256SUMS names"):
            require_trusted(file, trust)


def test_without_a_list_that_can_be_written_a_file_can_still_be_trusted(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(file))  # a file, not a folder
    require_trusted(file, True)
    assert "not in the list of trusted files" in capsys.readouterr().err


def test_prove_does_not_load_a_file_from_elsewhere(file: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    code, _, errors = cli("deploy", "prove", file, "--against", file.parent)
    assert code == 2 and "give --trust" in errors
