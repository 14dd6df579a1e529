"""ONNX models of three nodes, written byte by byte: the package onnx is no dependency of ours.

Field numbers are those of onnx.proto; protobuf's encoding is tag, then varint or length and bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT, INT = 1, 2  # of TensorProto.DataType and of AttributeProto.AttributeType


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _node(op: str, inputs: Sequence[str], output: str, **flags: int) -> bytes:
    named = b"".join(_bytes(1, name) for name in inputs) + _bytes(2, output) + _bytes(4, op)
    for name, value in flags.items():
        named += _bytes(5, _bytes(1, name) + _number(3, value) + _number(20, INT))
    return _bytes(1, named)


def _value(field: int, name: str, shape: Sequence[int | str]) -> bytes:
    dims = b"".join(
        _bytes(1, _number(1, size) if isinstance(size, int) else _bytes(2, size)) for size in shape
    )
    tensor = _number(1, FLOAT) + _bytes(2, dims)
    return _bytes(field, _bytes(1, name) + _bytes(2, _bytes(1, tensor)))


def write_onnx(path: Path, bias: float, shape: Sequence[int] = (80, 800)) -> Path:
    """A model that takes (n, *shape) and answers sigmoid(mean + bias), one number for all."""
    constant = _number(2, FLOAT) + _bytes(8, "bias") + _bytes(9, struct.pack("<f", bias))
    graph = b"".join(
        (
            _node("ReduceMean", ["input_features"], "mean", keepdims=0),
            _node("Add", ["mean", "bias"], "sum"),
            _node("Sigmoid", ["sum"], "logits"),
            _bytes(2, "tiny"),
            _bytes(5, constant),
            _value(11, "input_features", ["n", *shape]),
            _value(12, "logits", []),
        )
    )
    opset = _bytes(8, _bytes(1, "") + _number(2, 17))
    path.write_bytes(_number(1, 8) + opset + _bytes(7, graph))
    return path
