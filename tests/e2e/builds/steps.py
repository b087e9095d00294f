"""What the tests of builds do again and again: a folder with a Dockerfile becomes an image, and is looked at."""

import itertools
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fluyt import builds, errors
from fluyt.v1 import builds_pb2, images_pb2
from fluyt.v1.types import operation_pb2
from tests.support.engine import Engine

#: The image that tests build on.
BASE = "busybox:1"
CACHED = operation_pb2.BuildStep.STATE_CACHED
DONE = operation_pb2.BuildStep.STATE_DONE
_numbers = itertools.count()


@dataclass
class Built:
    """What a build came to."""

    reference: str
    result: operation_pb2.BuildResult
    steps: list[operation_pb2.BuildStep] = field(default_factory=list)
    output: bytes = b""

    def state_of(self, instruction: str) -> int:
        """The state of the one step whose instruction begins so."""
        (found,) = (step for step in self.steps if step.instruction.startswith(instruction))
        return found.state


def context(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A folder of these files; a name that ends in `/` is a directory, a text that begins with `-> ` a link."""
    for name, content in files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("-> "):
            path.symlink_to(content[3:])
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def build(engine: Engine, folder: Path | builds_pb2.BuildSource, dockerfile: str = "", **options: Any) -> Built:
    """The image of a folder or source. `dockerfile`: its text, else the folder's own."""
    reference = options.pop("reference", f"built:{next(_numbers)}")
    steps: list[operation_pb2.BuildStep] = []
    output = bytearray()

    def follow(operation: operation_pb2.Operation) -> None:
        steps[:] = operation.build_progress.steps

    if "dockerfile_path" in options:
        options["dockerfile"] = options.pop("dockerfile_path")
    if dockerfile:
        options["dockerfile_text"] = textwrap.dedent(dockerfile).encode()
    result = builds.build(
        engine.channel,
        folder,
        references=[reference],
        on_progress=follow,
        on_output=lambda piece: output.extend(piece.data),
        **options,
    )
    return Built(reference, result, steps, bytes(output))


def refused(
    engine: Engine, folder: Path | builds_pb2.BuildSource, dockerfile: str = "", **options: Any
) -> errors.FluytError:
    """The failure of a build that must fail."""
    with pytest.raises(errors.FluytError) as caught:
        build(engine, folder, dockerfile, **options)
    return caught.value


def shell(engine: Engine, built: Built, script: str) -> str:
    """What a script prints in the image; it must end well."""
    out, err, ended = engine.run(built.reference, "sh", "-c", script)
    assert ended.exit_code == 0, (out, err)
    return out.decode()


def config(engine: Engine, built: Built) -> dict[str, Any]:
    """The config of the image."""
    answer = engine.images.GetImage(images_pb2.GetImageRequest(image=built.result.image_id))
    digest = built.result.image_id.removeprefix("sha256:")
    text = (engine.root / "data" / "content" / "blobs" / "sha256" / digest).read_bytes()
    assert answer.image.id == built.result.image_id
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def records(engine: Engine) -> list[builds_pb2.BuildCacheRecord]:
    """The records of the cache."""
    return list(builds.list_cache(engine.channel))
