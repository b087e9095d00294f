"""Containers: their service, further processes in them, their logs, their sizes."""

import functools
import logging
import platform
from collections import Counter
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from random import SystemRandom

from fluytd import failpoints
from fluytd._core import cgroup, host, process
from fluytd.bootstrap.base import Base
from fluytd.bootstrap.images import ImageParts
from fluytd.bootstrap.networks import NetworkParts, network_parts_of
from fluytd.config import Config
from fluytd.containers import selinux
from fluytd.containers.archives import CoreCopies, CoreTrees
from fluytd.containers.cdi_registry import CdiRegistry
from fluytd.containers.copying import ContainerCopies
from fluytd.containers.directories import ContainerDirectories, NameSources
from fluytd.containers.files import ContainerFiles
from fluytd.containers.host_devices import HostDevices
from fluytd.containers.meter import Meter
from fluytd.containers.mount_sources import MountSources
from fluytd.containers.scopes import Scopes
from fluytd.containers.selinux import SelinuxHost
from fluytd.containers.service import ContainerService
from fluytd.containers.spec import LogDriver, NetworkMode, UsersMode
from fluytd.containers.start_facts import HostFacts, StartSettings
from fluytd.containers.supervisor import CoreRuntime
from fluytd.containers.units import engine_slice
from fluytd.containers.user_ids import IdSettings
from fluytd.errors import FieldInvalid, KernelFeatureMissing
from fluytd.execs.probe import ExecProbe
from fluytd.execs.service import ExecService
from fluytd.host import apparmor, probe
from fluytd.host.quotas import ProjectQuotas
from fluytd.logs.reader import LogReaders
from fluytd.logs.service import LogService
from fluytd.networks.attachments import Attachments
from fluytd.recovery.apply import recover
from fluytd.state.containers import ContainerRecords
from fluytd.state.execs import ExecRecords
from fluytd.volumes.service import VolumeService
from fluytd.volumes.uses import VolumeUses

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContainerParts:
    """Containers and what goes with them."""

    service: ContainerService
    networks: NetworkParts
    execs: ExecService
    logs: LogService
    files: ContainerFiles
    copies: ContainerCopies
    meter: Meter
    readers: LogReaders
    cdi: CdiRegistry

    async def found_again(self) -> int:
        """How many containers of an earlier daemon run on; they and their further processes are known from now on."""
        await self.execs.load()
        await self.networks.open()
        report = await recover(self.service.ctx)
        self.execs.adopt()
        return report.adopted_count

    def counts(self) -> Mapping[str, int]:
        """Number of containers by the name of their state."""
        return Counter(entry.container.state.value for entry in self.service.ctx.table)


async def container_parts_of(
    base: Base, images: ImageParts, volumes: VolumeService, quotas: ProjectQuotas
) -> ContainerParts:
    """None is known yet (see `found_again`). When the engine stops, they stop only if the settings say so."""
    readers = started_log_readers(base.undo)
    cdi = CdiRegistry(tuple(map(Path, base.config.cdi_spec_dirs.split(","))))
    runtime, facts = await base.workers.run(_runtime, base, cdi)
    if facts.selinux is not None and facts.selinux.is_default:
        await base.workers.run_transfer(_label_layers, base.config, facts.selinux)
    base.undo.push_async_callback(base.workers.run, runtime.close)
    service: ContainerService
    names = _name_sources(base.config)
    networks = network_parts_of(
        base,
        runtime,
        lambda network_id: service.users_of_network(network_id),  # noqa: PLW0108 - it is made later
        names.servers,
    )
    service = await base.workers.run(
        _service, base, images, readers, volumes, runtime, facts, networks.attachments, names, quotas
    )
    table = service.ctx.table
    quotas.projects.holders.append(lambda: [entry.container.project_id for entry in table])
    networks.attachments.on_addresses = service.ctx.directories.write_names
    base.undo.push_async_callback(service.close, base.config.stop_containers_seconds * 1000)
    execs = ExecService(service.ctx, ExecRecords(base.database))
    service.ctx.probe = ExecProbe(execs)
    service.ctx.sources = volumes.ctx.sources = MountSources(runtime, base.workers)
    return ContainerParts(
        service=service,
        networks=networks,
        execs=execs,
        logs=LogService(service, readers.follow, base.workers, base.clock),
        files=ContainerFiles(service.ctx, CoreTrees(images.layers.core, base.workers), images.committer),
        copies=ContainerCopies(service.ctx, CoreCopies()),
        meter=Meter(service.ctx),
        readers=readers,
        cdi=cdi,
    )


def _runtime(base: Base, cdi: CdiRegistry) -> tuple[CoreRuntime, HostFacts]:
    config = base.config
    facts = HostFacts(
        tuple(process.default_capabilities()),
        tuple(process.all_capabilities()),
        probe.online("cpu"),
        probe.online("node"),
        hostname=platform.node(),
        kernel_release=platform.release(),
        has_apparmor=probe.has_apparmor(config.apparmor_module_path),
        default_apparmor_profile=_apparmor(config),
        selinux=_selinux(config),
    )
    settings = StartSettings(
        config.cgroup_parent,
        config.log_segment_bytes,
        config.log_segment_count,
        str(config.supervisor_path),
        str(config.journal_socket_path),
    )
    devices = HostDevices(cdi)
    has_users = id_settings(base).has_own_users
    scopes = _scopes(config) if config.cgroup_driver == "systemd" else None
    runtime = CoreRuntime(
        config.supervisor_path, config.run_root, settings, facts, devices, has_users=has_users, scopes=scopes
    )
    return runtime, facts


def _apparmor(config: Config) -> str:
    """The profile that is loaded for containers that ask for none, if there is one. Blocking (a program runs)."""
    if config.apparmor == "off" or not probe.has_apparmor(config.apparmor_module_path):
        return ""
    failpoints.hit("apparmor.load")
    problem = apparmor.load(apparmor.profile(apparmor.own_label()), config.apparmor_parser)
    if problem and not apparmor.is_loaded():
        _log.warning("containers get no AppArmor profile unasked: %s", problem)
        return ""
    if problem:
        _log.warning("containers get the AppArmor profile %s that is loaded: %s", apparmor.DEFAULT_PROFILE, problem)
    return apparmor.DEFAULT_PROFILE


def _selinux(config: Config) -> SelinuxHost | None:
    """What of the host's SELinux containers get. Blocking (some files)."""
    if config.selinux == "off" or not probe.has_selinux(config.selinux_filesystem_path / "enforce"):
        return None
    told, default = probe.selinux_labels(config.selinux_config_dir), SelinuxHost()
    labels = SelinuxHost(
        told.get("process", default.process), told.get("file", default.file), told.get("ro_file", default.layers)
    )
    unknown = [one for one in (labels.process, labels.file) if not _is_known(config, one)]
    if unknown:
        _log.warning("containers get no SELinux label unasked: the host's policy does not know %s", unknown[0])
        return replace(labels, is_default=False)
    if not _is_known(config, labels.layers):
        labels = replace(labels, layers=selinux.shared_label(None, labels))
    return labels


def _is_known(config: Config, label: str) -> bool:
    return probe.knows_selinux_label(config.selinux_filesystem_path, label)


def _label_layers(config: Config, labels: SelinuxHost) -> None:
    """Layers have the label by which containers may map programs from them, and so will those that are made in the same
    folders. Raises IO_FAILED. Blocking: once, as long as looking at every file."""
    for folder in ("layers", "repair"):
        failpoints.hit("layer.label")
        path = config.data_root / folder
        path.mkdir(mode=0o700, exist_ok=True)
        host.relabel(str(path), labels.layers, trusts_root=True)


def _scopes(config: Config) -> Scopes:
    """Raises FIELD_INVALID without the extra, KERNEL_FEATURE_MISSING, SYSTEMD_UNAVAILABLE. Blocking."""
    try:
        from fluytd.containers.systemd import SystemBus, make_group  # noqa: PLC0415 - an extra
    except ImportError as error:
        rule = f"systemd needs what `pip install 'fluytd[systemd]'` brings ({error.name})"
        raise FieldInvalid(field="cgroup_driver", rule=rule) from error
    if cgroup.layout().mode != "v2":
        feature = "cgroup v2 alone, which cgroup_driver systemd needs (cgroupfs works here)"
        raise KernelFeatureMissing(feature=feature, kernel_release=platform.release())
    return Scopes(SystemBus(), engine_slice(config.cgroup_parent), config.data_root, make_group)


@functools.cache
def _obstacle(data_root: Path) -> str:
    found = host.idmapped_mounts(str(data_root))
    return "" if found.is_available else found.detail or "it cannot shift the owners of files"


def id_settings(base: Base) -> IdSettings:
    """The settings about users, and what the host allows; that containers have the host's users although the setting
    says otherwise is logged. Blocking (a millisecond, once)."""
    config = base.config
    settings = IdSettings(
        UsersMode(config.default_userns),
        config.userns_first_id,
        config.userns_pool_count,
        config.userns_range_count,
        _obstacle(config.data_root),
    )
    if settings.default is UsersMode.AUTO and settings.obstacle:
        _tell_fallback(settings.obstacle)
    return settings


@functools.cache
def _tell_fallback(obstacle: str) -> None:
    _log.warning("containers have the host's users although default_userns is auto: %s", obstacle)


def _name_sources(config: Config) -> NameSources:
    return NameSources(
        resolv_conf=config.resolv_conf_path,
        systemd_resolv_conf=config.systemd_resolv_conf_path,
        fallback_servers=tuple(filter(None, config.dns_fallback_servers.split(","))),
    )


def _service(
    base: Base,
    images: ImageParts,
    readers: LogReaders,
    volumes: VolumeService,
    runtime: CoreRuntime,
    facts: HostFacts,
    networking: Attachments,
    names: NameSources,
    quotas: ProjectQuotas,
) -> ContainerService:
    config = base.config
    return ContainerService(
        runtime=runtime,
        directories=ContainerDirectories(config.data_root, config.run_root, names, quotas),
        images=images.present(base),
        records=ContainerRecords(base.database),
        open_log=readers.follow,
        workers=base.workers,
        clock=base.clock,
        random=SystemRandom(),
        host=facts,
        volumes=VolumeUses(volumes.ctx),
        quotas=quotas,
        networking=networking,
        default_network_mode=NetworkMode(config.default_network),
        id_settings=id_settings(base),
        default_log_driver=LogDriver(config.log_driver),
    )


def started_log_readers(undo: AsyncExitStack) -> LogReaders:
    """The readers of logs, until the stack is unwound."""
    readers = LogReaders()
    readers.start()
    undo.callback(readers.close)
    return readers
