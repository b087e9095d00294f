"""Pulls and pushes for somebody: Basic, token servers, the daemon's own file; and no trace of a secret afterwards."""

import base64
import json
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import containers_pb2, images_pb2, operations_pb2
from fluyt.v1.types import container_spec_pb2, operation_pb2
from fluyt.v1.types.registry_auth_pb2 import RegistryAuth
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, RealRegistry, blob_path, manifest_path, redirect, status
from tests.support.token_server import TokenServer

pytestmark = pytest.mark.needs("docker-registry")

SUCCEEDED = operation_pb2.Operation.State.STATE_SUCCEEDED
SECRET = "hunter2-of-the-test"  # noqa: S105 - the point is that it is found nowhere
USER = RegistryAuth(username="user", password=SECRET)


def loaded(engine: Engine, name: str) -> None:
    """The engine has busybox under this name."""
    engine.load(image_files.oci_archive({name: images.busybox_image()}))


def places_with(root: Path, secret: str) -> list[Path]:
    """Files below `root` that hold the secret, plain or as Basic authentication codes it."""
    coded = base64.b64encode(f"user:{secret}".encode()).rstrip(b"=")
    wanted = (secret.encode(), coded[:-2])
    found = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [path for text in wanted if text in data]
    return found


def test_basic_credentials_push_and_pull_and_leave_no_trace(tmp_path: Path) -> None:
    engine_root = tmp_path / "engine"
    engine_root.mkdir()
    with RealRegistry(tmp_path / "registry", passwords={"user": SECRET}) as registry, Engine(engine_root) as engine:
        name = f"{registry.address}/private/app:1"
        loaded(engine, name)
        refused = engine.push(name)
        assert refused.failure.reason == "REGISTRY_ACCESS_DENIED"
        wrong = engine.push(name, auth=RegistryAuth(username="user", password="wrong-" + SECRET))
        assert (wrong.failure.reason, wrong.failure.metadata["status"]) == ("REGISTRY_ACCESS_DENIED", "401")
        pushed = engine.push(name, auth=USER, request_id="push-1")
        assert pushed.state == SUCCEEDED, pushed
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
        assert engine.pull(name).failure.reason == "REGISTRY_ACCESS_DENIED"
        pulled = engine.pull(name, USER)
        assert pulled.state == SUCCEEDED, pulled
        assert pulled.pull_result.manifest_digest == pushed.push_result.digest
        listed = str(engine.operations.ListOperations(operations_pb2.ListOperationsRequest()))
        assert SECRET not in listed
        command_line = Path(f"/proc/{engine.process.pid}/cmdline").read_bytes()
        assert SECRET.encode() not in command_line
        engine.kill()
        # With the write-ahead log still there.
        assert places_with(engine_root, SECRET) == []
        engine.start()
    assert places_with(engine_root, SECRET) == []


def test_a_retry_with_fresh_credentials_is_the_same_request(tmp_path: Path) -> None:
    with Engine(tmp_path) as engine:
        loaded(engine, "127.0.0.1:1/app:1")

        def push(password: str) -> str:
            auth = RegistryAuth(username="user", password=password)
            request = images_pb2.PushImageRequest(reference="127.0.0.1:1/app:1", auth=auth, request_id="one")
            operation_id: str = engine.images.PushImage(request).operation.id
            return operation_id

        assert push("first") == push("second")


def test_a_token_server_gives_each_repository_its_own_token(tmp_path: Path) -> None:
    with (
        TokenServer(tmp_path / "tokens", {"user": SECRET}, refresh_tokens={"refresh": "user"}) as tokens,
        RealRegistry(tmp_path / "registry", auth=tokens.auth_config) as registry,
        Engine(tmp_path) as engine,
    ):
        first, second = f"{registry.address}/a/one:1", f"{registry.address}/b/two:1"
        loaded(engine, first)
        assert engine.push(first).failure.reason == "REGISTRY_ACCESS_DENIED"
        assert engine.push(first, auth=USER).state == SUCCEEDED
        by_refresh = RegistryAuth(identity_token="refresh")  # noqa: S106
        pushed = engine.push(first, second, by_refresh)
        assert pushed.state == SUCCEEDED, pushed
        assert {layer.phase for layer in pushed.push_progress.layers} <= {
            operation_pb2.LayerProgress.PHASE_MOUNTED,
            operation_pb2.LayerProgress.PHASE_PRESENT,
        }
        assert pushed.push_result.sent_bytes == 0
        mounting = [request for request in tokens.requests if len(request.scopes) == 2]
        assert mounting[0].method == "POST"
        assert set(mounting[0].scopes) == {"repository:b/two:pull,push", "repository:a/one:pull"}
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=first, force=True))
        asked = len(tokens.requests)
        assert engine.pull(first, USER).state == SUCCEEDED
        # One token serves the manifest, the config and every layer.
        assert len(tokens.requests) == asked + 1


def test_a_token_that_expires_during_a_session_is_replaced(tmp_path: Path) -> None:
    with (
        TokenServer(tmp_path / "tokens", {"user": SECRET}) as tokens,
        RealRegistry(tmp_path / "registry", auth=tokens.auth_config) as registry,
        Engine(tmp_path) as engine,
    ):
        # Shorter than the margin in which a token is not used any more.
        tokens.lifetime_seconds = 5
        name = f"{registry.address}/app:1"
        loaded(engine, name)
        assert engine.push(name, auth=USER).state == SUCCEEDED
        assert engine.push(name, auth=USER).state == SUCCEEDED
        assert len(tokens.requests) > 1


def test_the_daemons_own_file_serves_whoever_sends_nothing(tmp_path: Path) -> None:
    auth_file = tmp_path / "config.json"
    options = ["--registry-auth-file", str(auth_file)]
    with (
        RealRegistry(tmp_path / "registry", passwords={"user": SECRET}) as registry,
        Engine(tmp_path, options=options) as engine,
    ):
        name = f"{registry.address}/app:1"
        loaded(engine, name)
        assert engine.push(name).failure.reason == "REGISTRY_ACCESS_DENIED"
        coded = base64.b64encode(f"user:{SECRET}".encode()).decode()
        auth_file.write_text(json.dumps({"auths": {registry.address: {"auth": coded}}}))
        assert engine.push(name).state == SUCCEEDED
        auth_file.write_text(json.dumps({"auths": {registry.address: {"auth": "!"}}}))
        broken = engine.push(name)
        assert broken.failure.reason == "REGISTRY_CONFIG_INVALID"
        assert broken.failure.metadata["path"] == str(auth_file)


def test_r05_credentials_stay_with_the_host_they_are_for(tmp_path: Path) -> None:
    image = images.busybox_image()
    path = blob_path("app", image.layers[0].digest)
    with FaultyRegistry() as thief, FaultyRegistry() as registry, Engine(tmp_path) as engine:
        for one in (registry, thief):
            one.put("app", "1", image)
        registry.on(manifest_path("app", "1"), [status(401, {"WWW-Authenticate": 'Basic realm="r"'})])
        # The other host asks for credentials too: it gets none, and so the pull none of the layer.
        registry.always(path, redirect(f"http://{thief.address}{path}"))
        thief.on(path, [status(401, {"WWW-Authenticate": 'Basic realm="r"'})])
        denied = engine.pull(f"{registry.address}/app:1", USER)
        assert denied.failure.reason == "REGISTRY_ACCESS_DENIED"
        assert engine.pull(f"{registry.address}/app:1", USER).state == SUCCEEDED
        assert ["authorization" in request.headers for request in thief.requests_for(path)] == [False, False]
        # What it did not get was there to be given.
        assert all("authorization" in request.headers for request in registry.requests_for(path))


def test_a_run_pulls_with_the_credentials_of_its_request(tmp_path: Path) -> None:
    with RealRegistry(tmp_path / "registry", passwords={"user": SECRET}) as registry, Engine(tmp_path) as engine:
        name = f"{registry.address}/app:1"
        loaded(engine, name)
        assert engine.push(name, auth=USER).state == SUCCEEDED
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
        spec = container_spec_pb2.ContainerSpec(image=name, args=["echo", "ran"], auto_remove=True)
        with pytest.raises(grpc.RpcError):
            list(engine.containers.RunContainer(containers_pb2.RunContainerRequest(spec=spec)))
        events = list(engine.containers.RunContainer(containers_pb2.RunContainerRequest(spec=spec, auth=USER)))
        assert b"".join(event.stdout.data for event in events if event.HasField("stdout")) == b"ran\n"
