"""What a caller sends as a stream, with the assurance that its end is the caller's own."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import grpc

T = TypeVar("T")


async def whole(requests: AsyncIterator[T], context: Any) -> AsyncIterator[T]:
    """The messages of a call that answers once; it ends only if the caller has closed its side.

    To grpc.aio a call that was cancelled, or whose connection was lost, first looks as one whose caller has nothing
    more to say; the cancellation comes some turns of the loop later, when what was sent may have been stored already.
    The headers of the answer tell the two apart: on a stream that has gone they can no more be sent. Source: grpc core,
    chttp2: a reset closes a stream for writing before its reader is told of the end.

    Raises asyncio.CancelledError for a caller that went away. Cancelled, it ends once the headers are out: a status
    that is sent beside them would be lost, and its caller would wait for ever.
    """
    async for request in requests:
        yield request
    sending = asyncio.ensure_future(context.send_initial_metadata(()))
    try:
        await asyncio.shield(sending)
    except grpc.aio.BaseError as error:
        raise asyncio.CancelledError from error
    except asyncio.CancelledError:
        await asyncio.wait({sending})
        raise
