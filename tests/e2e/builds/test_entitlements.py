"""RUN beyond its confinement, by --security=insecure, --network=host and --device: what refuses it, what it gives."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt import errors
from fluyt.v1 import builds_pb2
from fluyt.v1.types import security_pb2
from tests.e2e.builds.steps import BASE, CACHED, DONE, build, context, records, refused, shell
from tests.e2e.builds.test_attestations import MAX, V1, statements
from tests.support import image_files, images
from tests.support.engine import Engine
from tests.support.wait import until_now

INSECURE, HOST_NETWORK = "security.insecure", "network.host"
EVERYTHING = f"{INSECURE},{HOST_NETWORK},device"
#: The 14 of Docker. Source: moby oci/caps/defaults.go.
DEFAULT_CAPS = 0x00000000_A80425FB
CAPS = "grep CapEff /proc/self/status"


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the CDI specs of the open engine are."""
    return tmp_path_factory.mktemp("cdi")


@pytest.fixture(scope="module")
def open_engine(specs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that permits every entitlement."""
    options = ["--build-entitlements", EVERYTHING, "--cdi-spec-dirs", str(specs)]
    with Engine(tmp_path_factory.mktemp("open"), options=options) as running:
        running.load(image_files.oci_archive({BASE: images.busybox_image()}))
        yield running


def caps(output: bytes) -> int:
    """The effective capabilities that a step has printed."""
    return int(output.split()[-1], 16)


def all_caps() -> int:
    """Every capability that this host gives anybody."""
    (bounding,) = re.findall(r"^CapBnd:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(bounding, 16)


def told(failure: errors.FluytError) -> tuple[str, str, str]:
    """Reason, line and entitlement."""
    return failure.reason, failure.metadata["line"], failure.metadata["entitlement"]


def test_an_insecure_step_is_refused_unless_the_engine_permits_it_and_the_build_is_given_it(
    engine: Engine, open_engine: Engine, tmp_path: Path
) -> None:
    dockerfile = f"FROM busybox:1\nRUN echo first > /first-of-refused\n\nRUN --security=insecure {CAPS}\n"
    failure = refused(engine, tmp_path, dockerfile, entitlements=[INSECURE])
    assert told(failure) == ("BUILD_ENTITLEMENT_FORBIDDEN", "4", INSECURE)
    assert isinstance(failure, errors.PermissionDenied)
    assert "build_entitlements" in failure.next_step
    assert told(refused(engine, tmp_path, dockerfile))[0] == "BUILD_ENTITLEMENT_FORBIDDEN"
    failure = refused(open_engine, tmp_path, dockerfile)
    assert told(failure) == ("BUILD_ENTITLEMENT_MISSING", "4", INSECURE)
    assert "--allow security.insecure" in failure.next_step
    assert told(refused(open_engine, tmp_path, dockerfile, entitlements=["device", HOST_NETWORK]))[0] == (
        "BUILD_ENTITLEMENT_MISSING"
    )
    # Nothing ran before it was refused.
    for one in (engine, open_engine):
        assert not [record for record in records(one) if "first-of-refused" in record.description]
    built = build(open_engine, tmp_path, dockerfile, entitlements=[INSECURE])
    assert caps(built.output) == all_caps()


def test_a_wrong_entitlement_is_refused_before_the_build(engine: Engine, tmp_path: Path) -> None:
    failure = refused(engine, tmp_path, "FROM busybox:1\n", entitlements=["security.insecure", "insecure"])
    assert (failure.reason, failure.metadata["field"]) == ("FIELD_INVALID", "entitlements[1]")


def test_an_insecure_step_is_privileged_and_its_result_is_not_that_of_a_confined_one(
    open_engine: Engine, tmp_path: Path
) -> None:
    script = (
        f"{CAPS} > /caps; grep Seccomp: /proc/self/status | tr -dc 0-9; mount -t tmpfs x /mnt 2>/dev/null && echo m;"
        "test -e /dev/kmsg && echo k; tr -s ' ' < /proc/self/uid_map; mknod /node c 1 3 2>/dev/null && echo n; true"
    )
    texts = {flag: f"FROM busybox:1\nRUN mkdir /mnt\nRUN {flag} {script}\n" for flag in ("--security=insecure", "")}
    insecure = build(open_engine, tmp_path, texts["--security=insecure"], entitlements=[INSECURE])
    assert insecure.output.decode().split() == ["0m", "k", "0", "0", "4294967295", "n"]
    assert shell(open_engine, insecure, "stat -c '%F %t:%T' /node") == "character special file 1:3\n"
    assert caps(shell(open_engine, insecure, "cat /caps").encode()) == all_caps()
    confined = build(open_engine, tmp_path, texts[""], entitlements=[INSECURE])
    assert confined.state_of("RUN grep") == DONE
    # The mode of seccomp, the users, and no more than a node where they are the host's.
    assert re.fullmatch(r"2 0 \d+ \d+\n(n\n)?", confined.output.decode()), confined.output
    assert caps(shell(open_engine, confined, "cat /caps").encode()) == DEFAULT_CAPS
    sandbox = texts[""].replace("RUN  grep", "RUN --security=sandbox grep")
    assert build(open_engine, tmp_path, sandbox).state_of("RUN --security=sandbox") == CACHED
    # A result that is there already is still not for who may not have it.
    again = build(open_engine, tmp_path, texts["--security=insecure"], entitlements=[INSECURE])
    assert again.state_of("RUN --security=insecure") == CACHED
    assert told(refused(open_engine, tmp_path, texts["--security=insecure"]))[0] == "BUILD_ENTITLEMENT_MISSING"
    until_now(lambda: not open_engine.left_on_host(), "nothing of the steps is left on the host")


def test_an_insecure_step_has_the_hosts_users_and_cannot_have_others(open_engine: Engine, tmp_path: Path) -> None:
    users = security_pb2.UserNamespaceSpec(mode=security_pb2.UserNamespaceSpec.MODE_AUTO)
    dockerfile = "FROM busybox:1\nRUN --security=insecure true\n"
    failure = refused(open_engine, tmp_path, dockerfile, entitlements=[INSECURE], users=users, no_cache=True)
    assert failure.metadata["cause"] == "FIELD_INVALID"
    assert "privileged" in str(failure)


def test_a_trigger_asks_as_the_dockerfile_that_has_it_from_its_base(open_engine: Engine, tmp_path: Path) -> None:
    parent = build(open_engine, tmp_path, "FROM busybox:1\nONBUILD RUN --security=insecure true\n")
    failure = refused(open_engine, tmp_path, f"\nFROM {parent.reference}\n")
    assert told(failure) == ("BUILD_ENTITLEMENT_MISSING", "2", INSECURE)


def test_the_hosts_network_is_for_builds_that_are_given_it_or_ask_for_it_as_a_whole(
    engine: Engine, tmp_path: Path
) -> None:
    dockerfile = "FROM busybox:1\nRUN --network=host readlink /proc/self/ns/net\n"
    assert told(refused(engine, tmp_path, dockerfile)) == ("BUILD_ENTITLEMENT_MISSING", "2", HOST_NETWORK)
    own = f"{Path('/proc/self/ns/net').readlink()}\n".encode()
    assert build(engine, tmp_path, dockerfile, entitlements=[HOST_NETWORK]).output == own
    assert build(engine, tmp_path, dockerfile, network_mode="host", no_cache=True).output == own
    plain = dockerfile.replace("--network=host ", "")
    assert build(engine, tmp_path, plain, network_mode="host", no_cache=True).output == own
    assert build(engine, tmp_path, plain, entitlements=[HOST_NETWORK], no_cache=True).output != own


def test_an_engine_may_permit_nothing(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    with Engine(tmp_path / "engine", options=["--build-entitlements", ""]) as closed:
        closed.load(image_files.oci_archive({BASE: images.busybox_image()}))
        folder = context(tmp_path / "context", {"f": ""})
        failure = refused(closed, folder, "FROM busybox:1\nRUN true\n", network_mode="host")
        assert told(failure) == ("BUILD_ENTITLEMENT_FORBIDDEN", "2", HOST_NETWORK)
        build(closed, folder, "FROM busybox:1\nRUN true\n")


def test_provenance_tells_what_a_build_was_given_and_which_steps_had_it(open_engine: Engine, tmp_path: Path) -> None:
    dockerfile = "FROM busybox:1\nRUN true\nRUN --security=insecure --network=host true\n"
    given: dict[str, Any] = {"entitlements": [INSECURE, HOST_NETWORK], "reference": "told/entitled:1"}
    least = builds_pb2.ProvenanceSpec()
    (data,) = statements(open_engine, build(open_engine, tmp_path, dockerfile, provenance=least, **given)).values()
    assert data["predicate"]["invocation"]["parameters"]["entitlements"] == [INSECURE, HOST_NETWORK]
    (data,) = statements(open_engine, build(open_engine, tmp_path, dockerfile, provenance=MAX, **given)).values()
    _, confined, beyond = data["predicate"]["buildConfig"]["steps"]
    assert {"security", "network"} & set(confined) == set()
    assert (beyond["security"], beyond["network"]) == ("insecure", "host")
    (data,) = statements(open_engine, build(open_engine, tmp_path, dockerfile, provenance=V1, **given)).values()
    request = data["predicate"]["buildDefinition"]["externalParameters"]["request"]
    assert request["entitlements"] == [INSECURE, HOST_NETWORK]
    del given["entitlements"]
    (data,) = statements(
        open_engine, build(open_engine, tmp_path, "FROM busybox:1\n", provenance=MAX, **given)
    ).values()
    assert "entitlements" not in data["predicate"]["invocation"]["parameters"]


class TestDevices:
    """RUN --device, with CDI specs of the test's own."""

    LOOK = "echo $TOY; cat /opt/toy/f; stat -c %t:%T /dev/toy0"

    @pytest.fixture(autouse=True)
    def _spec(self, specs: Path, tmp_path: Path) -> Iterator[None]:
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "f").write_text("of the host\n")
        mount = {"hostPath": f"{tmp_path}/lib", "containerPath": "/opt/toy", "options": ["ro"]}
        edits = {
            "env": ["TOY=a"],
            "mounts": [mount],
            "deviceNodes": [{"path": "/dev/toy0", "hostPath": "/dev/full"}],
        }
        devices = [{"name": "a", "containerEdits": edits}, {"name": "b", "containerEdits": {"env": ["TOY=b"]}}]
        self.write(specs / "toy.json", "vendor.com/toy", devices)
        free = {"org.mobyproject.buildkit.device.autoallow": "true"}
        devices = [{"name": "x", "containerEdits": {"env": ["FREE=x"]}}]
        self.write(specs / "free.json", "vendor.com/free", devices, annotations=free)
        yield
        (specs / "toy.json").unlink(missing_ok=True)
        (specs / "free.json").unlink()

    @staticmethod
    def write(path: Path, kind: str, devices: list[dict[str, Any]], **top: Any) -> None:
        path.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": devices, **top}))

    def test_a_step_has_what_the_device_stands_for_and_the_image_nothing_of_it(
        self, open_engine: Engine, tmp_path: Path
    ) -> None:
        folder = context(tmp_path / "context", {"f": ""})
        for name in ("vendor.com/toy=a", "name=vendor.com/toy=a,required", "vendor.com/toy", "vendor.com/toy=a"):
            dockerfile = f"FROM busybox:1\nRUN --device={name} {self.LOOK}; touch /made\n"
            built = build(open_engine, folder, dockerfile, entitlements=["device"], no_cache=True)
            assert built.output == b"a\nof the host\n1:7\n", name
            assert shell(open_engine, built, "ls -d /made /opt 2>/dev/null; ls /dev/toy0 2>/dev/null; echo $TOY") == (
                "/made\n\n"
            )

    def test_a_device_is_refused_unless_the_build_is_given_it_or_the_host_lets_every_build_have_it(
        self, engine: Engine, open_engine: Engine, tmp_path: Path
    ) -> None:
        folder = context(tmp_path / "context", {"f": ""})
        dockerfile = "FROM busybox:1\nRUN --device=vendor.com/toy=b echo $TOY\n"
        failure = refused(open_engine, folder, dockerfile)
        assert told(failure) == ("BUILD_ENTITLEMENT_MISSING", "2", "device=vendor.com/toy=b")
        assert told(refused(open_engine, folder, dockerfile, entitlements=["device=vendor.com/toy=a"]))[0] == (
            "BUILD_ENTITLEMENT_MISSING"
        )
        one = build(open_engine, folder, dockerfile, entitlements=["device=vendor.com/toy=b"])
        assert one.output == b"b\n"
        free = "FROM busybox:1\nRUN --device=vendor.com/free=x echo $FREE\n"
        assert build(open_engine, folder, free).output == b"x\n"
        alias = dockerfile.replace("toy=b", "toy=alias")
        given = ["device=vendor.com/toy=b,alias=vendor.com/toy=alias"]
        assert build(open_engine, folder, alias, entitlements=given, no_cache=True).output == b"b\n"
        # An engine that has no such spec: it is absent, and not required.
        assert build(engine, folder, dockerfile, entitlements=["device"]).output == b"\n"

    def test_an_absent_device_is_skipped_unless_it_is_required(self, open_engine: Engine, tmp_path: Path) -> None:
        folder = context(tmp_path / "context", {"f": ""})
        text = "FROM busybox:1\nRUN --device=vendor.com/toy=none{} --device=vendor.com/toy=b echo $TOY\n"
        for option in ("", ",required=false"):
            built = build(open_engine, folder, text.format(option), entitlements=["device"], no_cache=True)
            assert built.output == b"b\n"
        failure = refused(open_engine, folder, text.format(",required"), entitlements=["device"])
        assert (failure.reason, failure.metadata["cause"]) == ("BUILD_STEP_FAILED", "CDI_DEVICE_UNAVAILABLE")
        assert (failure.metadata["line"], "vendor.com/toy=none" in str(failure)) == ("2", True)

    def test_a_result_belongs_to_the_devices_that_it_was_made_with(
        self, open_engine: Engine, specs: Path, tmp_path: Path
    ) -> None:
        folder = context(tmp_path / "context", {"f": ""})
        dockerfile = "FROM busybox:1\nRUN --device=vendor.com/toy=b echo with $TOY > /told\n"
        first = build(open_engine, folder, dockerfile, entitlements=["device"])
        again = build(open_engine, folder, dockerfile, entitlements=["device"])
        assert (first.state_of("RUN"), again.state_of("RUN")) == (DONE, CACHED)
        (specs / "toy.json").unlink()
        without = build(open_engine, folder, dockerfile)
        assert without.state_of("RUN") == DONE
        assert [shell(open_engine, one, "cat /told") for one in (again, without)] == ["with b\n", "with\n"]

    def test_a_result_belongs_to_what_the_specs_said_of_its_devices(
        self, open_engine: Engine, specs: Path, tmp_path: Path
    ) -> None:
        folder = context(tmp_path / "context", {"f": ""})
        dockerfile = "FROM busybox:1\nRUN --device=vendor.com/toy=b echo by $TOY $ALL > /told\n"
        edits: dict[str, Any] = {"env": ["TOY=b"]}
        top: dict[str, Any] = {}
        states = []
        for change in ("none", "comment", "device", "file"):
            if change == "comment":
                top["annotations"] = {"note": "nothing that a step sees"}
            elif change == "device":
                edits["env"] = ["TOY=other"]
            elif change == "file":
                top["containerEdits"] = {"env": ["ALL=all"]}
            self.write(specs / "toy.json", "vendor.com/toy", [{"name": "b", "containerEdits": edits}], **top)
            built = build(open_engine, folder, dockerfile, entitlements=["device"])
            states.append((built.state_of("RUN"), shell(open_engine, built, "cat /told")))
        assert [told for _, told in states] == ["by b\n", "by b\n", "by other\n", "by other all\n"]
        assert [state for state, _ in states[1:]] == [CACHED, DONE, DONE]
