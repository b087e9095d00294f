"""What is asked of a further process and cannot be is refused by its field before anything is executed."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from tests.e2e.containers import steps as containers
from tests.e2e.execs.steps import attach, get, refused, run, stays
from tests.support.engine import Engine

CALLERS = 32
MAX_EXECS = 128

REFUSED: list[tuple[list[str], dict[str, Any], str]] = [
    (["a\0b"], {}, "spec.args[0]"),
    (["true", "x" * 131_072], {}, "spec.args[1]"),
    (["true"], {"env": ["A=1", "=x"]}, "spec.env[1]"),
    (["true"], {"env": [""]}, "spec.env[0]"),
    (["true"], {"env": ["A=\0"]}, "spec.env[0]"),
    (["true"], {"user": "ro\0ot"}, "spec.user"),
    (["true"], {"user": "u" * 257}, "spec.user"),
    (["true"], {"additional_groups": ["0", ""]}, "spec.additional_groups[1]"),
    (["true"], {"working_dir": "tmp"}, "spec.working_dir"),
    (["true"], {"working_dir": "/a\0b"}, "spec.working_dir"),
    (["true"], {"working_dir": "/" + "a" * 4_095}, "spec.working_dir"),
    (["true"], {"add_capabilities": ["NET_ADMIN", "FLY"]}, "spec.add_capabilities[1]"),
    ([], {}, "spec.args"),
]
BEYOND: list[tuple[list[str], dict[str, Any], str]] = [
    (["true"], {"env": [f"A{number}=" for number in range(65_536)]}, "MAX_ARGS_AND_ENV_COUNT"),
    (["true"], {"additional_groups": [str(number) for number in range(1_025)]}, "MAX_GROUPS"),
]


def test_what_cannot_be_is_refused_by_its_field(engine: Engine) -> None:
    # One capability of the container's own: it does not count as one of the process.
    container = stays(engine, security={"add_capabilities": ["NET_RAW"]})
    for args, spec, field in REFUSED:
        code, reason, metadata = refused(engine, container, *args, **spec)
        assert (code, reason, metadata["field"]) == (containers.INVALID, "FIELD_INVALID", field), spec
    for args, spec, limit in BEYOND:
        code, reason, metadata = refused(engine, container, *args, **spec)
        assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED"), limit
        assert metadata["limit"] == limit
    assert run(engine, container, "echo", "on", working_dir="/tmp/../home/..").out == b"on\n"


def test_of_many_at_once_no_more_than_the_limit_run(engine: Engine) -> None:
    container = stays(engine)

    def one(_: int) -> str:
        try:
            run(engine, container, "sleep", "1000", detach=True)
        except grpc.RpcError as error:
            return containers.refusal(error)[1]
        return "started"

    with ThreadPoolExecutor(CALLERS) as callers:
        told = Counter(callers.map(one, range(MAX_EXECS + CALLERS)))
    assert told == {"started": MAX_EXECS, "LIMIT_EXCEEDED": CALLERS}


def test_a_session_without_an_id_is_asked_for_by_field(engine: Engine) -> None:
    for call, field in ((lambda: get(engine, ""), "id"), (lambda: attach(engine, ""), "open.id")):
        code, reason, metadata = containers.refused(call)
        assert (code, reason, metadata["field"]) == (containers.INVALID, "FIELD_INVALID", field)
    assert containers.refused(lambda: get(engine, "no"))[1] == "EXEC_NOT_FOUND"
