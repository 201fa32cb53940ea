"""What Engine.export_prefix gives, read and written by hand (cpp/core/prefix_file.cc, digest.cc): to lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_WORD = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
_LANES = (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89)


@dataclass
class Entry:
    length: int
    answer: int
    content: bytes
    state: bytes


@dataclass
class SavedPrefix:
    head: bytes
    fingerprint: bytes
    entries: list[Entry]


def _turned(word: int, bits: int) -> int:
    return ((word << bits) | (word >> (64 - bits))) & _WORD


def _mixed(word: int) -> int:
    word = ((word ^ (word >> 32)) * _ODD) & _WORD
    word = ((word ^ (word >> 29)) * _ODD) & _WORD
    return word ^ (word >> 32)


def digest(data: bytes) -> bytes:
    lanes = list(_LANES)
    padded = data + b"\0" * (32 - len(data) % 32)
    for begin in range(0, len(padded), 32):
        for lane, word in enumerate(struct.unpack_from("<4Q", padded, begin)):
            lanes[lane] = _turned(((lanes[lane] ^ word) * _ODD) & _WORD, 31)
    halves = []
    for half in range(2):
        value = _mixed((len(data) + half) & _WORD)
        for i in range(4):
            value = _mixed((_turned(value, 7 + 12 * half) + lanes[(i + half) % 4]) & _WORD)
        halves.append(value)
    return struct.pack("<2Q", *halves)


def read(data: bytes) -> SavedPrefix:
    assert digest(data[:-16]) == data[-16:]
    at = 8

    def text() -> bytes:
        nonlocal at
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + size
        return data[at - size : at]

    fingerprint = text()
    (count,) = struct.unpack_from("<I", data, at)
    at += 4
    entries = []
    for _ in range(count):
        length, answer = struct.unpack_from("<iB", data, at)
        at += 5
        entries.append(Entry(length, answer, text(), text()))
    return SavedPrefix(data[:8], fingerprint, entries)


def write(prefix: SavedPrefix) -> bytes:
    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    data = prefix.head + text(prefix.fingerprint) + struct.pack("<I", len(prefix.entries))
    for entry in prefix.entries:
        data += struct.pack("<iB", entry.length, entry.answer) + text(entry.content) + text(entry.state)
    return data + digest(data)
