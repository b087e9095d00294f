"""Making a container: its record first, then its directories. It starts nothing."""

import dataclasses
import re
from typing import Final, TypeVar

from fluytd import failpoints
from fluytd.containers import checks, facts, mounts, namespaces, selinux, transitions, user_ids
from fluytd.containers.context import Context
from fluytd.containers.model import Container, MountedImage
from fluytd.containers.names import NAME_RULE, is_valid_name, make_name
from fluytd.containers.privileges import capabilities
from fluytd.containers.resolve import resolve
from fluytd.containers.spec import ContainerSpec, SecuritySpec, mount_field
from fluytd.containers.start_facts import HostFacts
from fluytd.containers.table import Entry
from fluytd.errors import FieldInvalid, FieldNotBuilt, KernelFeatureMissing
from fluytd.ids import ContainerId

T = TypeVar("T")

#: Specifications of which is kept what was found out of them, the oldest given up first.
MAX_KEPT_SPECS: Final = 256


def with_defaults(ctx: Context, spec: ContainerSpec) -> ContainerSpec:
    """The specification, with the engine's log driver where the caller named none, and with its network mode where the
    caller named none and asks for nothing of one. The same object for the same specification."""
    kept = ctx.completed_specs.get(id(spec))
    if kept is not None and kept[0] is spec:
        return kept[1]
    completed = _with_defaults(ctx, spec)
    _keep(ctx.completed_specs, id(spec), (spec, completed))
    return completed


def _keep(kept: dict[int, T], key: int, value: T) -> None:
    if len(kept) >= MAX_KEPT_SPECS:
        del kept[next(iter(kept))]
    kept[key] = value


def _with_defaults(ctx: Context, spec: ContainerSpec) -> ContainerSpec:
    if spec.log.driver is None:
        spec = dataclasses.replace(spec, log=dataclasses.replace(spec.log, driver=ctx.default_log_driver))
    network = spec.network
    if not network.is_default or network.attachments or network.published_ports or network.publish_all_ports:
        return spec
    return dataclasses.replace(spec, network=dataclasses.replace(network, mode=ctx.default_network_mode))


def check(ctx: Context, spec: ContainerSpec, name: str) -> None:
    """Raises FIELD_INVALID, LIMIT_EXCEEDED and their kin for what can be told before the image is known."""
    if name and not is_valid_name(name):
        raise FieldInvalid(field="name", rule=f"must have {NAME_RULE}")
    if ctx.checked_specs.get(id(spec)) is not spec:
        checks.check_spec(spec)
        _keep(ctx.checked_specs, id(spec), spec)
    user_ids.check_users(spec.namespaces.user)
    checks.check_against_host(spec.resources, ctx.host.cpus, ctx.host.memory_nodes, "spec.resources")
    allowed = capabilities(spec.security, ctx.host)
    check_modules(spec.security, ctx.host)
    profile = spec.security.seccomp_profile
    if profile is not None and profile not in {"default", "unconfined"}:
        ctx.runtime.check_seccomp(profile, allowed)
    ctx.runtime.check_parent(spec.cgroup_parent, "spec.cgroup_parent")
    if ctx.volumes is None and (spec.volumes or spec.volumes_from):
        volume = next(iter(spec.volumes), None)
        raise FieldNotBuilt(field=f"{mount_field(volume.position)}.volume" if volume else "spec.volumes_from")
    ctx.networking.check(spec.network.attachments)
    if spec.storage_size_bytes:
        if ctx.quotas is None:
            raise FieldNotBuilt(field="spec.storage_size_bytes")
        ctx.quotas.check()
    if ctx.probe is None and spec.health_check is not None and not spec.health_check.is_disabled:
        raise FieldNotBuilt(field="spec.health_check")


#: What may stand in a profile's name; the kernel reads it to the end of what is written. Source: apparmor.d(5).
_PROFILE: Final = re.compile(r"[!-~]{1,255}")


def check_modules(security: SecuritySpec, host: HostFacts) -> None:
    """Raises FIELD_INVALID for what is no profile or label; KERNEL_FEATURE_MISSING for one of a module that the host
    does not have. To be without one can be asked of any host. See also `selinux.check`."""
    profile = security.apparmor_profile
    if profile not in {"", "unconfined"}:
        if not _PROFILE.fullmatch(profile):
            rule = "must be a name of 1 to 255 characters of ASCII without blanks"
            raise FieldInvalid(field="spec.security.apparmor_profile", rule=rule)
        if not host.has_apparmor:
            raise KernelFeatureMissing(feature="apparmor", kernel_release=host.kernel_release)
    selinux.check(security, host.selinux, host.kernel_release)


async def begin(ctx: Context, spec: ContainerSpec, name: str, *, is_stored: bool = True) -> Entry:
    """The container is in the table, CREATING, and its name is taken; the record is on its way to the store, unless the
    caller records the next state before it does anything (`is_stored`).

    The caller holds the entry's lock from here until `CREATED` is recorded or `undo` was called: no one else can
    have it yet. Raises IMAGE_NOT_FOUND and its kin, NAME_IN_USE, FIELD_INVALID.
    """

    def find(reference: str) -> Container:
        return ctx.table.find(reference).container

    image = await ctx.images.find(spec.image, spec.platform)
    images = [
        MountedImage(one.target, await ctx.images.find(one.image, None), one.sub_path) for one in spec.image_mounts
    ]
    spec = namespaces.bound(spec, find)
    # From here to `add` nothing is awaited: the image cannot be deleted in between.
    others = [find(reference) for reference in namespaces.others(spec)]
    container_id = ContainerId.new()
    container = Container(
        id=container_id,
        name=name or make_name(ctx.table.names, ctx.random),
        spec=spec,
        image=image,
        resolved=resolve(spec, image, container_id, namespaces.host_name(spec, ctx.host.hostname, find)),
        create_time_unix_nanos=ctx.clock.now_unix_nanos(),
        ids=user_ids.chosen(spec, image, others, ctx.id_settings, ctx.table.id_ranges),
        selinux=selinux.chosen(spec, find, ctx.host.selinux, ctx.table.levels, ctx.random),
        project_id=ctx.quotas.take() if ctx.quotas is not None and spec.storage_size_bytes else 0,
    )
    entry = ctx.table.add(container)
    try:
        ctx.table.complete(entry, mounts.with_mounts(ctx, container, images))
    except BaseException:
        ctx.table.remove(entry)
        raise
    await entry.lock.acquire()
    # Volumes are made only for a container whose record stands.
    if is_stored or entry.container.resolved.volumes:
        failpoints.hit("container.create.record")
        ctx.record(entry, entry.container)
    return entry


async def undo(ctx: Context, entry: Entry) -> None:
    """Nothing of a container that could not be made is left."""
    try:
        await ctx.workers.run(ctx.directories.discard, entry.container.id)
        await lift(ctx, entry.container)
        await mounts.release(ctx, entry.container, removes_anonymous=True)
    finally:
        ctx.table.remove(entry)
        ctx.forget(entry.container, ())
        entry.removed.set()
        entry.wake()


async def lift(ctx: Context, container: Container) -> None:
    """Nothing is noted of the bound of a container whose files have gone. Idempotent. Raises IO_FAILED."""
    if ctx.quotas is not None and container.project_id:
        failpoints.hit("container.quota.release")
        await ctx.workers.run(ctx.quotas.release, container.project_id)


def make_directories(ctx: Context, container: Container) -> None:
    """The container's directories are there. Raises LAYER_NOT_FOUND, STORAGE_FULL, IO_FAILED. Blocking."""
    ctx.directories.create(container, ctx.images.lower_dirs(container.image))


def keep_directories(ctx: Context, container: Container) -> None:
    """As `make_directories`, unless they stand."""
    if not ctx.directories.exists(container.id):
        make_directories(ctx, container)


async def create(ctx: Context, spec: ContainerSpec, name: str) -> Container:
    """The container is CREATED, recorded durably, and its directories are there. See `check` and `begin` for failures;
    STORAGE_FULL, IO_FAILED besides: nothing is left then."""
    check(ctx, spec, name)
    entry = await begin(ctx, spec, name)
    try:
        await ctx.workers.run(make_directories, ctx, entry.container)
        await mounts.provide(ctx, entry.container)
        failpoints.hit("container.create.created")
        container = transitions.created(entry.container)
        await ctx.record(entry, container, (facts.created(container),), durable=True)
    except BaseException:
        await undo(ctx, entry)
        raise
    finally:
        entry.lock.release()
    return container
