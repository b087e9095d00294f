"""Rows of `operations` <-> `Operation`. Progress is not kept: it is of interest only while the work runs."""

import json
from dataclasses import asdict
from typing import Any

from fluytd.errors import DataCorruptOnDisk, Failure
from fluytd.ids import OperationId
from fluytd.operations.model import (
    BuildResult,
    LoadedImage,
    LoadResult,
    Operation,
    OperationKind,
    OperationState,
    PruneResult,
    PullResult,
    PushResult,
    Result,
)
from fluytd.state.db import Transaction


def save(txn: Transaction, operation: Operation) -> None:
    """The row is the operation's."""
    record = asdict(operation)
    for name in ("id", "kind", "state", "create_time_unix_nanos", "request_id", "progress"):
        del record[name]
    record["result_type"] = type(operation.result).__name__ if operation.result else ""
    txn.execute(
        "INSERT INTO operations VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET state = excluded.state, record = excluded.record",
        (
            operation.id,
            operation.kind,
            operation.state,
            operation.create_time_unix_nanos,
            operation.request_id or None,
            json.dumps(record, separators=(",", ":")),
        ),
    )


def load_all(txn: Transaction) -> list[Operation]:
    """Every operation, oldest first. Raises DATA_CORRUPT."""
    rows = txn.all(
        "SELECT id, kind, state, create_time_unix_nanos, request_id, record FROM operations"
        " ORDER BY create_time_unix_nanos, id"
    )
    return [_operation(*row) for row in rows]


def delete(txn: Transaction, ids: list[OperationId]) -> None:
    """These rows are gone."""
    txn.execute_many("DELETE FROM operations WHERE id = ?", [(operation_id,) for operation_id in ids])


def _operation(*row: Any) -> Operation:
    operation_id, kind, state, create_time, request_id, record = row
    try:
        values: dict[str, Any] = json.loads(record)
        result = _result(values.pop("result_type"), values.pop("result"))
        failure = values.pop("failure")
        return Operation(
            id=OperationId(operation_id),
            kind=OperationKind(kind),
            state=OperationState(state),
            create_time_unix_nanos=create_time,
            request_id=request_id or "",
            failure=Failure(**failure) if failure else None,
            result=result,
            **values,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataCorruptOnDisk(path=f"state.db: operation {operation_id}", detail=str(error)) from error


def _result(kind: str, values: dict[str, Any] | None) -> Result | None:
    if values is None:
        return None
    if kind == PullResult.__name__:
        return PullResult(**values | {"references": tuple(values["references"])})
    if kind == PushResult.__name__:
        return PushResult(**values | {"references": tuple(values["references"])})
    if kind == PruneResult.__name__:
        return PruneResult(**values | {"deleted": tuple(values["deleted"])})
    if kind == BuildResult.__name__:
        lists = {name: tuple(values[name]) for name in ("references", "warnings")}
        return BuildResult(**values | lists)
    images = tuple(LoadedImage(**image | {"references": tuple(image["references"])}) for image in values["images"])
    return LoadResult(images)
