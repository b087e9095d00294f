"""What the tests of devices, namespaces and names have in common."""

from typing import Any

from fluyt.v1.types import container_pb2
from tests.e2e.containers.steps import IMAGE, create, start
from tests.support.engine import Engine


def shell(engine: Engine, script: str, image: str = IMAGE, **spec: object) -> str:
    """The standard output of a script that ended with 0."""
    out, err, ended = engine.run(image, "sh", "-c", script, **spec)
    assert ended.exit_code == 0, (out, err, ended.failure)
    return out.decode()


def sleeper(engine: Engine, name: str, **spec: Any) -> container_pb2.Container:
    """A container that runs until it is killed."""
    return start(engine, create(engine, "sleep", "1000", name=name, **spec).id)
