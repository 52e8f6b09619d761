"""The hot plane: many calls over one connection, almost free per call.

A frame is a fixed binary header, a header message (protobuf, not parsed here) and a raw payload.
Calls are matched by id. All frames made in one tick of the event loop leave in one `writelines`;
payloads of 64 KiB and more are received straight into the buffer they are meant for.
"""

from common.frames.client import FrameClient
from common.frames.client_peer import Patience, Reply
from common.frames.server import Answer, Call, FrameServer, Handler, Slot, Slots

__all__ = [
    "Answer",
    "Call",
    "FrameClient",
    "FrameServer",
    "Handler",
    "Patience",
    "Reply",
    "Slot",
    "Slots",
]
