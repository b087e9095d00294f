"""Operations -> messages. Names of kinds, states and phases are the same in model and message."""

from fluyt.v1.types import operation_pb2, platform_pb2
from fluytd.api.convert.values import to_failure, to_timestamp
from fluytd.operations.model import (
    BuildProgress,
    BuildResult,
    BuildStep,
    LayerProgress,
    LoadProgress,
    LoadResult,
    Operation,
    Progress,
    PruneProgress,
    PruneResult,
    PullProgress,
    PullResult,
    PushProgress,
    PushResult,
    Result,
)


def to_operation(operation: Operation) -> operation_pb2.Operation:
    """The message of an operation as it stands."""
    message = operation_pb2.Operation(
        id=operation.id,
        kind=operation_pb2.Operation.Kind.Value(f"KIND_{operation.kind.value}"),
        subject=operation.subject,
        state=operation_pb2.Operation.State.Value(f"STATE_{operation.state.value}"),
        sequence=operation.sequence,
        create_time=to_timestamp(operation.create_time_unix_nanos),
        update_time=to_timestamp(operation.update_time_unix_nanos),
        end_time=to_timestamp(operation.end_time_unix_nanos),
        cancel_requested=operation.is_cancel_requested and not operation.is_ended,
        failure=to_failure(operation.failure),
    )
    if operation.progress is not None:
        _set_progress(message, operation.progress)
    if operation.result is not None:
        _set_result(message, operation.result)
    return message


def to_platform(text: str) -> platform_pb2.Platform | None:
    """`os/architecture[/variant]` as a message; None if empty."""
    if not text:
        return None
    os, architecture, variant = (*text.split("/"), "", "")[:3]
    return platform_pb2.Platform(os=os, architecture=architecture, variant=variant)


def _set_progress(message: operation_pb2.Operation, progress: Progress) -> None:
    match progress:
        case PullProgress():
            message.pull_progress.CopyFrom(
                operation_pb2.PullProgress(
                    phase=operation_pb2.PullProgress.Phase.Value(f"PHASE_{progress.phase.value}"),
                    manifest_digest=progress.manifest_digest,
                    platform=to_platform(progress.platform),
                    layers=[_to_layer(layer) for layer in progress.layers],
                )
            )
        case PushProgress():
            message.push_progress.CopyFrom(
                operation_pb2.PushProgress(
                    reference=progress.reference, layers=[_to_layer(layer) for layer in progress.layers]
                )
            )
        case LoadProgress():
            message.load_progress.CopyFrom(
                operation_pb2.LoadProgress(
                    received_bytes=progress.received_bytes,
                    layers=[_to_layer(layer) for layer in progress.layers],
                    references=progress.references,
                )
            )
        case BuildProgress():
            message.build_progress.CopyFrom(
                operation_pb2.BuildProgress(steps=[to_build_step(step) for step in progress.steps])
            )
        case PruneProgress():
            message.prune_progress.CopyFrom(
                operation_pb2.PruneProgress(
                    examined_count=progress.examined_count, reclaimed_bytes=progress.reclaimed_bytes
                )
            )


def to_build_step(step: BuildStep) -> operation_pb2.BuildStep:
    """The message of a step of a build."""
    return operation_pb2.BuildStep(
        number=step.number,
        stage=step.stage,
        instruction=step.instruction,
        line=step.line,
        state=operation_pb2.BuildStep.State.Value(f"STATE_{step.state.value}"),
        start_time=to_timestamp(step.start_time_unix_nanos),
        end_time=to_timestamp(step.end_time_unix_nanos),
    )


def to_build_result(result: BuildResult) -> operation_pb2.BuildResult:
    """The message of what a build brought."""
    return operation_pb2.BuildResult(
        image_id=result.image_id,
        manifest_digest=result.manifest_digest,
        references=result.references,
        warnings=result.warnings,
    )


def _to_layer(layer: LayerProgress) -> operation_pb2.LayerProgress:
    return operation_pb2.LayerProgress(
        digest=layer.digest,
        diff_id=layer.diff_id,
        size_bytes=layer.size_bytes,
        phase=operation_pb2.LayerProgress.Phase.Value(f"PHASE_{layer.phase.value}"),
        transferred_bytes=layer.transferred_bytes,
        extracted_bytes=layer.extracted_bytes,
    )


def _set_result(message: operation_pb2.Operation, result: Result) -> None:
    match result:
        case PullResult():
            message.pull_result.CopyFrom(
                operation_pb2.PullResult(
                    reference=result.reference,
                    image_id=result.image_id,
                    manifest_digest=result.manifest_digest,
                    target_digest=result.target_digest,
                    was_present=result.was_present,
                    fetched_bytes=result.fetched_bytes,
                    references=result.references,
                )
            )
        case PushResult():
            message.push_result.CopyFrom(
                operation_pb2.PushResult(
                    references=result.references, digest=result.digest, sent_bytes=result.sent_bytes
                )
            )
        case LoadResult():
            message.load_result.CopyFrom(operation_pb2.LoadResult(images=to_loaded_images(result)))
        case BuildResult():
            message.build_result.CopyFrom(to_build_result(result))
        case PruneResult():
            message.prune_result.CopyFrom(
                operation_pb2.PruneResult(
                    deleted=result.deleted,
                    reclaimed_bytes=result.reclaimed_bytes,
                    deleted_count=result.deleted_count,
                )
            )


def to_loaded_images(result: LoadResult) -> list[operation_pb2.LoadedImage]:
    """The images of a load, in the order of the archive."""
    return [
        operation_pb2.LoadedImage(
            image_id=image.image_id, manifest_digest=image.manifest_digest, references=image.references
        )
        for image in result.images
    ]
