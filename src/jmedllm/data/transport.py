"""Download one file; temporary errors are retried."""

import http.client
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from jmedllm.errors import InputError
from jmedllm.offline import allow

PAUSES = (1.0, 4.0, 15.0)
"""Seconds to wait before each further attempt after a temporary error."""

TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that are worth another attempt."""

TIMEOUT = 60.0
"""Seconds without a byte until a connection counts as broken."""

BLOCK = 1 << 20
"""Bytes read at a time."""


class _TemporaryError(Exception):
    """An error that may not occur at the next attempt."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects: files of GitHub and Hugging Face are on other hosts."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        return super().redirect_request(req, fp, code, msg, headers, _allowed(newurl))


_OPENER = urllib.request.build_opener(_Redirects)


def _allowed(url: str) -> str:
    if not url.startswith("file:"):
        allow(url, "a request for a file")
    return url


def download(url: str, target: Path) -> None:
    """Download `url` (http, https or file) to `target`, which may be incomplete after an error.

    Raises:
        InputError: the address does not exist, or all attempts failed.
        OSError: `target` cannot be written.
    """
    for pause in PAUSES:
        try:
            return _attempt(url, target)
        except _TemporaryError:
            time.sleep(pause)
    try:
        return _attempt(url, target)
    except _TemporaryError as error:
        attempts = len(PAUSES) + 1
        raise InputError(
            f"cannot fetch {url}: {error} ({attempts} attempts); try again later or use another --mirror"
        ) from error


def _attempt(url: str, target: Path) -> None:
    with _open(url) as response, target.open("wb") as handle:
        received = 0
        while block := _read(response):
            handle.write(block)
            received += len(block)
        promised = response.headers.get("Content-Length")
    if promised is not None and received != int(promised):
        raise _TemporaryError(f"truncated, {received} of {promised} bytes")


def _open(url: str) -> http.client.HTTPResponse:
    try:
        response: http.client.HTTPResponse = _OPENER.open(_allowed(url), timeout=TIMEOUT)
        return response
    except urllib.error.HTTPError as error:
        if error.code in TEMPORARY_STATUSES:
            raise _TemporaryError(f"the server answers {error.code} {error.reason}") from error
        raise InputError(
            f"cannot fetch {url}: the server answers {error.code} {error.reason}; use another --mirror"
        ) from error
    except urllib.error.URLError as error:
        if url.startswith("file:"):
            raise InputError(f"cannot fetch {url}: {error.reason}; complete the mirror") from error
        raise _TemporaryError(str(error.reason)) from error
    except (OSError, http.client.HTTPException) as error:
        raise _TemporaryError(str(error) or type(error).__name__) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read the next block. A broken connection and an unwritable disk are both an OSError; here it is the former."""
    try:
        return response.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _TemporaryError(f"the connection broke: {error}") from error
