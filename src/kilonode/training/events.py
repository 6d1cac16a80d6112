"""TensorBoard's event files, scalars only: what its own package writes, without its forty megabytes.

A file is a chain of records: length (uint64), masked CRC-32C of it, content, masked CRC-32C of that; the content is
a protocol buffer ``Event``. ``tensorboard --logdir results`` finds the files in the state folders of runs.

Source
------
tensorflow/core/util/event.proto, core/framework/summary.proto and core/lib/io/record_writer.cc (TensorFlow,
Apache 2.0), written from their format; the tests compare with bytes that tensorboard 2.21's writer made.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

VERSION = "brain.Event:2"


@cache
def _table() -> tuple[int, ...]:
    """Of CRC-32C (Castagnoli), reflected polynomial 0x82F63B78."""
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        found.append(byte)
    return tuple(found)


def masked_crc(content: bytes) -> int:
    """CRC-32C, turned and shifted as TFRecord files want it."""
    crc, table = 0xFFFFFFFF, _table()
    for byte in content:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(content: bytes) -> bytes:
    """One record of the file."""
    length = struct.pack("<Q", len(content))
    return length + struct.pack("<I", masked_crc(length)) + content + struct.pack("<I", masked_crc(content))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _part(field: int, content: bytes) -> bytes:
    """A field of a protocol buffer that has a length."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def header(wall_time: float) -> bytes:
    """The first event of a file."""
    return struct.pack("<Bd", 1 << 3 | 1, wall_time) + _part(3, VERSION.encode())


def event(wall_time: float, step: int, scalars: Mapping[str, float]) -> bytes:
    """An event with one value for each tag; values that are not finite are left out, TensorBoard cannot draw them."""
    values = [
        _part(1, _part(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value))
        for tag, value in scalars.items()
        if math.isfinite(value)
    ]
    return struct.pack("<Bd", 1 << 3 | 1, wall_time) + b"\x10" + _varint(step) + _part(5, b"".join(values))


def write(path: Path, events: bytes, append: bool) -> None:
    """Begin a file with records, or add to it."""
    with path.open("ab" if append else "wb") as stream:
        stream.write(events)
