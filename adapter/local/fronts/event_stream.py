"""The encoding `application/vnd.amazon.eventstream`: messages, each with headers and a payload. No I/O here.

https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

CONTENT_TYPE = "application/vnd.amazon.eventstream"

LENGTHS = struct.Struct("!II")  # of the whole message, of its headers
CHECKSUM = struct.Struct("!I")  # CRC32
NAME_LENGTH = struct.Struct("!B")
STRING = struct.Struct("!BH")  # a header value's type and length
STRING_TYPE = 7


def event(event_type: str, content_type: str, payload: bytes) -> bytes:
    """A message that is an event of a service's response."""
    return message({":event-type": event_type, ":content-type": content_type, ":message-type": "event"}, payload)


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """A message, encoded. Header names have up to 255 bytes of UTF-8, values up to 65,535; raises struct.error."""
    packed = b"".join(header(name.encode(), value.encode()) for name, value in headers.items())
    length = LENGTHS.size + CHECKSUM.size + len(packed) + len(payload) + CHECKSUM.size
    lengths = LENGTHS.pack(length, len(packed))
    # The second checksum is of all that comes before it, the first one included.
    checked = b"".join((lengths, CHECKSUM.pack(zlib.crc32(lengths)), packed, payload))
    return checked + CHECKSUM.pack(zlib.crc32(checked))


def header(name: bytes, value: bytes) -> bytes:
    return b"".join((NAME_LENGTH.pack(len(name)), name, STRING.pack(STRING_TYPE, len(value)), value))
