"""Libraries that are compiled into the wheel of xllamacpp, which names none of them."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

from jmedllm.bundle.component import Component

LIBRARY = "xllamacpp/xllamacpp.abi3.so"


@dataclass(frozen=True, slots=True)
class Native:
    """A library in machine code.

    Attributes:
        name: its name.
        symbol: bytes that are in the machine code if it is compiled in.
        licence: its licence.
        copyright: its copyright line for the text of the MIT licence; None if the licence is another one.
    """

    name: str
    symbol: bytes
    licence: str = "MIT"
    copyright: str | None = None


NATIVE = (
    Native("llama.cpp", b"ggml_backend", copyright="Copyright (c) 2023-2026 The ggml authors"),
    Native("llamafile (matrix products)", b"llamafile_sgemm", copyright="Copyright 2024 Mozilla Foundation"),
    Native("cpp-httplib", b"N7httplib", copyright="Copyright (c) 2017-2026 Yuji Hirose"),
    Native("nlohmann-json", b"N8nlohmann", copyright="Copyright (c) 2013-2026 Niels Lohmann"),
    Native("stb_image", b"stbi_failure_reason", copyright="Copyright (c) 2017 Sean Barrett"),
    Native("llguidance with the Rust crates it uses", b"llguidance", copyright="Copyright (c) Microsoft Corporation."),
    Native("BoringSSL", b"BoringSSL", licence="Apache-2.0"),
)
"""Their licences are those of their repositories; BoringSSL's text is that of jmedllm."""


def native_parts(wheel: Path) -> tuple[Component, ...]:
    """Return the libraries in a wheel of xllamacpp, with the checksum of the machine code that has them all."""
    with ZipFile(wheel) as archive:
        if LIBRARY not in archive.namelist():
            return ()
        code = archive.read(LIBRARY)
    digest, about = sha256(code).hexdigest(), f"compiled into {LIBRARY}, to which the checksum belongs"
    return tuple(
        Component("library", each.name, None, each.licence, digest, about=about, texts=_texts(each))
        for each in NATIVE
        if each.symbol in code
    )


def _texts(part: Native) -> dict[str, bytes]:
    if part.copyright is None:
        return {}
    text = (Path(__file__).parent / "templates" / "MIT.txt").read_text(encoding="utf-8")
    return {"LICENSE": text.replace("{copyright}", part.copyright).encode()}
