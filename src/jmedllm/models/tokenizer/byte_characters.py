"""The characters in which byte-level BPE writes bytes."""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
"""Bytes that byte-level BPE writes as the character of the same number; the others follow from 256 on (Radford et
al. 2019, GPT-2)."""

BYTES = {chr(byte): byte for byte in _PRINTABLE} | {
    chr(256 + number): byte for number, byte in enumerate(sorted(set(range(256)) - set(_PRINTABLE)))
}
"""The byte of each of the 256 characters that byte-level BPE writes."""
