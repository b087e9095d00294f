"""What registries tell of what they keep: referrers, searches, whether credentials are taken."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from fluyt.v1 import images_pb2
from fluyt.v1.types.registry_auth_pb2 import RegistryAuth
from tests.e2e.images.steps import refused
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.images import Image
from tests.support.registry import FaultyRegistry, RealRegistry, body, headers, status

SIGNATURE = "application/vnd.example.signature"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(tmp_path_factory.mktemp("remote")) as running:
        yield running


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    with FaultyRegistry() as running:
        yield running


def about(subject: Image, number: int, artifact_type: str = SIGNATURE) -> Image:
    """An image of an artifact that refers to another one."""
    refers = {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.manifest)}
    annotations = {"number": str(number)}
    extra = {"subject": refers, "annotations": annotations, "artifactType": artifact_type}
    return images.image([images.layer()], manifest=extra)


def entry(number: int, annotation: str = "") -> dict[str, object]:
    made: dict[str, object] = {"mediaType": images.OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": number}
    return made | {"artifactType": SIGNATURE, "annotations": {"a": annotation}}


def serve(faulty: FaultyRegistry, subject: Image, *entries: dict[str, object]) -> str:
    """A reference whose registry says that these refer to it."""
    faulty.put("app", "1", subject)
    data = images.dump({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": entries})
    path = f"/v2/app/referrers/{subject.digest}"
    faulty.always(path, status(200, {"Content-Type": images.OCI_INDEX}), body(data))
    return f"{faulty.address}/app:1"


def ask(engine: Engine, reference: str, **request: object) -> images_pb2.ListReferrersResponse:
    asked = images_pb2.ListReferrersRequest(reference=reference, **request)  # type: ignore[arg-type]
    answer: images_pb2.ListReferrersResponse = engine.images.ListReferrers(asked)
    return answer


@pytest.mark.needs("docker-registry")
def test_what_was_pushed_with_a_subject_is_listed_by_the_tag_of_it(engine: Engine, tmp_path: Path) -> None:
    subject = images.busybox_image()
    referring = [about(subject, number) for number in range(3)] + [about(subject, 9, "text/x-sbom")]
    with RealRegistry(tmp_path / "registry") as registry:
        name = f"{registry.address}/app"
        image_files.push(registry.address, "app", "1", subject)
        for number, one in enumerate(referring):
            engine.load(image_files.oci_archive({f"{name}:r{number}": one}))
            pushed = engine.push(f"{name}:r{number}")
            assert pushed.push_result.digest == one.digest, pushed.failure
        found = ask(engine, f"{name}:1")
        assert found.subject == f"{name}@{subject.digest}"
        assert [one.digest for one in found.referrers] == [one.digest for one in referring]
        assert [one.annotations["number"] for one in found.referrers] == ["0", "1", "2", "9"]
        assert {one.artifact_type for one in found.referrers} == {SIGNATURE, "text/x-sbom"}
        (only,) = ask(engine, f"{name}@{subject.digest}", artifact_type="text/x-sbom").referrers
        assert (only.digest, only.size_bytes) == (referring[-1].digest, len(referring[-1].manifest))
        assert not ask(engine, f"{name}:r0").referrers
        assert refused(lambda: ask(engine, f"{name}:absent")).reason == "IMAGE_NOT_FOUND"


def test_a_registrys_own_list_is_given_page_by_page(engine: Engine, faulty: FaultyRegistry) -> None:
    reference = serve(faulty, images.image([images.layer()]), *(entry(number) for number in range(1, 8)))
    token, digests = "", []
    while True:
        page = ask(engine, reference, page_size=3, page_token=token)
        assert len(page.referrers) <= 3
        digests += [one.digest for one in page.referrers]
        token = page.next_page_token
        if not token:
            break
    assert digests == [f"sha256:{number:064x}" for number in range(1, 8)]


@pytest.mark.parametrize(
    ("hostile", "reason", "limit"),
    [
        ([entry(1, "x" * 200_000)], "LIMIT_EXCEEDED", "MAX_REFERRER_BYTES"),
        ([entry(number) for number in range(10_001)], "LIMIT_EXCEEDED", "referrers_max_count"),
        ([entry(number, "x" * 500) for number in range(9_000)], "LIMIT_EXCEEDED", "referrers_page_max_bytes"),
        ([entry(1) | {"digest": "sha256:../../x"}], "DIGEST_INVALID", None),
        ([entry(1) | {"size": -1}], "REGISTRY_PROTOCOL", None),
    ],
)
def test_hostile_lists_are_refused(
    engine: Engine, faulty: FaultyRegistry, hostile: list[dict[str, object]], reason: str, limit: str | None
) -> None:
    reference = serve(faulty, images.image([images.layer()]), *hostile)
    found = refused(lambda: ask(engine, reference))
    assert (found.reason, found.metadata.get("limit")) == (reason, limit)


def search(engine: Engine, registry: str, term: str, limit: int = 0) -> list[images_pb2.FoundRepository]:
    request = images_pb2.SearchRegistryRequest(registry=registry, term=term, limit=limit)
    return list(engine.images.SearchRegistry(request).repositories)


@pytest.mark.needs("docker-registry")
def test_a_registry_that_lists_its_repositories_is_searched_by_name(engine: Engine, tmp_path: Path) -> None:
    with RealRegistry(tmp_path / "registry", passwords={"user": "hunter2"}) as registry:
        found = refused(lambda: search(engine, registry.address, "app"))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REGISTRY_ACCESS_DENIED")
    with RealRegistry(tmp_path / "open") as registry:
        for repository in ("team/app", "other", "application"):
            image_files.push(registry.address, repository, "1", images.image([images.layer()]))
        references = {one.reference for one in search(engine, registry.address, "APP")}
        assert references == {f"{registry.address}/team/app", f"{registry.address}/application"}
        assert len(search(engine, registry.address, "app", limit=1)) == 1


def test_a_registry_that_searches_is_asked_and_one_that_cannot_says_so(engine: Engine, faulty: FaultyRegistry) -> None:
    found = refused(lambda: search(engine, faulty.address, "app"))
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REGISTRY_SEARCH_UNSUPPORTED")
    hits = [{"name": "app", "description": "d" * 10_000, "star_count": 7, "is_official": True}]
    data = json.dumps({"results": hits}).encode()
    faulty.always("/v1/search", status(200), headers({"Content-Type": "application/json"}), body(data))
    (one,) = search(engine, faulty.address, "app")
    assert (one.reference, one.star_count, one.is_official) == (f"{faulty.address}/app", 7, True)
    assert refused(lambda: search(engine, faulty.address, " ")).reason == "FIELD_INVALID"
    found = refused(lambda: search(engine, faulty.address, "app", limit=-1))
    assert (found.reason, found.metadata.get("field")) == ("FIELD_INVALID", "limit")


@pytest.mark.needs("docker-registry")
def test_credentials_are_tried_without_a_repository(engine: Engine, tmp_path: Path) -> None:
    def check(registry: str, password: str) -> None:
        auth = RegistryAuth(username="user", password=password)
        engine.images.CheckRegistryAuth(images_pb2.CheckRegistryAuthRequest(registry=registry, auth=auth))

    with RealRegistry(tmp_path / "registry", passwords={"user": "hunter2"}) as registry:
        check(registry.address, "hunter2")
        found = refused(lambda: check(registry.address, "wrong"))
        assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "REGISTRY_ACCESS_DENIED")
    assert refused(lambda: check(registry.address, "hunter2")).reason == "REGISTRY_UNREACHABLE"
    nobody = images_pb2.CheckRegistryAuthRequest(registry="r.example")
    assert refused(lambda: engine.images.CheckRegistryAuth(nobody)).reason == "FIELD_INVALID"
