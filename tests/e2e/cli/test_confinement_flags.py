"""Flags of `fluyt run` about devices, namespaces, names and further limits, proved by what the container sees or the
engine stored."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cli.program import IMAGE, Program

MASKS = "grep -c ' /proc/' /proc/self/mounts"


@pytest.mark.parametrize(
    ("flags", "script", "expected"),
    [
        (["--device", "/dev/full:/dev/mine:r"], "stat -c %t:%T /dev/mine", "1:7"),
        (
            ["--device", "/dev/kmsg:r", "--cap-add", "SYSLOG", "--userns", "host"],
            "(exec 3</dev/kmsg) && (exec 4>/dev/kmsg) 2>&- || echo reads",
            "reads",
        ),
        (
            ["--device-cgroup-rule", "c 1:11 r", "--cap-add", "SYSLOG", "--userns", "host"],
            "mknod /tmp/k c 1 11; (exec 3</tmp/k) && echo reads",
            "reads",
        ),
        (["--dns", "192.0.2.1", "--dns-search", "."], "grep -v '#' /etc/resolv.conf | head -1", "nameserver 192.0.2.1"),
        (["--dns-opt", "ndots:3"], "grep ndots /etc/resolv.conf", "options ndots:3"),
        (["--add-host", "db:10.0.0.7"], "grep -c '10.0.0.7.db' /etc/hosts", "1"),
        (["--add-host", "six=fe80::1"], "grep -c 'fe80::1.six' /etc/hosts", "1"),
        (["--pid", "host"], "test $$ -ne 1 && echo other", "other"),
        (["--ipc", "none"], "test -e /dev/shm || echo none", "none"),
        (["--ipc", "shareable"], "test -d /dev/shm && echo shm", "shm"),
        (["--uts", "host"], 'test "$(hostname)" = "$(cat /etc/hostname)" && echo same', "same"),
        (["--cgroupns", "host"], "grep -q 'fluyt-test' /proc/self/cgroup && echo whole", "whole"),
        (["--userns", "host"], "cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f4", "4294967295"),
        (["--security-opt", "systempaths=unconfined"], f"{MASKS}; true", "0"),
        (["--security-opt", "apparmor=unconfined", "--security-opt", "label=disable"], "echo ok", "ok"),
        (["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | cut -f2", "1"),
        (["--tmpfs", "/run:size=1m"], "grep -c ' /run tmpfs' /proc/self/mounts", "1"),
        (["--group-add", "4242", "--group-add", "daemon"], "id -G | tr ' ' '\\n' | grep -cE '^(4242|1)$'", "2"),
    ],
)
def test_a_flag_shapes_what_the_container_sees(fluyt: Program, flags: list[str], script: str, expected: str) -> None:
    assert fluyt.run(*flags, script=script) == f"{expected}\n"


def test_a_profile_in_a_file_decides_which_calls_there_are(fluyt: Program, tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    calls = [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}))
    script = "mkdir /x 2>/dev/null || echo refused"
    assert fluyt.run("--security-opt", f"seccomp={path}", script=script) == "refused\n"
    path.write_text("{}")
    ended = fluyt("run", "--security-opt", f"seccomp={path}", IMAGE, "true")
    assert ended.code == 125
    assert "defaultAction" in ended.err


def test_namespaces_of_another_container_are_named_by_it(fluyt: Program) -> None:
    fluyt.ok("run", "-d", "--name", "other", "--hostname", "box", "--ipc", "shareable", IMAGE, "sleep", "1000")
    flags = [f"--{name}=container:other" for name in ("pid", "ipc", "uts", "cgroupns", "network")]
    assert fluyt.run(*flags, script="hostname; test $$ -ne 1 && echo other") == "box\nother\n"
    ended = fluyt("run", "--pid", "container:nobody", IMAGE, "true")
    assert (ended.code, "nobody" in ended.err) == (125, True)


def test_further_limits_are_stored_as_they_were_given_and_changed_by_update(fluyt: Program) -> None:
    [disk, *_] = sorted(str(Path("/dev", each.name)) for each in Path("/sys/block").iterdir())
    flags = ["--memory-swappiness", "7", "-m", "64m", "--oom-kill-disable", "--cpu-quota", "50000"]
    flags += ["--cpu-burst", "1000", "--blkio-weight", "300", "--device-read-bps", f"{disk}:1m"]
    flags += ["--device-write-iops", f"{disk}:9", "--annotation", "a=b"]
    fluyt.ok("create", "--name", "limits", *flags, IMAGE, "true")

    def resources() -> dict[str, Any]:
        [shown] = fluyt("inspect", "--format", "json", "limits").objects
        assert shown["spec"]["annotations"] == {"a": "b"}
        return dict(shown["spec"]["resources"])

    stored = resources()
    assert (stored["memory_swappiness"], stored["oom_kill_disabled"], stored["io_weight"]) == (7, True, 300)
    assert stored["cpu_burst_micros"] == 1000
    [device] = stored["io_device_limits"]
    assert (device["path"], device["read_bytes_per_second"], device["write_ops_per_second"]) == (disk, 1 << 20, 9)
    fluyt.ok("update", "--memory-swappiness", "9", "--device-read-bps", f"{disk}:2m", "limits")
    changed = resources()
    [device] = changed["io_device_limits"]
    assert (changed["memory_swappiness"], device["read_bytes_per_second"]) == (9, 2 << 20)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--device", "full"], "/dev/x"),
        (["--device", "/dev/nothing-here"], "/dev/nothing-here"),
        (["--device", "vendor.com/class=nothing"], "no spec in"),
        (["--device-cgroup-rule", "c 1"], "c 1:3 rwm"),
        (["--pid", "none"], "container:NAME"),
        (["--ipc", "other"], "shareable"),
        (["--add-host", "db"], "NAME:ADDRESS"),
        (["--dns", "nowhere"], "IP address"),
        (["--device-read-bps", "vda:1m"], "/dev/x:SIZE"),
        (["--security-opt", "systempaths=some"], "systempaths=unconfined"),
        (["--cgroup-parent", "a/../b"], "cgroup_parent"),
        (["--memory-swappiness", "101"], "memory_swappiness"),
    ],
)
def test_a_wrong_flag_ends_with_125_and_says_which(fluyt: Program, flags: list[str], named: str) -> None:
    ended = fluyt("run", "--rm", *flags, IMAGE, "true")
    assert ended.code == 125, ended
    assert named in ended.err
    assert ended.out == ""
