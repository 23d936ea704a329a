"""A wheel of this package, built from the installed files. The same files give the same bytes."""

import base64
import hashlib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import jmedllm
from jmedllm.errors import InputError

_FIRST_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip file can store; the real dates would differ from copy to copy."""

_WHEEL = "Wheel-Version: 1.0\nGenerator: jmedllm\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_own_wheel(folder: Path) -> Path:
    """Write the wheel of jmedllm, also from an editable checkout, and return its path.

    Raises:
        InputError: jmedllm was not installed, so that its metadata are missing.
    """
    root = Path(jmedllm.__file__).parent
    stem = f"jmedllm-{jmedllm.__version__}"
    contents = {
        f"jmedllm/{file.relative_to(root).as_posix()}": file.read_bytes()
        for file in root.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    contents |= {f"{stem}.dist-info/{name}": text for name, text in _metadata().items()}
    record = "".join(f"{name},{_digest(content)},{len(content)}\n" for name, content in sorted(contents.items()))
    contents[f"{stem}.dist-info/RECORD"] = f"{record}{stem}.dist-info/RECORD,,\n".encode()
    path = folder / f"{stem}-py3-none-any.whl"
    with ZipFile(path, "w") as archive:
        for name, content in sorted(contents.items()):
            info = ZipInfo(name, _FIRST_DATE)
            info.external_attr = 0o644 << 16
            info.compress_type = ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def _metadata() -> dict[str, bytes]:
    """Return the files of the wheel's metadata by name, without the record."""
    try:
        installed = distribution("jmedllm")
    except PackageNotFoundError:
        raise InputError("jmedllm is not installed here; install it first with: pip install -e .") from None
    texts = {"entry_points.txt": installed.read_text("entry_points.txt")}
    # A checkout has PKG-INFO and its licence elsewhere; Python finds these first where `src` is on its path.
    texts["METADATA"] = installed.read_text("METADATA") or installed.read_text("PKG-INFO")
    for name in installed.metadata.get_all("License-File") or ():
        stored = installed.read_text(f"licenses/{name}")
        texts[f"licenses/{name}"] = stored or (Path(jmedllm.__file__).parents[2] / name).read_text(encoding="utf-8")
    found = {name: text.encode() for name, text in texts.items() if text is not None}
    return found | {"WHEEL": _WHEEL.encode()}


def _digest(content: bytes) -> str:
    """Return a SHA-256 as the record of a wheel writes it."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
