"""Wraps every RPC's body once, when the server is assembled: gate, errors, policy, request ids; and fills in NOT_BUILT.

The API's descriptors say which RPCs there are, so that none can be forgotten: an RPC whose servicer does not override
the generated method answers UNIMPLEMENTED with reason NOT_BUILT.
"""

import asyncio
import hashlib
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing
from types import ModuleType
from typing import Any, Final

import grpc
from google.protobuf import descriptor, message, message_factory

from fluytd import tracing
from fluytd.api.convert.auth import without_auth
from fluytd.api.gate import Gate, stopping
from fluytd.api.interceptors.errors import fail
from fluytd.api.interceptors.policy import Policy
from fluytd.api.uploads import whole
from fluytd.errors import NotBuilt
from fluytd.requests.service import RequestService

Context = Any  # grpc.aio.ServicerContext of any request and response
Body = Callable[[Any, Context], Any]

#: Unary RPCs that may last for ever and must not hold up a stop.
LASTING_UNARY: Final = frozenset({"/fluyt.v1.ContainerService/WaitContainer"})
#: RPCs whose first message may be long in coming. Their headers go ahead: clients (tonic, Go) wait for those before
#: they give their caller the stream.
HEADERS_AHEAD: Final = frozenset({"/fluyt.v1.BuildService/ReadBuildLog", "/fluyt.v1.LogService/ReadLogs"})


#: Told of a call that has ended: which RPC, the name of its status, the seconds it took.
Observe = Callable[[str, str, float], None]
_CANCELLED: Final = grpc.StatusCode.CANCELLED.value[0]
_CODE_NAMES: Final = {code.value[0]: code.name for code in grpc.StatusCode}


def unobserved(rpc: str, code: str, seconds: float) -> None:
    """Nobody is told."""


class Wrapper:
    """Makes grpc handlers of RPC bodies."""

    def __init__(
        self, gate: Gate, requests: RequestService | None, policy: Policy | None, observe: Observe = unobserved
    ) -> None:
        """`requests`: keeps answers by request id; `policy`: who may call what, None where root alone can connect;
        `observe`: told of each call that has ended."""
        self._observe = observe
        self._tracer = tracing.installed()
        self._gate = gate
        self._requests = requests
        self._policy = policy

    def handlers(
        self, modules: Iterable[tuple[ModuleType, ModuleType]], servicers: Iterable[object]
    ) -> Iterator[tuple[str, grpc.GenericRpcHandler]]:
        """(full name, handler) of every service declared in `modules` (messages, services), built or not.

        Raises TypeError for a servicer of no such service, and for a body that is not asynchronous.
        """
        left = list(servicers)
        for messages, services in modules:
            for service in messages.DESCRIPTOR.services_by_name.values():
                base = getattr(services, f"{service.name}Servicer")
                servicer = next((one for one in left if isinstance(one, base)), None)
                if servicer is not None:
                    left.remove(servicer)
                methods = {method.name: self._handler(method, base, servicer) for method in service.methods}
                yield service.full_name, grpc.method_handlers_generic_handler(service.full_name, methods)
        if left:
            raise TypeError(f"no service of the API is served by {left}")

    def _handler(
        self, method: descriptor.MethodDescriptor, base: type[object], servicer: object | None
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        rpc = f"/{method.containing_service.full_name}/{method.name}"
        is_built = servicer is not None and getattr(type(servicer), method.name) is not getattr(base, method.name)
        body: Body = getattr(servicer, method.name) if is_built else _not_built(rpc, method.server_streaming)
        if not (inspect.isasyncgenfunction(body) if method.server_streaming else inspect.iscoroutinefunction(body)):
            raise TypeError(f"{rpc} must be an asynchronous {'generator' if method.server_streaming else 'function'}")
        response = message_factory.GetMessageClass(method.output_type)
        takes_request_id = "request_id" in method.input_type.fields_by_name
        if is_built and takes_request_id and not method.server_streaming and self._requests is not None:
            body = _answered_once(rpc, body, response, self._requests)
        call = self._stream(rpc, body) if method.server_streaming else self._unary(rpc, body, method.client_streaming)
        if self._tracer is not None:
            call = _traced(rpc, call, self._tracer)
        call = _observed(rpc, call, self._observe)
        make = getattr(
            grpc,
            f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
            "_rpc_method_handler",
        )
        request = message_factory.GetMessageClass(method.input_type)
        handler: grpc.RpcMethodHandler[Any, Any] = make(
            call, request_deserializer=request.FromString, response_serializer=_serialized
        )
        return handler

    def _unary(self, rpc: str, body: Body, takes_stream: bool) -> Body:
        gate, policy = self._gate, self._policy
        is_lasting = takes_stream or rpc in LASTING_UNARY

        async def call(request: Any, context: Context) -> Any:
            task = gate.enter() if is_lasting else None
            try:
                gate.check(rpc)
                if policy is not None:
                    policy.check(rpc, context)
                return await body(whole(request, context) if takes_stream else request, context)
            except asyncio.CancelledError:
                if not gate.is_stopping:
                    raise
                await fail(context, rpc, stopping())
            except Exception as error:  # noqa: BLE001 - the one place where whatever was raised becomes a status
                await fail(context, rpc, error)
            finally:
                gate.leave(task)

        return call

    def _stream(self, rpc: str, body: Body) -> Body:
        gate, policy = self._gate, self._policy

        async def call(request: Any, context: Context) -> None:
            task = gate.enter()
            try:
                gate.check(rpc)
                if policy is not None:
                    policy.check(rpc, context)
                write = context.write
                if rpc in HEADERS_AHEAD:
                    await context.send_initial_metadata(())
                async with aclosing(body(request, context)) as responses:
                    async for response in responses:
                        try:
                            await write(response)
                        except grpc.aio.BaseError as error:
                            # Nothing can be sent to a caller that has gone; that it has is told a moment later.
                            raise asyncio.CancelledError from error
            except asyncio.CancelledError:
                if not gate.is_stopping:
                    raise
                await fail(context, rpc, stopping())
            except Exception as error:  # noqa: BLE001 - as above
                await fail(context, rpc, error)
            finally:
                gate.leave(task)

        return call


def _serialized(answer: message.Message | bytes) -> bytes:
    # A body that has its answer as bytes already gives those.
    return answer if isinstance(answer, bytes) else answer.SerializeToString()


def _observed(rpc: str, body: Body, observe: Observe) -> Body:
    async def call(request: Any, context: Context) -> Any:
        begin, code = time.perf_counter(), "OK"
        try:
            return await body(request, context)
        except asyncio.CancelledError:
            code = "CANCELLED"
            raise
        except grpc.aio.AbortError:
            code = _code_of(context)[0]
            raise
        finally:
            observe(rpc, code, time.perf_counter() - begin)

    return call


def _code_of(context: Context) -> tuple[str, int]:
    """Name and number of the status that a call was ended with."""
    told = context.code()  # an integer or a member, by the version of grpc
    number = getattr(told, "value", (told,))[0]
    return _CODE_NAMES.get(number, "UNKNOWN"), number


def _traced(rpc: str, body: Body, tracer: tracing.Tracer) -> Body:
    async def call(request: Any, context: Context) -> Any:
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        with tracer.call(rpc, headers) as span:
            try:
                answer = await body(request, context)
            except asyncio.CancelledError:
                span.end("CANCELLED", _CANCELLED)
                raise
            except grpc.aio.AbortError:
                span.end(*_code_of(context))
                raise
            span.end("OK", 0)
            return answer

    return call


def _answered_once(
    rpc: str, body: Body, response: type[message.Message], requests: RequestService
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def call(request: Any, context: Context) -> Any:
        if not request.request_id:
            return await body(request, context)

        async def work() -> bytes:
            answer: message.Message = await body(request, context)
            return answer.SerializeToString()

        # Even a digest of credentials is not written down, and a retry may come with fresh ones.
        digest = hashlib.sha256(without_auth(request).SerializeToString(deterministic=True)).digest()
        return response.FromString(await requests.answer(request.request_id, rpc, digest, work))

    return call


def _not_built(rpc: str, is_stream: bool) -> Body:
    async def call(request: Any, context: Context) -> Any:
        raise NotBuilt(rpc=rpc)

    async def stream(request: Any, context: Context) -> Any:
        if rpc:
            raise NotBuilt(rpc=rpc)
        yield  # what makes it a generator

    return stream if is_stream else call
