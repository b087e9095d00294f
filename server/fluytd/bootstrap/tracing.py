"""Traces: sent to the collector that the settings name, else none are made and nothing is imported for them."""

import asyncio
from collections.abc import Callable

from fluytd import __version__, tracing
from fluytd.bootstrap.base import Base
from fluytd.errors import FieldInvalid


def begin_tracing(base: Base) -> None:
    """Calls and steps are traced until the engine stops, if the settings name a collector.

    Raises FIELD_INVALID where the extra that it takes is not installed.
    """
    if not base.config.trace_endpoint:
        return
    try:
        from fluytd.tracing import otel  # noqa: PLC0415 - an extra, which is not there unless it is asked for
    except ImportError as error:
        rule = f"needs what `pip install 'fluytd[otel]'` brings ({error.name})"
        raise FieldInvalid(field="trace_endpoint", rule=rule) from error
    tracer = otel.exporting(
        base.config.trace_endpoint,
        version=__version__,
        identity=base.identity,
        sample_percent=base.config.trace_sample_percent,
    )
    tracing.install(tracer)
    base.undo.push_async_callback(_end, tracer.close)


async def _end(close: Callable[[], None]) -> None:
    tracing.install(None)
    await asyncio.to_thread(close)
