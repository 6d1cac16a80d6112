"""TensorBoard's files: the bytes its own writer makes, and the numbers of the records."""

from __future__ import annotations

import json
import math
import struct
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kilonode.training import events

sys.path.append(str(Path(__file__).parent))
small = import_module("small_train")
STEPS, EPOCHS = small.STEPS, small.EPOCHS

CRCS = {  # RFC 3720, appendix B.4: CRC-32C of 32 bytes
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
}


@pytest.mark.parametrize("content", CRCS)
def test_sums_are_those_of_the_standard(content: bytes) -> None:
    crc = (events.masked_crc(content) - 0xA282EAD8) & 0xFFFFFFFF
    assert (crc << 15 | crc >> 17) & 0xFFFFFFFF == CRCS[content]


def varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (content[at] & 0x7F) << shift
        shift += 7
        at += 1
        if content[at - 1] < 0x80:
            return value, at


def message(content: bytes) -> dict[int, list[Any]]:
    """Fields of a protocol buffer, by number: integers, doubles, floats and bytes."""
    found: dict[int, list[Any]] = {}
    at = 0
    while at < len(content):
        key, at = varint(content, at)
        value: Any
        if key & 7 == 0:
            value, at = varint(content, at)
        elif key & 7 == 2:
            size, at = varint(content, at)
            value, at = content[at : at + size], at + size
        else:
            form, size = {1: ("<d", 8), 5: ("<f", 4)}[key & 7]
            value, at = struct.unpack_from(form, content, at)[0], at + size
        found.setdefault(key >> 3, []).append(value)
    return found


def read(path: Path) -> list[dict[int, list[Any]]]:
    """All events of a file, the sums checked."""
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        assert struct.unpack("<I", content[8:12])[0] == events.masked_crc(content[:8])
        body = content[12 : 12 + size]
        assert struct.unpack("<I", content[12 + size : 16 + size])[0] == events.masked_crc(body)
        found.append(message(body))
        content = content[16 + size :]
    return found


def scalars(event: dict[int, list[Any]]) -> dict[str, float]:
    values = [message(value) for value in message(event[5][0]).get(1, [])]
    return {value[1][0].decode(): value[2][0] for value in values}


# tensorboard 2.21.0: RecordWriter and Event of the same content
GOLDEN = (
    "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c2f000000000000006d5d"
    "1d500900001040fc54d94110ac022a210a0b0a046c6f7373150000003e0a120a0b737465705f6d732f70353015000020c094"
    "fb0068"
)


def test_the_bytes_are_those_of_tensorboards_own_writer() -> None:
    parts = [events.header(1.5), events.event(1700000000.25, 300, {"loss": 0.125, "step_ms/p50": -2.5})]
    assert b"".join(map(events.record, parts)).hex() == GOLDEN


def test_what_cannot_be_drawn_is_left_out() -> None:
    event = message(events.event(0.0, 2**40, {"good": 1.0, "bad": math.nan, "far": math.inf}))
    assert event[2] == [2**40]
    assert scalars(event) == {"good": 1.0}


def test_a_training_has_an_event_an_epoch_also_after_it_was_stopped(toy: Path, tmp_path: Path) -> None:
    """One file with every epoch once, whatever happened on the way."""
    here = small.here(toy)
    for mishaps in ([(f"step {STEPS + 3}", "SIGTERM")], [(f"save {2 * STEPS}", "defect")], []):
        here.train(tmp_path, accumulate=2, mishaps=mishaps)
    assert small.status(tmp_path)["status"] == "complete"
    (path,) = tmp_path.glob("events.out.tfevents.*")
    header, *epochs = read(path)
    assert header[3] == [b"brain.Event:2"]
    assert [event[2] for event in epochs] == [[STEPS * epoch] for epoch in range(1, EPOCHS + 1)]
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for event, record in zip(epochs, lines, strict=True):
        assert event[1] == [record["time"]]
        found = scalars(event)
        assert found["validation_loss"] == pytest.approx(record["validation_loss"], rel=1e-6)
        assert found["step_ms/p95"] == pytest.approx(record["step_ms"]["p95"], rel=1e-6)
        assert set(found) >= {"train_loss", "lr", "samples_per_s", "input_wait", "communication_wait"}
