"""Which SELinux labels a container gets, what is a label at all, and what of the host is labelled."""

from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from fluytd.containers import mounts, relabelling, selinux
from fluytd.containers.model import Container, ImageFacts, Labels, MountedVolume
from fluytd.containers.resolve import resolve
from fluytd.containers.selinux import Levels, SelinuxHost, asked, chosen
from fluytd.containers.spec import (
    BindSpec,
    ContainerSpec,
    NamespaceMode,
    NamespaceSpec,
    NamespacesSpec,
    Relabel,
    SecuritySpec,
    VolumesFrom,
    mount_field,
)
from fluytd.containers.start_facts import HostFacts, StartPaths, StartSettings
from fluytd.containers.start_spec import start_spec
from fluytd.errors import EngineError, FieldInvalid, FieldNotBuilt, KernelFeatureMissing, LimitExceeded
from fluytd.execs.model import ExecSpec
from fluytd.execs.resolve import exec_start
from fluytd.host import probe

HOST = SelinuxHost()
IMAGE = ImageFacts("i:1", "sha256:1", "sha256:2", "linux", "amd64", "", (), 0, cmd=("true",))
FACTS = HostFacts((), (), frozenset({0}), frozenset({0}), kernel_release="6.1", selinux=HOST)
PATHS = StartPaths("/r", "/l", ("/a",), "/u", "/w", "/c/hosts", "/c/hostname", "/c/resolv.conf", volumes_dir="/v")
SETTINGS = StartSettings("fluyt", 1, 1, "/init")
PAIR = Labels("system_u:system_r:container_t:s0:c1,c2", "system_u:object_r:container_file_t:s0:c1,c2")
OWN = NamespaceSpec()
SHARED = "system_u:object_r:container_file_t:s0"


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - the same at each run


def spec_of(
    *options: str,
    label: str = "",
    privileged: bool = False,
    pid: NamespaceSpec = OWN,
    ipc: NamespaceSpec = OWN,
    uts: NamespaceSpec = OWN,
) -> ContainerSpec:
    security = SecuritySpec(privileged=privileged, selinux_label=label, selinux_options=options)
    return ContainerSpec(image="i:1", security=security, namespaces=NamespacesSpec(pid, ipc, uts))


def container(labels: Labels | None, spec: ContainerSpec | None = None, *volumes: MountedVolume) -> Container:
    spec = spec or spec_of()
    resolved = replace(resolve(spec, IMAGE, "c" * 64), volumes=volumes)
    return Container("c" * 64, "other", spec, IMAGE, resolved, 0, selinux=labels)


def choose(spec: ContainerSpec, host: SelinuxHost | None = HOST, **others: Labels | None) -> Labels | None:
    return chosen(spec, lambda name: container(others[name]), host, Levels(), dice(7))


def test_a_container_has_a_level_of_its_own_in_both_labels() -> None:
    found = choose(spec_of())
    assert found is not None
    process, file = found.process.split(":", 3), found.mount.split(":", 3)
    assert (process[:3], file[:3]) == (
        ["system_u", "system_r", "container_t"],
        ["system_u", "object_r", "container_file_t"],
    )
    low, high = (int(one[1:]) for one in file[3].removeprefix("s0:").split(","))
    assert process[3] == file[3]
    assert 0 <= low < high < selinux.CATEGORIES


def test_no_two_containers_have_one_level_and_none_has_the_reserved_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert selinux._pair(selinux.LEVELS - 1) == "c511,c1023"
    monkeypatch.setattr(selinux, "CATEGORIES", 64)
    assert len({selinux._pair(number) for number in range(64 * 63 // 2)}) == 64 * 63 // 2
    monkeypatch.setattr(selinux, "CATEGORIES", 4)
    monkeypatch.setattr(selinux, "LEVELS", 6)
    monkeypatch.setattr(selinux, "UNLABELLED_LEVEL", "c2,c3")
    levels, held = Levels(), []
    for seed in range(5):
        held.append(chosen(spec_of(), lambda _: container(None), HOST, levels, dice(seed)))
        levels.hold(held[-1])
    assert {one.mount.split(":", 4)[4] for one in held if one} == {"c0,c1", "c0,c2", "c0,c3", "c1,c2", "c1,c3"}
    with pytest.raises(LimitExceeded):
        levels.find(dice(1))
    # One that two share is free with the second.
    levels.hold(held[0])
    levels.release(held[0])
    with pytest.raises(LimitExceeded):
        levels.find(dice(1))
    levels.release(held[0])
    assert held[0] is not None
    assert held[0].mount.endswith(levels.find(dice(1)))


def test_a_level_that_a_caller_names_is_nobody_elses() -> None:
    found = choose(spec_of("level:s0:c5,c9"))
    assert found == Labels("system_u:system_r:container_t:s0:c5,c9", "system_u:object_r:container_file_t:s0:c5,c9")
    levels = Levels()
    levels.hold(found)
    assert "c5,c9" in levels._uses


@pytest.mark.parametrize(
    ("options", "label", "process", "file"),
    [
        (("type:spc_t",), "", "system_u:system_r:spc_t", "system_u:object_r:container_file_t"),
        (("user:u", "role:r", "filetype:f_t"), "", "u:r:container_t", "system_u:object_r:f_t"),
        ((), "type:spc_t", "system_u:system_r:spc_t", "system_u:object_r:container_file_t"),
        (("filetype:f_t",), "u:r:t_t", "u:r:t_t", "system_u:object_r:f_t"),
    ],
)
def test_parts_take_the_place_of_the_engines(options: tuple[str, ...], label: str, process: str, file: str) -> None:
    for privileged in (False, True):
        found = choose(spec_of(*options, label=label, privileged=privileged))
        assert found is not None
        assert (found.process.rsplit(":", 2)[0], found.mount.rsplit(":", 2)[0]) == (process, file)
        assert found.process.rsplit(":", 1)[1] == found.mount.rsplit(":", 1)[1]


def test_a_whole_label_is_taken_with_its_level() -> None:
    found = choose(spec_of(label="u_u:r_r:t_t:s0:c3,c4"))
    assert found == Labels("u_u:r_r:t_t:s0:c3,c4", "system_u:object_r:container_file_t:s0:c3,c4")


@pytest.mark.parametrize(
    ("label", "options", "error", "field"),
    [
        ("type:", (), FieldInvalid, "selinux_label"),
        ("type:a b", (), FieldInvalid, "selinux_label"),
        ("type:a:b", (), FieldInvalid, "selinux_label"),
        ("colour:red\n", (), FieldInvalid, "selinux_label"),
        ("x" * 256, (), FieldInvalid, "selinux_label"),
        ("level:" + "c" * 64, (), FieldInvalid, "selinux_label"),
        ("nested", (), FieldNotBuilt, "selinux_label"),
        ("", ("type:a", "nested"), FieldNotBuilt, "selinux_options[1]"),
        ("", ("type:a", "type:b"), FieldInvalid, "selinux_options[1]"),
        ("", ("disable",), FieldInvalid, "selinux_options[0]"),
        ("disable", ("type:a",), FieldInvalid, "selinux_options[0]"),
        ("u:r:t:s0", ("level:s0",), FieldInvalid, "selinux_options[0]"),
        ('u:r:t:s0",x="', (), FieldInvalid, "selinux_label"),
    ],
)
def test_what_is_no_label_is_refused_by_its_field(
    label: str, options: tuple[str, ...], error: type[EngineError], field: str
) -> None:
    for host in (HOST, None):
        with pytest.raises(error) as refused:
            selinux.check(SecuritySpec(selinux_label=label, selinux_options=options), host, "6.1")
        assert refused.value.metadata["field"] == f"spec.security.{field}"


def test_labels_want_selinux_and_to_be_without_does_not() -> None:
    for security in (SecuritySpec(selinux_label="type:t"), SecuritySpec(selinux_options=("level:s0:c1",))):
        with pytest.raises(KernelFeatureMissing):
            selinux.check(security, None, "6.1")
    selinux.check(SecuritySpec(selinux_label="disable"), None, "6.1")
    assert choose(spec_of(), None) is None
    assert choose(spec_of(label="disable")) is None
    assert asked(SecuritySpec()) == selinux.Asked()


def test_who_has_something_of_the_hosts_has_no_label_unless_it_is_asked_for() -> None:
    of_host = NamespaceSpec(NamespaceMode.HOST)
    assert choose(spec_of(privileged=True)) is None
    assert choose(spec_of(pid=of_host)) is None
    assert choose(spec_of(ipc=of_host)) is None
    assert choose(spec_of(uts=of_host)) is not None
    assert choose(spec_of("type:t", pid=of_host)) is not None


def test_who_shares_processes_or_ipc_has_the_others_labels() -> None:
    first, second = (NamespaceSpec(NamespaceMode.CONTAINER, name) for name in ("first", "second"))
    other = Labels("a:b:c:s0:c3,c4", "a:b:d:s0:c3,c4")
    assert choose(spec_of(pid=first), first=PAIR) == PAIR
    assert choose(spec_of(ipc=first), first=PAIR) == PAIR
    assert choose(spec_of(pid=first, ipc=second), first=PAIR, second=PAIR) == PAIR
    assert choose(spec_of(pid=first), first=None) is None
    with pytest.raises(FieldInvalid, match="different SELinux labels"):
        choose(spec_of(pid=first, ipc=second), first=PAIR, second=other)
    found = choose(spec_of("level:s0:c8,c9", pid=first), first=PAIR)
    assert found is not None
    assert found.mount.endswith(":c8,c9")


def test_a_policy_that_lacks_the_types_gives_labels_to_those_alone_who_ask() -> None:
    host = replace(HOST, is_default=False)
    assert choose(spec_of(), host) is None
    assert choose(spec_of("type:t"), host) is not None


def test_a_policy_without_levels_has_labels_of_three_parts() -> None:
    host = SelinuxHost("u:r:container_t", "u:r:container_file_t")
    assert choose(spec_of(), host) == Labels("u:r:container_t", "u:r:container_file_t")
    levels = Levels()
    levels.hold(Labels("u:r:container_t", "u:r:container_file_t"))
    assert not levels._uses


def test_every_process_of_a_container_has_its_label_and_its_files_have_theirs() -> None:
    labelled = container(PAIR)
    started = start_spec(labelled, PATHS, SETTINGS, FACTS)
    assert (started.process_label, started.mount_label) == (PAIR.process, PAIR.mount)
    for privileged in (False, True):
        further = exec_start("e", labelled, ExecSpec(args=("true",), privileged=privileged), FACTS, is_held=False)
        assert further.process_label == PAIR.process
    unlabelled = start_spec(container(None), PATHS, SETTINGS, FACTS)
    assert (unlabelled.process_label, unlabelled.mount_label) == ("", "")
    # The host has lost its SELinux since the container was made.
    without = replace(FACTS, selinux=None)
    assert start_spec(labelled, PATHS, SETTINGS, without).process_label == ""
    with pytest.raises(KernelFeatureMissing):
        start_spec(container(PAIR, spec_of("type:container_t")), PATHS, SETTINGS, without)


def trees(one: Container) -> list[tuple[str, str, bool]]:
    found = relabelling.trees(one, PATHS, one.selinux, HOST)
    return [(tree.path, tree.label, tree.is_ours) for tree in found if not tree.path.startswith(("/c/", "/u"))]


def test_what_is_labelled_for_a_start() -> None:
    binds = tuple(BindSpec("/t", f"/{one.value}", relabel=one) for one in Relabel)
    spec = replace(spec_of(), binds=binds)
    volumes = (
        MountedVolume("/1", "kept", "kept"),
        MountedVolume("/2", "own", "own", relabel=Relabel.PRIVATE, driver_options={"size": "1g"}),
        MountedVolume("/3", "far", "far", relabel=Relabel.SHARED, driver_options={"type": "nfs", "device": ":/x"}),
        MountedVolume("/4", "near", "near", relabel=Relabel.SHARED, driver_options={"o": "bind", "device": "/near"}),
        MountedVolume("/5", "plugged", "plugged", driver="other"),
    )
    of_binds = [("/shared", SHARED, False), ("/private", PAIR.mount, False), ("/own", SHARED, True)]
    assert trees(container(PAIR, spec)) == of_binds
    assert trees(container(PAIR, spec_of(), *volumes)) == [
        ("/v/kept/_data", SHARED, True),
        ("/v/own/_data", PAIR.mount, False),
        ("/near", SHARED, False),
    ]
    # Who has no labels labels only what it is told to, and with none that another may have.
    alone = "system_u:object_r:container_file_t:s0:c1022,c1023"
    assert trees(container(None, spec)) == [("/shared", SHARED, False), ("/private", alone, False), of_binds[2]]
    assert trees(container(None, spec_of(), volumes[0])) == []
    own = [tree for tree in relabelling.trees(container(PAIR), PATHS, PAIR, HOST) if tree.path.startswith("/c/")]
    assert {(tree.label, tree.is_ours) for tree in own} == {(SHARED, True)}
    assert len(own) == 3
    upper = next(iter(relabelling.trees(container(PAIR), PATHS, PAIR, HOST)))
    assert (upper.path, upper.label, upper.is_ours) == ("/u", PAIR.mount, True)
    assert list(relabelling.trees(container(None), PATHS, None, HOST)) == []


def test_who_takes_over_anothers_mounts_takes_no_label_from_them() -> None:
    spec = replace(spec_of(), binds=(BindSpec("/a", "/srv/x", relabel=Relabel.PRIVATE),))
    other = container(PAIR, spec, MountedVolume("/v", "kept", "kept", relabel=Relabel.PRIVATE))
    ctx: Any = SimpleNamespace(table=SimpleNamespace(find=lambda _: SimpleNamespace(container=other)))
    volumes, binds = mounts._inherited(ctx, VolumesFrom("other"))
    assert [one.relabel for one in volumes] + [one.relabel for one in binds] == [Relabel.NONE, Relabel.NONE]


def test_another_containers_mounts_stand_in_no_list_of_this_request() -> None:
    spec = replace(spec_of(), binds=(BindSpec("/a", "/srv/x", position=3),))
    other = container(PAIR, spec, MountedVolume("/v", "kept", "kept", position=4))
    ctx: Any = SimpleNamespace(table=SimpleNamespace(find=lambda _: SimpleNamespace(container=other)))
    volumes, binds = mounts._inherited(ctx, VolumesFrom("other"))
    positions = [one.position for one in volumes] + [one.position for one in binds]
    assert [mount_field(position) for position in positions] == ["spec.mounts", "spec.mounts"]


@pytest.mark.parametrize(
    "path",
    ["/", "/etc", "/etc/ssl", "/usr", "/usr/", "/home", "/home/somebody", "/var/lib", "/proc/sys", "/root", "/tmp"],
)
def test_what_the_host_needs_is_never_labelled(path: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        relabelling.check(path, "spec.mounts[1].bind.relabel")
    assert refused.value.metadata["field"] == "spec.mounts[1].bind.relabel"


def test_a_link_to_what_the_host_needs_is_seen_through(tmp_path: Path) -> None:
    (tmp_path / "etc").symlink_to("/etc")
    for place in (tmp_path, Path("/srv/web"), Path("/home/somebody/web"), Path("/var/lib/web")):
        relabelling.check(str(place), "any")
    with pytest.raises(FieldInvalid):
        relabelling.check(str(tmp_path / "etc"), "any")
    made: list[str] = []

    def relabel(path: str, label: str, trusts_root: bool) -> int:
        made.append(path)
        return 0

    spec = replace(
        spec_of(),
        binds=(
            BindSpec("/a", "/srv/x", relabel=Relabel.SHARED, position=0),
            BindSpec("/b", "/etc", relabel=Relabel.SHARED, position=2),
        ),
    )
    for host in (HOST, None):
        before = relabelling.Relabelling(relabel, host).before
        if host is None:
            before(container(PAIR, spec), PATHS, "6.1")
        else:
            with pytest.raises(FieldInvalid) as refused:
                before(container(PAIR, spec), PATHS, "6.1")
            assert refused.value.field == "spec.mounts[2].bind.relabel"
    # Nothing before it either.
    assert made == []


def test_what_the_host_says_of_labels_is_read(tmp_path: Path) -> None:
    assert probe.selinux_labels(tmp_path) == {}
    (tmp_path / "config").write_text("# SELINUXTYPE=other\nSELINUX=enforcing\nSELINUXTYPE=mine\n")
    assert probe.selinux_labels(tmp_path) == {}
    contexts = tmp_path / "mine" / "contexts"
    contexts.mkdir(parents=True)
    (contexts / "lxc_contexts").write_text('process = "a:b:c:s0"\ncontent = "x"\nfile = "a:b:d:s0"\n')
    assert probe.selinux_labels(tmp_path) == {
        "process": "a:b:c:s0",
        "content": "x",
        "file": "a:b:d:s0",
    }
    assert not probe.knows_selinux_label(tmp_path, "a:b:c:s0")
    (tmp_path / "context").touch()
    assert probe.knows_selinux_label(tmp_path, "a:b:c:s0")
