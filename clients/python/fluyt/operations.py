"""Operations: long work that goes on when its caller goes."""

from collections.abc import Iterator

import grpc

from fluyt.errors import CLASSES, FluytError, Internal, iterate, translated
from fluyt.v1 import operations_pb2, operations_pb2_grpc
from fluyt.v1.types import failure_pb2, operation_pb2


def get(connection: grpc.Channel, operation_id: str) -> operation_pb2.Operation:
    """Where an operation stands. Raises NotFound."""
    request = operations_pb2.GetOperationRequest(id=operation_id)
    with translated():
        return operations_pb2_grpc.OperationServiceStub(connection).GetOperation(request).operation


def list_all(connection: grpc.Channel) -> Iterator[operation_pb2.Operation]:
    """Every operation that is kept, newest first, fetched page by page."""
    stub = operations_pb2_grpc.OperationServiceStub(connection)
    token = ""
    while True:
        with translated():
            page = stub.ListOperations(operations_pb2.ListOperationsRequest(page_token=token))
        yield from page.operations
        token = page.next_page_token
        if not token:
            return


def watch(
    connection: grpc.Channel, operation_id: str, *, from_sequence: int = 0
) -> Iterator[operations_pb2.WatchOperationResponse]:
    """Its changes from a number on, its end last. Giving the iteration up does nothing to the operation."""
    request = operations_pb2.WatchOperationRequest(id=operation_id, from_sequence=from_sequence)
    return iterate(operations_pb2_grpc.OperationServiceStub(connection).WatchOperation(request))


def wait(connection: grpc.Channel, operation_id: str) -> operation_pb2.Operation:
    """The operation once it has ended. Raises the failure of one that did not succeed."""
    operation = operation_pb2.Operation()
    for change in watch(connection, operation_id):
        if change.HasField("operation"):
            operation = change.operation
    if operation.state != operation_pb2.Operation.STATE_SUCCEEDED:
        raise from_failure(operation.failure)
    return operation


def cancel(connection: grpc.Channel, operation_id: str) -> operation_pb2.Operation:
    """Asks an operation to end."""
    request = operations_pb2.CancelOperationRequest(id=operation_id)
    with translated():
        return operations_pb2_grpc.OperationServiceStub(connection).CancelOperation(request).operation


def from_failure(failure: failure_pb2.Failure) -> FluytError:
    """The exception for a failure that stands in a record."""
    code = next((one for one in grpc.StatusCode if one.value[0] == failure.code), grpc.StatusCode.UNKNOWN)
    error = CLASSES.get(code, Internal)(code, failure.message)
    error.reason, error.metadata, error.next_step = failure.reason, dict(failure.metadata), failure.next_step
    return error
