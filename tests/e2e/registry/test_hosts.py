"""How registries are reached: private authorities, client certificates, mirrors, settings that change."""

import re
import shutil
from pathlib import Path

import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types import operation_pb2
from fluyt.v1.types.registry_auth_pb2 import RegistryAuth
from tests.support import image_files, images
from tests.support.certificates import Authority
from tests.support.engine import Engine
from tests.support.registry import FaultyRegistry, RealRegistry, manifest_path, status

pytestmark = pytest.mark.needs("docker-registry", "openssl")

SUCCEEDED = operation_pb2.Operation.State.STATE_SUCCEEDED


def write_hosts(root: Path, registry: str, text: str) -> None:
    """hosts.toml of a registry."""
    directory = root / registry
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts.toml").write_text(text)


def engine_with(root: Path, hosts: Path) -> Engine:
    """An engine whose registries' settings stand in `hosts`."""
    return Engine(root, options=["--registry-hosts-dir", str(hosts)])


def test_a_private_authority_a_client_certificate_and_http2(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    authority = Authority.make(tmp_path / "ca")
    server, client = authority.issue("server"), authority.issue("client")
    with (
        RealRegistry(tmp_path / "r", certificate=server, client_authority=authority.certificate) as registry,
        engine_with(tmp_path, hosts) as engine,
    ):
        name = f"{registry.address}/app:1"
        engine.load(image_files.oci_archive({name: images.busybox_image()}))
        write_hosts(hosts, registry.address, f'server = "https://{registry.address}"\n')
        unknown = engine.push(name)
        assert unknown.failure.reason == "REGISTRY_UNREACHABLE"
        assert "certificate" in unknown.failure.metadata["detail"].lower()
        write_hosts(hosts, registry.address, f'ca = "{authority.certificate}"\n')
        anonymous = engine.push(name)
        assert anonymous.failure.reason == "REGISTRY_UNREACHABLE", anonymous
        pair = f'client = [["{client.certificate}", "{client.key}"]]\n'
        write_hosts(hosts, registry.address, f'ca = ["{authority.certificate}"]\n{pair}')
        pushed = engine.push(name)
        assert pushed.state == SUCCEEDED, pushed
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
        pulled = engine.pull(name)
        assert pulled.pull_result.manifest_digest == pushed.push_result.digest, pulled
        protocols = set(re.findall(r'"(?:GET|PUT|PATCH) \S+ (HTTP/[0-9.]+)"', registry.log))
        assert protocols == {"HTTP/2.0"}


def test_dockers_directory_of_certificates_serves_too_and_skip_verify_needs_none(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    authority = Authority.make(tmp_path / "ca")
    with (
        RealRegistry(tmp_path / "r", certificate=authority.issue("server")) as registry,
        engine_with(tmp_path, hosts) as engine,
    ):
        name = f"{registry.address}/app:1"
        engine.load(image_files.oci_archive({name: images.busybox_image()}))
        directory = hosts / registry.address
        directory.mkdir(parents=True)
        shutil.copy(authority.certificate, directory / "ca.crt")
        assert engine.push(name).state == SUCCEEDED
        (directory / "ca.crt").unlink()
        write_hosts(hosts, registry.address, "skip_verify = true\n")
        assert engine.push(name).state == SUCCEEDED


def test_passwords_are_asked_for_behind_a_private_authority_too(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    authority = Authority.make(tmp_path / "ca")
    user = RegistryAuth(username="user", password="hunter2")  # noqa: S106
    with (
        RealRegistry(tmp_path / "r", certificate=authority.issue("server"), passwords={"user": "hunter2"}) as registry,
        engine_with(tmp_path, hosts) as engine,
    ):
        name = f"{registry.address}/app:1"
        engine.load(image_files.oci_archive({name: images.busybox_image()}))
        write_hosts(hosts, registry.address, f'ca = "{authority.certificate}"\n')
        assert engine.push(name).failure.reason == "REGISTRY_ACCESS_DENIED"
        pushed = engine.push(name, auth=user)
        assert pushed.state == SUCCEEDED, pushed
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
        assert engine.pull(name).failure.reason == "REGISTRY_ACCESS_DENIED"
        assert engine.pull(name, user).pull_result.manifest_digest == pushed.push_result.digest


def test_a_mirror_is_asked_first_and_the_registry_where_it_fails(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    image = images.busybox_image()
    with FaultyRegistry() as mirror, FaultyRegistry() as registry, engine_with(tmp_path, hosts) as engine:
        mirror.put("app", "1", image)
        registry.put("app", "1", image)
        write_hosts(
            hosts,
            "_default",
            f'[host."http://{mirror.address}"]\n  [host."http://{mirror.address}".header]\n    x-mirror-key = "k"\n',
        )
        name = f"{registry.address}/app:1"
        assert engine.pull(name).state == SUCCEEDED
        assert registry.requests == []
        assert {request.headers.get("x-mirror-key") for request in mirror.requests} == {"k"}
        assert all(request.path.endswith(f"?ns={registry.address.replace(':', '%3A')}") for request in mirror.requests)
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=name, force=True))
        mirror.always(manifest_path("app", "1"), status(500))
        assert engine.pull(name).state == SUCCEEDED
        assert registry.requests_for(manifest_path("app", "1"))


def test_a_pull_through_cache_of_the_real_registry_is_a_mirror(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    with RealRegistry(tmp_path / "origin") as origin:
        digest = image_files.push(origin.address, "app", "1", images.busybox_image())
        with (
            RealRegistry(tmp_path / "cache", proxied=f"http://{origin.address}") as cache,
            engine_with(tmp_path, hosts) as engine,
        ):
            write_hosts(
                hosts, origin.address, f'[host."http://{cache.address}"]\n  capabilities = ["pull", "resolve"]\n'
            )
            name = f"{origin.address}/app:1"
            pulled = engine.pull(name)
            assert pulled.pull_result.manifest_digest == digest, pulled
            assert "fluytd/" in cache.log
            assert "fluytd/" not in origin.log
            # A push goes past the mirror, which may not be pushed to.
            assert engine.push(name, f"{origin.address}/app:2").state == SUCCEEDED
            assert "fluytd/" in origin.log


def test_a_proxy_of_the_environment_stands_before_other_hosts_and_not_before_this_one(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    image = images.busybox_image()
    with FaultyRegistry() as proxy, FaultyRegistry() as own, engine_with(tmp_path, hosts) as engine:
        proxy.put("app", "1", image)
        own.put("app", "1", image)
        # Without a registry's own word it is HTTPS, which a proxy only carries through.
        write_hosts(hosts, "registry.test", 'server = "http://registry.test"\n')
        engine.kill()
        engine.start(http_proxy=f"http://user:hunter2@{proxy.address}", no_proxy="")
        assert engine.pull(f"{own.address}/app:1").state == SUCCEEDED
        assert proxy.requests == []
        engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=f"{own.address}/app:1", force=True))
        assert engine.pull("registry.test/app:1").state == SUCCEEDED
        assert all(request.path.startswith("http://registry.test/v2/") for request in proxy.requests)
        assert all(request.headers["proxy-authorization"].startswith("Basic ") for request in proxy.requests)
        proxy.always(manifest_path("app", "2"), status(502))
        gone = engine.pull("registry.test/app:2")
        assert gone.failure.reason == "REGISTRY_UNREACHABLE"
        assert "hunter2" not in str(gone) + (tmp_path / "fluytd.log").read_text()


def test_settings_that_cannot_be_used_fail_the_pull_with_their_file(tmp_path: Path) -> None:
    hosts = tmp_path / "certs.d"
    with FaultyRegistry() as registry, engine_with(tmp_path, hosts) as engine:
        registry.put("app", "1", images.busybox_image())
        name = f"{registry.address}/app:1"
        write_hosts(hosts, registry.address, "server = \n")
        failed = engine.pull(name)
        assert failed.failure.reason == "REGISTRY_CONFIG_INVALID"
        assert failed.failure.metadata["path"] == str(hosts / registry.address / "hosts.toml")
        assert registry.requests == []
        write_hosts(hosts, registry.address, "")
        assert engine.pull(name).state == SUCCEEDED
