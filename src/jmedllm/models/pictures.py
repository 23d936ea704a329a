"""Read pictures as every model sees them."""

import warnings
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError, not_installed

LARGEST_UPLOAD = 20 * 2**20
"""Maximum size in bytes of a picture that is sent to a server."""

_MORE_BITS = ("I", "F")
"""Beginnings of Pillow's modes with more than 8 bits per channel. Pillow would clip them to 8 bits, which turns most
of an X-ray white."""


def read_picture(path: Path) -> Any:
    """Return a picture as an RGB `PIL.Image`, upright as its EXIF orientation says, transparent parts white.

    Raises:
        InputError: Pillow is not installed, or the file is not one picture with 8 bits per channel.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise not_installed(f"{path}: showing a picture", "pillow") from None
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise InputError(f"{path}: contains {count} pictures; save each as a file of its own")
            if image.mode.startswith(_MORE_BITS):
                raise InputError(f"{path}: has more than 8 bits per channel; save it as a PNG with 8 bits")
            return _on_white(ImageOps.exif_transpose(image))
    # Pillow's decoders raise many kinds of exceptions for broken files.
    except (OSError, ValueError, SyntaxError, LookupError, EOFError, Image.DecompressionBombError) as error:
        reason = "not a picture that Pillow can read" if type(error).__name__ == "UnidentifiedImageError" else error
        raise InputError(f"{path}: {reason}; save it as PNG or JPEG") from error


def _on_white(image: Any) -> Any:
    """Return an RGB image with transparent parts white, below which Pillow keeps any color, mostly black."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    from PIL import Image

    above = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above).convert("RGB")


def data_url(path: Path) -> str:
    """Return a picture as a data URL of a PNG, as `read_picture` returns it and without any metadata.

    Raises:
        InputError: see `read_picture`; or the PNG is larger than `LARGEST_UPLOAD`.
    """
    buffer = BytesIO()
    read_picture(path).save(buffer, format="PNG")
    if buffer.tell() > LARGEST_UPLOAD:
        sizes = f"{buffer.tell() / 2**20:.1f} MiB as PNG, more than the {LARGEST_UPLOAD >> 20} MiB"
        raise InputError(f"{path}: has {sizes} that are sent to a server; save it with fewer pixels")
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode('ascii')}"
