"""The list of sources as it is printed."""

from jmedllm.data.catalogue import SOURCES
from jmedllm.data.listing import listing


def test_it_fits_a_terminal():
    assert max(map(len, listing().splitlines())) <= 80


def test_every_source_is_listed():
    heads = [block.split(maxsplit=1)[0] for block in listing().split("\n\n")]
    assert heads == list(SOURCES)


def test_a_mirror_is_asked_for_once():
    entries = dict(zip(SOURCES, listing().split("\n\n"), strict=True))
    asked = {name: entry.count("--mirror") for name, entry in entries.items() if "--mirror" in entry}
    without_address = [name for name, source in SOURCES.items() if any(file.url is None for file in source.files)]
    assert asked == dict.fromkeys(without_address, 1)
    assert {"medqa-5", "medmcqa"} <= set(asked)
