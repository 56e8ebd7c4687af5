"""A message's content as one object: a SuperNode fetches every object of a message by a request of its own.

A question of four arrays is thirteen objects to Flower, and packed it is three; a round over three sites takes half the
requests. What is packed is Flower's own form of a RecordDict.
"""

from __future__ import annotations

from typing import Any

NAME = "packed"


def packed(content: Any) -> Any:
    """``content``, a RecordDict, as a RecordDict of one value."""
    from flwr.app import ConfigRecord, RecordDict
    from flwr.common.serde import recorddict_to_proto

    return RecordDict({NAME: ConfigRecord({NAME: recorddict_to_proto(content).SerializeToString()})})


def unpacked(content: Any) -> Any:
    """Undo ``packed``; raises ValueError or KeyError where it is something else."""
    from flwr.common.serde import recorddict_from_proto
    from flwr.proto.recorddict_pb2 import RecordDict as Proto
    from google.protobuf.message import DecodeError

    data = content.config_records[NAME][NAME]
    try:
        return recorddict_from_proto(Proto.FromString(data))
    except (DecodeError, TypeError) as error:
        raise ValueError(f"not the content of a message ({type(error).__name__}).") from None
