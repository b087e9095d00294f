"""RPC bodies of OperationService."""

from collections.abc import AsyncIterator
from typing import Any, Final

from fluyt.v1 import operations_pb2, operations_pb2_grpc
from fluytd.api.convert.operations import to_operation
from fluytd.api.convert.values import from_page_token, page_size, to_page_token
from fluytd.errors import FieldInvalid
from fluytd.operations.service import OperationService

#: Operations of a page where the caller names no number, and the most that one has.
DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 1_000
#: A page ends early at about so many bytes, so that no message exceeds 1 MiB.
MAX_PAGE_BYTES: Final = 768 * 1024


class OperationServicer(operations_pb2_grpc.OperationServiceServicer):
    """Shows, follows and cancels operations for callers."""

    def __init__(self, operations: OperationService) -> None:
        """Serves `operations`."""
        self._operations = operations

    async def GetOperation(
        self, request: operations_pb2.GetOperationRequest, context: Any
    ) -> operations_pb2.GetOperationResponse:
        operation = self._operations.get(_id(request))
        return operations_pb2.GetOperationResponse(operation=to_operation(operation))

    async def ListOperations(
        self, request: operations_pb2.ListOperationsRequest, context: Any
    ) -> operations_pb2.ListOperationsResponse:
        limit = page_size(request.page_size, default=DEFAULT_PAGE_SIZE, maximum=MAX_PAGE_SIZE)
        after = from_page_token(request.page_token)
        response = operations_pb2.ListOperationsResponse()
        states, kinds = set(request.states), set(request.kinds)
        is_before_page, size_bytes, last_id = bool(after), 0, ""
        for operation in self._operations.list():
            if is_before_page:
                is_before_page = operation.id != after
                continue
            message = to_operation(operation)
            if (states and message.state not in states) or (kinds and message.kind not in kinds):
                continue
            if len(response.operations) == limit or size_bytes > MAX_PAGE_BYTES:
                response.next_page_token = to_page_token(last_id)
                break
            response.operations.append(message)
            size_bytes += message.ByteSize()
            last_id = message.id
        if is_before_page:
            raise FieldInvalid(field="page_token", rule="its operation is no longer kept; begin with the first page")
        return response

    async def WatchOperation(
        self, request: operations_pb2.WatchOperationRequest, context: Any
    ) -> AsyncIterator[operations_pb2.WatchOperationResponse]:
        async for operation in self._operations.watch(_id(request), request.from_sequence):
            yield operations_pb2.WatchOperationResponse(sequence=operation.sequence, operation=to_operation(operation))

    async def CancelOperation(
        self, request: operations_pb2.CancelOperationRequest, context: Any
    ) -> operations_pb2.CancelOperationResponse:
        operation = await self._operations.cancel(_id(request))
        return operations_pb2.CancelOperationResponse(operation=to_operation(operation))


def _id(request: Any) -> str:
    if not request.id:
        raise FieldInvalid(field="id", rule="must be given")
    text: str = request.id
    return text
