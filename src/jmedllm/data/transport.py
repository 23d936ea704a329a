"""Download one file; temporary errors are retried."""

import shutil
import time
from pathlib import Path
from urllib.parse import urljoin, urlsplit
from urllib.request import url2pathname

from jmedllm.errors import InputError
from jmedllm.http_client import TEMPORARY, Limits, RedirectError, RefusedReplyError, ask
from jmedllm.named_server import ClientOptions
from jmedllm.offline import allow, is_loopback

PAUSES = (1.0, 4.0, 15.0)
"""Seconds to wait before each further attempt after a temporary error."""

TEMPORARY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that are worth another attempt."""

IDLE_S, FILE_S, FILE_MB = 60.0, 3600.0, 4096
"""Limits of one file: seconds without a byte, seconds altogether, and size in MiB. The largest file of a benchmark has
some 150 MB."""

REDIRECTS = 5
"""Redirects that are followed: files of GitHub and Hugging Face are on other hosts."""


class _TemporaryError(Exception):
    """An error that may not occur at the next attempt."""


def download(url: str, target: Path, options: ClientOptions) -> None:
    """Download `url` (http, https or file) to `target`, which may be incomplete after an error.

    Args:
        url: the address.
        target: the file to write.
        options: its proxy and time limit.

    Raises:
        InputError: the address does not exist, the file exceeds the limits, or all attempts failed.
        OSError: `target` cannot be written.
    """
    if url.startswith("file:"):
        return _copy(url, target)
    for pause in PAUSES:
        try:
            return _attempt(url, target, options)
        except _TemporaryError:
            time.sleep(pause)
    try:
        return _attempt(url, target, options)
    except _TemporaryError as error:
        attempts = len(PAUSES) + 1
        raise InputError(
            f"cannot fetch {url}: {error} ({attempts} attempts); try again later or use another --mirror"
        ) from error


def _copy(url: str, target: Path) -> None:
    try:
        source = Path(url2pathname(urlsplit(url).path)).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"cannot fetch {url}: {error}; complete the mirror") from error
    with source, target.open("wb") as handle:
        shutil.copyfileobj(source, handle)


def _attempt(url: str, target: Path, options: ClientOptions) -> None:
    place = url
    for _ in range(REDIRECTS + 1):
        try:
            return _fetch(place, url, target, options)
        except RedirectError as error:
            place = next_place(url, place, error.location)
        except RefusedReplyError as error:
            raise InputError(f"cannot fetch {url}: {error}, or use another --mirror") from error
        except TEMPORARY as error:
            raise _TemporaryError(str(error)) from error
    raise InputError(f"cannot fetch {url}: more than {REDIRECTS} redirects; use another --mirror")


def next_place(url: str, place: str, location: str) -> str:
    """Return where a redirect leads.

    Raises:
        InputError: it leads to another protocol, from https to http, or into this machine.
    """
    schemes = ("https",) if place.startswith("https:") else ("http", "https")
    try:
        to = urljoin(place, location)
        is_fine = urlsplit(to).scheme in schemes and (is_loopback(place) or not is_loopback(to))
    except ValueError:
        to, is_fine = location, False
    if not is_fine:
        raise InputError(f"cannot fetch {url}: redirects to {to[:200]}, which is not followed; use another --mirror")
    return to


def _fetch(place: str, url: str, target: Path, options: ClientOptions) -> None:
    for host in filter(None, (place, options.proxy)):
        allow(host, "a request for a file")
    limits = Limits(options.timeout_s or FILE_S, FILE_MB, IDLE_S)
    with ask(place, None, {}, limits, proxy=options.proxy) as reply:
        if reply.status in TEMPORARY_STATUSES:
            raise _TemporaryError(f"the server answers {reply.status} {reply.reason}")
        if reply.status != 200:
            raise InputError(
                f"cannot fetch {url}: the server answers {reply.status} {reply.reason}; use another --mirror"
            )
        with target.open("wb") as handle:
            for block in reply.blocks():
                handle.write(block)
