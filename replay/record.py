"""An experience as a row of plain columns, and as one packed record.

The row goes into the file, where anyone can read it; the record lies in RAM and is what the
checksum of a row is taken of. Letters of a shape: C context tokens, T own tokens.
"""

from __future__ import annotations

import math
import struct
import zlib
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from replay.errors import ReplayError
from replay.experience import Experience

# num_context, num_tokens, num_sampled, bytes of action, problem and tree; version, node, parent;
# temperature, advantage, value, value_target, outcome (NaN: none). A multiple of 8, so arrays stay aligned.
_HEADER = struct.Struct("<6I3q5d")
_NAN = math.nan


class Row(NamedTuple):
    """Columns of one experience, in the order of the table `nodes`, and its arrays."""

    problem: str
    tree: str
    node: int
    parent: int
    action: str
    version: int
    temperature: float
    advantage: float
    value: float
    value_target: float
    outcome: float | None
    num_context: int
    num_tokens: int
    num_sampled: int
    payload: bytes  # context [C] int32, ids [T] int32, logprobs [T] float32, sampled [T] one byte each


COLUMNS = Row._fields[:-1]


def row_of(experience: Experience) -> Row:
    """The row of an experience; ReplayError when a field could not be read back as it is."""
    context = _ids("context", experience.context)
    ids = _ids("ids", experience.ids)
    logprobs = np.asarray(experience.logprobs, dtype="<f4")
    sampled = np.asarray(experience.sampled, dtype=np.bool_)
    if not ids.shape == logprobs.shape == sampled.shape:
        raise ReplayError(
            f"ids, logprobs and sampled must have one entry a token, "
            f"got shapes {ids.shape}, {logprobs.shape} and {sampled.shape}"
        )
    if np.count_nonzero(np.isfinite(logprobs)) < len(logprobs):
        raise ReplayError("logprobs must be finite (0 where a token was forced)")
    return Row(
        problem=experience.problem,
        tree=experience.tree,
        node=int(experience.node),
        parent=int(experience.parent),
        action=str(experience.action),
        version=int(experience.version),
        temperature=_finite("temperature", experience.temperature),
        advantage=_finite("advantage", experience.advantage),
        value=_finite("value", experience.value),
        value_target=_finite("value_target", experience.value_target),
        outcome=None if experience.outcome is None else _finite("outcome", experience.outcome),
        num_context=len(context),
        num_tokens=len(ids),
        num_sampled=int(np.count_nonzero(sampled)),
        payload=b"".join((context.tobytes(), ids.tobytes(), logprobs.tobytes(), sampled.tobytes())),
    )


def pack(row: tuple[Any, ...]) -> bytes:
    """The record of a row's fields: header, arrays, then action, problem and tree as UTF-8."""
    # Written out, because a million of these are made when a buffer opens.
    (
        problem,
        tree,
        node,
        parent,
        action,
        version,
        temperature,
        advantage,
        value,
        value_target,
        outcome,
        num_context,
        num_tokens,
        num_sampled,
        payload,
    ) = row
    try:
        action_text, problem_text, tree_text = action.encode(), problem.encode(), tree.encode()
        header = _HEADER.pack(
            num_context,
            num_tokens,
            num_sampled,
            len(action_text),
            len(problem_text),
            len(tree_text),
            version,
            node,
            parent,
            temperature,
            advantage,
            value,
            value_target,
            _NAN if outcome is None else outcome,
        )
    except (struct.error, UnicodeEncodeError, AttributeError) as error:
        raise ReplayError(f"node {node!r} of tree {tree!r} cannot be packed: {error}") from error
    return b"".join((header, payload, action_text, problem_text, tree_text))


def checksum(record: bytes) -> int:
    """CRC-32 of a record: it covers every column and every array."""
    return zlib.crc32(record)


def unpack(buffer: npt.NDArray[np.uint8], start: int = 0) -> Experience:
    """The experience whose record begins at `start`. Its arrays are views of `buffer`."""
    fields = _HEADER.unpack_from(buffer.data, start)
    num_context, num_tokens, _, num_action, num_problem, num_tree, version, node, parent = fields[:9]
    temperature, advantage, value, value_target, outcome = fields[9:]
    at_ids = start + _HEADER.size + 4 * num_context
    at_text = at_ids + 9 * num_tokens
    text = buffer[at_text : at_text + num_action + num_problem + num_tree].tobytes()
    return Experience(
        context=np.frombuffer(buffer, "<i4", num_context, start + _HEADER.size),
        ids=np.frombuffer(buffer, "<i4", num_tokens, at_ids),
        logprobs=np.frombuffer(buffer, "<f4", num_tokens, at_ids + 4 * num_tokens),
        sampled=np.frombuffer(buffer, np.bool_, num_tokens, at_ids + 8 * num_tokens),
        temperature=temperature,
        advantage=advantage,
        value=value,
        value_target=value_target,
        outcome=None if math.isnan(outcome) else outcome,
        version=version,
        action=text[:num_action].decode(),
        problem=text[num_action : num_action + num_problem].decode(),
        tree=text[num_action + num_problem :].decode(),
        node=node,
        parent=parent,
    )


def _ids(name: str, array: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    found = np.asarray(array)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise ReplayError(f"{name} must be one row of int32, got {found.dtype} of shape {found.shape}")
    packed = found.astype("<i4")
    if found.dtype != packed.dtype and not np.array_equal(packed, found):
        raise ReplayError(f"{name} must fit in int32, got values up to {found.max()}")
    return packed


def _finite(name: str, number: float) -> float:
    if not math.isfinite(number):
        raise ReplayError(f"{name} must be finite, got {number}")
    return float(number) + 0.0  # SQLite stores -0.0 as 0.0, which would fail the checksum
