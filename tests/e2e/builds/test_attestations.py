"""Provenance, bills of materials and annotations: in BuildKit's format, saved and pushed with the image."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fluyt import builds, images
from fluyt.v1 import builds_pb2, images_pb2
from tests.e2e.builds.steps import Built, build, context, refused, shell
from tests.e2e.builds.test_judges import run
from tests.support import repositories
from tests.support.engine import Engine
from tests.support.registry import RealRegistry
from tests.support.rpm_databases import database, header

MAX = builds_pb2.ProvenanceSpec(mode=builds_pb2.ProvenanceSpec.MODE_MAX, builder_id="urn:example:builder")
V1 = builds_pb2.ProvenanceSpec(version=builds_pb2.ProvenanceSpec.VERSION_V1)
STATUS = """Package: libc6
Status: install ok installed
Maintainer: GNU Libc Maintainers <l@example.org>
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u4
Description: GNU C Library
 Package: not-one

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: all
"""
INSTALLED = "P:musl\nV:1.2.4-r2\nA:x86_64\no:musl\nL:MIT\nF:lib\n\n"


def blob(engine: Engine, digest: str) -> bytes:
    """A blob of the content store."""
    path = engine.root / "data" / "content" / "blobs" / "sha256" / digest.removeprefix("sha256:")
    return path.read_bytes()


def document(engine: Engine, digest: str) -> dict[str, Any]:
    """A JSON document of the content store."""
    parsed: dict[str, Any] = json.loads(blob(engine, digest))
    return parsed


def statements(engine: Engine, built: Built) -> dict[str, dict[str, Any]]:
    """The statements about the one image of an index, by the type of their predicate; each is about that image."""
    index = document(engine, built.result.manifest_digest)
    image, entry = index["manifests"]
    assert image["platform"]["os"] == "linux"
    assert entry["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert entry["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = document(engine, entry["digest"])
    config = document(engine, manifest["config"]["digest"])
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    found = {}
    for layer in manifest["layers"]:
        assert layer["mediaType"] == "application/vnd.in-toto+json"
        data = document(engine, layer["digest"])
        kind = layer["annotations"]["in-toto.io/predicate-type"]
        assert (data["_type"], data["predicateType"]) == ("https://in-toto.io/Statement/v0.1", kind)
        for subject in data["subject"]:
            assert f"sha256:{subject['digest']['sha256']}" == image["digest"]
        found[kind] = data
    return found


def test_provenance_tells_what_an_image_was_made_of(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox:1\nARG SECRETISH\nRUN echo $SECRETISH > /f\n"
    options = {"build_args": {"SECRETISH": "argument-9c1"}, "reference": "told/app:1"}
    built = build(engine, tmp_path, dockerfile, provenance=builds_pb2.ProvenanceSpec(), **options)
    assert shell(engine, built, "cat /f") == "argument-9c1\n"
    (data,) = statements(engine, built).values()
    assert data["predicateType"] == "https://slsa.dev/provenance/v0.2"
    assert data["subject"][0]["name"] == "pkg:docker/told/app@1?platform=linux%2Famd64"
    told = data["predicate"]
    assert told["buildType"] == "https://mobyproject.org/buildkit@v1"
    assert [one["uri"] for one in told["materials"]] == ["pkg:docker/busybox@1?platform=linux%2Famd64"]
    assert told["invocation"]["configSource"] == {"entryPoint": "Dockerfile"}
    assert told["invocation"]["environment"] == {"platform": "linux/amd64"}
    assert told["metadata"]["buildStartedOn"] <= told["metadata"]["buildFinishedOn"]
    assert told["metadata"]["buildInvocationID"] == next(builds.list_builds(engine.channel)).id
    assert "argument-9c1" not in json.dumps(data)

    whole = statements(engine, build(engine, tmp_path, dockerfile, provenance=MAX, **options))
    (data,) = whole.values()
    told = data["predicate"]
    assert told["builder"] == {"id": "urn:example:builder"}
    assert told["invocation"]["parameters"]["args"] == {"build-arg:SECRETISH": "argument-9c1"}
    steps = [step["instruction"] for step in told["buildConfig"]["steps"]]
    assert steps[-1].startswith("RUN echo")
    assert told["metadata"]["completeness"] == {"parameters": True, "environment": True, "materials": False}

    (data,) = statements(engine, build(engine, tmp_path, dockerfile, provenance=V1, **options)).values()
    assert data["predicateType"] == "https://slsa.dev/provenance/v1"
    told = data["predicate"]
    assert set(told) == {"buildDefinition", "runDetails"}
    assert told["buildDefinition"]["resolvedDependencies"][0]["uri"].startswith("pkg:docker/busybox@1")
    assert told["runDetails"]["metadata"]["invocationId"]


def test_a_bill_of_materials_tells_packages_of_dpkg_apk_and_rpm(engine: Engine, tmp_path: Path) -> None:
    folder = context(
        tmp_path,
        {
            "status": STATUS,
            "status.d/base": "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n",
            "status.d/base.md5sums": "Package: no\nVersion: 1\n",
            "status.d/link": "-> /etc/shadow",
            "installed": INSTALLED,
            "rpmdb.sqlite": database(
                tmp_path / "rpm", blobs=[header({1000: "bash", 1001: "5.2", 1002: "1", 1022: "x86_64"})]
            ),
            "os-release": 'ID=debian\nVERSION_ID="12"\n',
        },
    )
    dockerfile = """
        FROM busybox:1
        COPY os-release /etc/
        COPY status /var/lib/dpkg/
        COPY status.d /var/lib/dpkg/status.d
        COPY installed /lib/apk/db/
        COPY rpmdb.sqlite /usr/lib/sysimage/rpm/
        """
    built = build(engine, folder, dockerfile, sbom=True)
    found = statements(engine, built)
    assert list(found) == ["https://spdx.dev/Document"]
    spdx = found["https://spdx.dev/Document"]["predicate"]
    assert (spdx["spdxVersion"], spdx["dataLicense"], spdx["SPDXID"]) == ("SPDX-2.3", "CC0-1.0", "SPDXRef-DOCUMENT")
    image, *listed = spdx["packages"]
    assert f"sha256:{image['versionInfo'].removeprefix('sha256:')}" == image["versionInfo"]
    locators = [one["externalRefs"][0]["referenceLocator"] for one in listed]
    assert locators == [
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
        "pkg:deb/debian/base-files@12.4?arch=amd64&distro=debian-12",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12&upstream=glibc",
        "pkg:rpm/debian/bash@5.2-1?arch=x86_64&distro=debian-12",
    ]
    ids = {one["SPDXID"] for one in spdx["packages"]}
    related = {one["relatedSpdxElement"] for one in spdx["relationships"]}
    assert ids == related
    assert list((engine.root / "data" / "build_scratch").iterdir()) == []


def test_stages_and_the_context_are_scanned_where_arguments_ask_for_it(engine: Engine, tmp_path: Path) -> None:
    one = "Package: {}\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"
    names = ("of-image", "of-stage", "of-other")
    files: dict[str, str | bytes] = {name: one.format(name) for name in names}
    folder = context(tmp_path, {**files, "var/lib/dpkg/status": one.format("of-context")})
    dockerfile = """
        FROM busybox:1 AS scanned
        ARG BUILDKIT_SBOM_SCAN_STAGE=true
        COPY of-stage /var/lib/dpkg/status
        FROM busybox:1 AS other
        ARG BUILDKIT_SBOM_SCAN_STAGE
        COPY of-other /var/lib/dpkg/status
        FROM busybox:1
        ARG BUILDKIT_SBOM_SCAN_CONTEXT=true
        COPY --from=scanned /etc/passwd /a
        COPY --from=other /etc/passwd /b
        COPY of-image /var/lib/dpkg/status
        """

    def told(**options: Any) -> list[tuple[str, list[str]]]:
        built = build(engine, folder, dockerfile, sbom=True, reference="scans:1", **options)
        index = document(engine, built.result.manifest_digest)
        found = []
        for layer in document(engine, index["manifests"][1]["digest"])["layers"]:
            predicate = document(engine, layer["digest"])["predicate"]
            found.append((predicate["name"], [package["name"] for package in predicate["packages"][1:]]))
        return found

    expected = [("scans:1", ["of-image"]), ("scanned", ["of-stage"]), ("context", ["of-context"])]
    assert told() == expected
    # The build argument wins over the default, and may name stages.
    assert told(build_args={"BUILDKIT_SBOM_SCAN_STAGE": "scanned,other"})[1:3] == [
        ("scanned", ["of-stage"]),
        ("other", ["of-other"]),
    ]


def test_what_an_image_no_longer_has_of_attestations_is_gone(engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox:1\nLABEL of=attested-twice\n"
    content = engine.root / "data" / "content" / "blobs" / "sha256"
    before = {path.name for path in content.iterdir()}
    first = build(engine, tmp_path, dockerfile, provenance=MAX, sbom=True, reference="attested:1")
    once = {path.name for path in content.iterdir()} - before
    # Config, manifest; index, manifest of attestations, its config, two statements.
    assert len(once) == 7
    second = build(engine, tmp_path, dockerfile, provenance=MAX, sbom=True, reference="attested:1")
    assert second.result.image_id == first.result.image_id
    assert second.result.manifest_digest != first.result.manifest_digest
    assert len({path.name for path in content.iterdir()} - before) == 7
    statements(engine, second)
    engine.kill()
    engine.start()
    statements(engine, second)
    engine.images.DeleteImage(images_pb2.DeleteImageRequest(image="attested:1"))
    assert {path.name for path in content.iterdir()} - before == set()


def test_annotations_stand_in_manifest_and_index(engine: Engine, tmp_path: Path) -> None:
    plain = build(engine, tmp_path, "FROM busybox:1\n", annotations={"a": "1"})
    assert document(engine, plain.result.manifest_digest)["annotations"] == {"a": "1"}
    built = build(engine, tmp_path, "FROM busybox:1\n", annotations={"a": "1"}, index_annotations={"b": "2"})
    index = document(engine, built.result.manifest_digest)
    (entry,) = index["manifests"]
    assert index["annotations"] == {"b": "2"}
    assert document(engine, entry["digest"])["annotations"] == {"a": "1"}
    described = build(engine, tmp_path, "FROM busybox:1\n", manifest_descriptor_annotations={"c": "3"})
    index = document(engine, described.result.manifest_digest)
    assert ([entry["annotations"] for entry in index["manifests"]], "annotations" in index) == ([{"c": "3"}], False)
    for wrong, reason in (({"": "x"}, "FIELD_INVALID"), ({"a": "x" * 300_000}, "LIMIT_EXCEEDED")):
        for place in ("annotations", "index_annotations", "manifest_descriptor_annotations"):
            assert refused(engine, tmp_path, "FROM busybox:1\n", **{place: wrong}).reason == reason


@pytest.mark.needs("docker-registry", "skopeo", "umoci")
def test_other_tools_read_an_attested_image(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path / "context", {"f": "attested\n"})
    with RealRegistry(tmp_path / "registry") as registry:
        reference = f"{registry.address}/attested/app:1"
        options: dict[str, Any] = {"reference": reference, "provenance": MAX, "sbom": True}
        built = build(engine, folder, "FROM busybox:1\nCOPY f /f\n", push=True, **options)
        raw = json.loads(run("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}"))
        assert [entry["platform"]["os"] for entry in raw["manifests"]] == ["linux", "unknown"]
        # All of it is there, byte for byte: the attestations as the image.
        layout = tmp_path / "all"
        run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{reference}", f"oci:{layout}:1")
        for entry in raw["manifests"]:
            copied = layout / "blobs" / "sha256" / entry["digest"].removeprefix("sha256:")
            assert copied.read_bytes() == blob(engine, entry["digest"])
        run("skopeo", "copy", "--src-tls-verify=false", f"docker://{reference}", f"oci:{tmp_path}/one:1")
    run("umoci", "unpack", "--image", f"{tmp_path}/one:1", tmp_path / "bundle")
    assert (tmp_path / "bundle" / "rootfs" / "f").read_text() == "attested\n"

    archive = tmp_path / "image.tar"
    images.save(engine.channel, [reference], archive)
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    index = document(engine, built.result.manifest_digest)
    attested = document(engine, index["manifests"][1]["digest"])
    for digest in (built.result.manifest_digest, *(layer["digest"] for layer in attested["layers"])):
        assert f"blobs/sha256/{digest.removeprefix('sha256:')}" in names
    told = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{archive}"))
    assert told["architecture"] == "amd64"


@pytest.mark.needs("git")
def test_provenance_tells_repositories_by_their_commit(engine: Engine, tmp_path: Path) -> None:
    commit = repositories.make(tmp_path / "work", {"Dockerfile": "FROM busybox:1\nCOPY f /f\n", "f": "x\n"})
    source = builds_pb2.BuildSource(git_url=f"file://{tmp_path}/work#main")
    built = build(engine, source, provenance=MAX)
    (data,) = statements(engine, built).values()
    repository = {"uri": f"file://{tmp_path}/work#main", "digest": {"sha1": commit}}
    invocation = data["predicate"]["invocation"]
    assert invocation["configSource"] == repository | {"entryPoint": "Dockerfile"}
    assert "locals" not in invocation["parameters"]
    assert repository in data["predicate"]["materials"]
