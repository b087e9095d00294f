"""Devices that a container is given: by path, by rule, by CDI name; and what it is not given."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluyt.v1.types import container_spec_pb2, security_pb2
from tests.e2e.containers.sees_steps import shell
from tests.e2e.containers.steps import (
    HOST_USERS,
    IMAGE,
    INVALID,
    WRONG_STATE,
    Refusal,
    create,
    delete,
    get,
    refused,
    refused_run,
)
from tests.support import image_files, images
from tests.support.engine import Engine

#: No default device, and there on every host. To read it takes a capability besides, over the host.
KMSG = "/dev/kmsg"
READER: dict[str, Any] = {
    "security": security_pb2.SecuritySpec(add_capabilities=["SYSLOG"]),
    "namespaces": HOST_USERS,
}


def device(host: str, inside: str = "", permissions: str = "") -> container_spec_pb2.Device:
    return container_spec_pb2.Device(host_path=host, container_path=inside, permissions=permissions)


def test_a_device_is_there_with_its_number_and_only_what_was_asked_can_be_done_with_it(engine: Engine) -> None:
    assert shell(engine, f"test ! -e {KMSG}") == ""
    script = "stat -c '%F %t:%T %a' /dev/my/deep/full"
    told = shell(engine, script, devices=[device("/dev/full", "/dev/my/deep/full")])
    assert told == "character special file 1:7 666\n"
    # A node that is no default one, so that the rule alone decides. A shell that cannot open it ends.
    script = f"(exec 3<{KMSG}) 2>/dev/null && echo reads; (exec 4>{KMSG}) 2>/dev/null && echo writes; true"
    for permissions, can in (("", {"reads", "writes"}), ("r", {"reads"}), ("w", {"writes"}), ("m", set())):
        told = shell(engine, script, devices=[device(KMSG, permissions=permissions)], **READER)
        assert set(told.split()) == can, permissions


def test_a_device_may_stand_outside_of_dev_and_a_directory_stands_for_all_below_it(engine: Engine) -> None:
    given = [device("/dev/full", "/srv/full", "r")]
    assert shell(engine, "stat -c '%t:%T' /srv/full", devices=given) == "1:7\n"
    told = shell(engine, "ls /dev/inputs", devices=[device("/dev/net", "/dev/inputs")])
    assert set(told.split()) == {path.name for path in Path("/dev/net").iterdir()}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (device("/dev/nothing-here"), "spec.devices[0].host_path"),
        (device("/etc/passwd", "/dev/x"), "spec.devices[0].host_path"),
        (device("dev/null"), "spec.devices[0].host_path"),
        (device("/dev/../dev/full"), "spec.devices[0].host_path"),
        (device("/dev/full", "full"), "spec.devices[0].container_path"),
        (device("/dev/full", "/dev/../x"), "spec.devices[0].container_path"),
        (device("/dev/full", "/dev"), "spec.devices[0].container_path"),
        (device("/dev/full", "/dev/pts/x"), "spec.devices[0].container_path"),
        (device("/dev/full", "/dev/fd/1"), "spec.devices[0].container_path"),
        (device("/dev/full", permissions="rx"), "spec.devices[0].permissions"),
    ],
)
def test_what_is_no_device_or_no_place_for_one_is_refused(
    engine: Engine, given: container_spec_pb2.Device, field: str
) -> None:
    refusal = refused_run(engine, "true", devices=[given])
    assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", field)


def test_z13_no_device_takes_the_place_of_a_standard_one(engine: Engine) -> None:
    assert shell(engine, "stat -c %t:%T /dev/null", devices=[device("/dev/null")]) == "1:3\n"
    refusal = refused_run(engine, "true", devices=[device("/dev/full", "/dev/null")])
    assert refusal[:2] == (WRONG_STATE, "PROCESS_START_FAILED")
    assert refusal[2]["step"] == "device"


def test_more_devices_than_the_limit_are_refused_by_its_name(engine: Engine) -> None:
    refusal = refused_run(engine, "true", devices=[device("/dev/full")] * 257)
    assert (refusal[1], refusal[2]["limit"]) == ("LIMIT_EXCEEDED", "MAX_DEVICES")
    refusal = refused_run(engine, "true", device_cgroup_rules=["c 1:3 r"] * 257)
    assert (refusal[1], refusal[2]["limit"]) == ("LIMIT_EXCEEDED", "MAX_DEVICE_RULES")


def test_a_rule_lets_a_node_be_used_that_the_container_makes_itself(engine: Engine) -> None:
    script = "mknod /tmp/k c 1 11 && (exec 3</tmp/k) 2>/dev/null && echo reads; true"
    assert shell(engine, script, **READER) == ""
    for rule in ("c 1:11 r", "c 1:* rwm", "a *:* rwm", "c *:11 r"):
        assert shell(engine, script, device_cgroup_rules=[rule], **READER) == "reads\n", rule
    for bad in ("c 1:11", "x 1:1 r", "c 1:11 rx", "c 1 r", "c 1:1 r\nc *:* rwm", "c -1:1 r"):
        refusal = refused_run(engine, "true", device_cgroup_rules=[bad])
        assert (*refusal[:2], refusal[2]["field"]) == (INVALID, "FIELD_INVALID", "spec.device_cgroup_rules[0]"), bad


def test_a_privileged_container_has_the_hosts_devices(engine: Engine) -> None:
    security = security_pb2.SecuritySpec(privileged=True)
    assert shell(engine, f"stat -c %t:%T {KMSG}", security=security, devices=[device(KMSG)]) == "1:b\n"


class TestCdi:
    """Names of the Container Device Interface."""

    @pytest.fixture(scope="class")
    @staticmethod
    def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
        """The directories of specs, the later one first."""
        root = tmp_path_factory.mktemp("cdi")
        for name in ("run", "etc"):
            (root / name).mkdir()
        return root / "run", root / "etc"

    @pytest.fixture(scope="class")
    @staticmethod
    def cdi_engine(places: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
        run, etc = places
        with Engine(tmp_path_factory.mktemp("cdi-engine"), options=["--cdi-spec-dirs", f"{etc},{run}"]) as running:
            running.load(image_files.oci_archive({IMAGE: images.busybox_image()}))
            yield running

    @staticmethod
    def write(path: Path, edits: dict[str, Any], kind: str = "vendor.com/toy", **top: Any) -> None:
        path.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": [{"name": "a", **edits}], **top}))

    def refused(self, engine: Engine, name: str = "vendor.com/toy=a") -> Refusal:
        return refused_run(engine, "true", cdi_devices=[name])

    def test_a_name_brings_its_nodes_variables_mounts_and_groups(
        self, cdi_engine: Engine, places: tuple[Path, Path], tmp_path: Path
    ) -> None:
        run, etc = places
        (tmp_path / "lib").mkdir()
        (tmp_path / "lib" / "driver").write_text("of the host\n")
        (etc / "toy.yaml").write_text(
            f"""
cdiVersion: "0.7.0"
kind: vendor.com/toy
containerEdits:
  env: [TOY_DRIVER=1]
  mounts:
  - {{hostPath: {tmp_path}/lib, containerPath: /opt/toy, options: [ro, nosuid, rbind]}}
devices:
- name: a
  containerEdits:
    env: ["TOY_A=yes", "PATH=/bin"]
    additionalGids: [4242]
    deviceNodes:
    - {{path: /dev/toy0, hostPath: {KMSG}, permissions: r, fileMode: 0o640, gid: 7}}
- name: b
  containerEdits:
    deviceNodes: [{{path: /dev/toy1, type: c, major: 1, minor: 7}}]
"""
        )
        script = (
            "echo $TOY_DRIVER $TOY_A $PATH; cat /opt/toy/driver; touch /opt/toy/x 2>/dev/null && echo wrote; id -G;"
            "stat -c '%t:%T %a %g' /dev/toy0; (exec 3</dev/toy0) && echo reads;"
            "(exec 4>/dev/toy0) 2>/dev/null && echo writes;"
            "stat -c %t:%T /dev/toy1"
        )
        names = ["vendor.com/toy=a", "vendor.com/toy=b", "vendor.com/toy=a"]
        told = shell(cdi_engine, script, cdi_devices=names, env=["TOY_A=no"], **READER).splitlines()
        assert told == ["1 yes /bin", "of the host", "0 4242", "1:b 640 7", "reads", "1:7"], told
        # What stands in the later directory goes before it, and is read anew at each start.
        self.write(run / "toy.json", {"containerEdits": {"env": ["TOY_A=later"]}})
        assert shell(cdi_engine, "echo $TOY_A $TOY_DRIVER", cdi_devices=["vendor.com/toy=a"]) == "later\n"
        (run / "toy.json").unlink()
        made = create(cdi_engine, "true", cdi_devices=["vendor.com/toy=a"])
        assert list(get(cdi_engine, made.id).spec.cdi_devices) == ["vendor.com/toy=a"]
        delete(cdi_engine, made.id)
        (etc / "toy.yaml").unlink()

    def test_what_cannot_be_given_is_told_with_the_file_and_the_rule(
        self, cdi_engine: Engine, places: tuple[Path, Path]
    ) -> None:
        run, _ = places
        spec = run / "toy.json"
        node = {"path": "/dev/x", "hostPath": "/dev/nothing-here"}
        mount = {"hostPath": "/x", "containerPath": "/y"}
        for edits, word in (
            ({"containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/bin/x"}]}}, "hooks"),
            ({"containerEdits": {"intelRdt": {"closID": "x"}}}, "intelRdt"),
            ({"containerEdits": {"deviceNodes": [node]}}, "/dev/nothing-here"),
            ({"containerEdits": {"deviceNodes": [{"path": "../x"}]}}, "absolute"),
            ({"containerEdits": {"mounts": [{**mount, "options": ["rshared"]}]}}, "rshared"),
            ({"containerEdits": {"env": ["A"]}}, "NAME=value"),
            ({"containerEdits": {"env": [f"A{n}=1" for n in range(513)]}}, "MAX_EDITS"),
            ({"containerEdits": []}, "object"),
        ):
            self.write(spec, edits)
            code, reason, metadata = self.refused(cdi_engine)
            assert (code, reason) == (WRONG_STATE, "CDI_DEVICE_UNAVAILABLE"), edits
            assert word in metadata["rule"], metadata
        for text, word in (
            ("{", "neither JSON"),
            ("[" * 100_000, "neither JSON"),
            ("{}", "cdiVersion"),
            (json.dumps({"cdiVersion": "9.9.9", "kind": "vendor.com/toy"}), "9.9.9"),
            (" " * (1024 * 1024 + 1), "MAX_SPEC_BYTES"),
        ):
            spec.write_text(text)
            assert word in self.refused(cdi_engine)[2]["rule"], text[:40]
        spec.unlink()
        bomb = run / "bomb.yml"
        bomb.write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")
        assert "aliases" in self.refused(cdi_engine)[2]["rule"]
        bomb.unlink()
        self.write(run / "one.json", {})
        self.write(run / "two.json", {})
        assert "both" in self.refused(cdi_engine)[2]["rule"]
        for path in run.iterdir():
            path.unlink()
        assert "no spec in" in self.refused(cdi_engine)[2]["rule"]
        for bad in ("toy=a", "vendor.com/toy", "vendor.com/toy=", "../x/y=z", "vendor.com/to y=a"):
            refusal = refused(lambda bad=bad: create(cdi_engine, "true", cdi_devices=[bad]))  # type: ignore[misc]
            assert (refusal[1], refusal[2]["field"]) == ("FIELD_INVALID", "spec.cdi_devices[0]"), bad
