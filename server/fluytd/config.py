"""The daemon's settings: defaults, then the TOML file, then the command line; proxies also by the environment.

The only reader of them all.
"""

import argparse
import ipaddress
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from fluytd.builds.entitlements import KINDS as ENTITLEMENTS
from fluytd.containers.units import engine_slice
from fluytd.errors import FieldInvalid
from fluytd.host.projects import FIRST_PROJECT_ID, PROJECT_COUNT
from fluytd.networks.model import is_interface_name
from fluytd.registries.model import Proxies, proxies_of

DEFAULT_CONFIG_PATH = Path("/etc/fluyt/fluytd.toml")

_MIB = 1024 * 1024
_GIB = 1024 * _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Every setting, with its unit in its name. The keys of the TOML file are the field names."""

    data_root: Path = Path("/var/lib/fluyt")
    run_root: Path = Path("/run/fluyt")
    socket_path: Path = Path("/run/fluyt/fluytd.sock")
    #: The group that may use the socket beside root; empty for root alone.
    socket_group: str = "fluyt"
    #: `host:port` of a listener with mutual TLS; empty for none. It needs the three files below.
    tcp_address: str = ""
    #: Certificate (chain) and key of the daemon, and the CA that signed the certificates of clients; PEM.
    tls_certificate_path: Path = Path()
    tls_key_path: Path = Path()
    tls_client_ca_path: Path = Path()
    #: Names in client certificates that may call everything by TCP, divided by commas; who is not named may nothing.
    tcp_administrators: str = ""
    #: Names that may only read.
    tcp_readers: str = ""
    #: Loopback `address:port` where metrics are served to Prometheus by HTTP, unprotected; empty for none.
    metrics_address: str = ""
    #: Collector of traces that takes OTLP over gRPC, `http://host:port` or `https://host:port`; empty for none. It
    #: needs the extra `otel`.
    trace_endpoint: str = ""
    #: Share of the traces that are kept, of those that no caller began; a caller's own choice is followed.
    trace_sample_percent: int = field(default=100, metadata={"least": 0})
    supervisor_path: Path = Path(__file__).parent / "libexec" / "fluyt-supervisor"
    #: How new layers are kept: `directory`, `erofs` (an archive with an index, mounted from a file), or `auto`: `erofs`
    #: where the kernel can. Layers of both kinds are read whatever stands here.
    layer_store: str = "auto"
    #: Who makes the control groups of containers: `cgroupfs`, the engine itself, or `systemd`, which is asked for a
    #: scope for each; it needs cgroup v2 alone and the extra `systemd`.
    cgroup_driver: str = "cgroupfs"
    #: Below which group they lie; with the driver systemd the name of a slice, and `fluyt.slice` where this is not set.
    cgroup_parent: str = "fluyt"
    #: The network of a container whose caller names none: `bridge`, `none` or `host`.
    default_network: str = "bridge"
    #: Users of a container whose caller says nothing: `auto` for a range of ids of its own where the host allows it, or
    #: `host`.
    default_userns: str = "auto"
    #: Whether containers that ask for no AppArmor profile get the engine's: `auto`, where the host has AppArmor and the
    #: program that loads profiles, or `off`; and where the kernel's module and that program are looked for.
    apparmor: str = "auto"
    apparmor_module_path: Path = Path("/sys/module/apparmor")
    apparmor_parser: str = "apparmor_parser"
    #: Whether containers get SELinux labels: `auto`, where the host has SELinux, or `off`; and where the kernel and the
    #: policies are looked for.
    selinux: str = "auto"
    selinux_filesystem_path: Path = Path("/sys/fs/selinux")
    selinux_config_dir: Path = Path("/etc/selinux")
    #: The ids of the host that containers get: the first, how many there are, and how many one gets that asks for no
    #: number. The default lies where systemd has containers. Source: systemd, "Users, Groups, UIDs and GIDs".
    userns_first_id: int = 2**30
    userns_pool_count: int = field(default=3 * 2**28, metadata={"least": 1_000})
    userns_range_count: int = field(default=65_536, metadata={"least": 1_000})
    #: Interface of the bridge of the engine's own network, and the name of its nftables table: engines in one network
    #: namespace need their own.
    bridge_name: str = "fluyt0"
    nft_table: str = "fluyt"
    #: Subnet of the engine's own network when it is first made; empty for one of the pool.
    bridge_subnet: str = ""
    #: Whether that network has IPv6 too.
    bridge_ipv6: bool = False
    #: Ranges that networks take their subnets from, divided by commas. IPv6: empty for a unique local range.
    network_ipv4_pools: str = "10.208.0.0/12"
    network_ipv6_pools: str = ""
    #: Address of the host for published ports that name none; empty for all addresses.
    publish_address: str = ""
    #: Directories with lists of CNI plugins, and with the plugins, divided by commas; the first that has it counts.
    cni_config_dirs: str = "/etc/cni/net.d"
    cni_plugin_dirs: str = "/opt/cni/bin,/usr/lib/cni,/usr/libexec/cni"
    #: Numbers of project quotas for what is bounded, volumes and writable layers; nobody else may use them on the data
    #: root's file system.
    quota_first_project_id: int = field(default=FIRST_PROJECT_ID, metadata={"least": 1})
    quota_project_count: int = field(default=PROJECT_COUNT, metadata={"least": 1})
    #: Threads for short blocking calls.
    worker_count: int = 16
    #: Threads for downloads and extraction, over all pulls and loads.
    transfer_worker_count: int = 8
    #: Layers of one image that are fetched and extracted at once.
    layers_per_image: int = 4
    #: Where the output of a container is kept whose caller names no driver: `file`, `journald` or `none`.
    log_driver: str = "file"
    log_segment_bytes: int = 16 * _MIB
    log_segment_count: int = 5
    #: The socket of the host's journal, for containers whose log driver is journald.
    journal_socket_path: Path = Path("/run/systemd/journal/socket")
    #: Events kept; older ones are trimmed.
    event_log_events: int = 100_000
    #: Ended operations kept.
    operation_history: int = 1_000
    #: How often an idle event watch hears of the head sequence.
    heartbeat_seconds: int = 15
    #: Registries' settings in containerd's form, `<host>/hosts.toml`; read again when they change.
    registry_hosts_dir: Path = Path("/etc/fluyt/certs.d")
    #: A file in the form of Docker's config.json, whose `auths` serve requests without credentials; empty for none.
    registry_auth_file: Path = Path()
    #: How long a connection to a registry, with TLS, may take to stand. `registry_` is also a table of the file.
    registry_connect_timeout_seconds: int = 10
    #: How long the head of a registry's answer may take once the request has left.
    registry_header_timeout_seconds: int = 30
    #: How long a transfer may go without a byte before it is broken off, to be resumed or failed.
    registry_idle_timeout_seconds: int = 30
    #: Largest part of a blob that one request of a push carries; 0 for whole blobs.
    registry_upload_chunk_bytes: int = 0
    #: Proxies before registries, URLs; empty for those of the environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY). They are
    #: also `http`, `https` and `no` of the file's table `proxy`.
    http_proxy: str = field(default="", repr=False)
    https_proxy: str = field(default="", repr=False)
    #: Hosts without a proxy, divided by commas.
    no_proxy: str = ""
    #: Where volume drivers listen, `<name>.sock` each.
    volume_drivers_dir: Path = Path("/run/fluyt/volume-drivers")
    #: Largest image archive or root file system taken from a client.
    load_max_bytes: int = 64 * _GIB
    #: Partial downloads and staged content older than this are swept.
    ingest_max_age_seconds: int = 7 * 24 * 3600
    #: Whether images that are not used go by themselves, by the bounds below (table `image_collection` of the file).
    image_collection_enabled: bool = False
    #: Per cent of the data root's file system in use at which images begin to go, and down to which; 0 for never.
    image_collection_high_water_percent: int = field(default=85, metadata={"least": 0})
    image_collection_low_water_percent: int = field(default=75, metadata={"least": 0})
    #: Most bytes of all images; 0 for no bound.
    image_collection_max_bytes: int = 0
    #: Images used or come since then stay.
    image_collection_min_age_seconds: int = field(default=3600, metadata={"least": 0})
    #: Images unused for longer go, however much space there is; 0 for no bound.
    image_collection_max_age_seconds: int = 0
    #: How often it is looked, besides at the start and after each image that comes.
    image_collection_interval_seconds: int = 300
    #: Patterns of references of images that stay, divided by commas (in the file also a list), as lists filter them.
    image_collection_pinned: str = ""
    #: What the host says about name servers, where systemd-resolved says what it found out itself, and the servers of
    #: containers where neither names one that they can reach (divided by commas; empty for none).
    resolv_conf_path: Path = Path("/etc/resolv.conf")
    systemd_resolv_conf_path: Path = Path("/run/systemd/resolve/resolv.conf")
    dns_fallback_servers: str = "8.8.8.8,8.8.4.4"
    #: Directories with CDI specs, divided by commas; what stands in a later one goes before what stands in an earlier.
    cdi_spec_dirs: str = "/etc/cdi,/var/run/cdi"
    #: What callers of builds may give a Dockerfile beyond the confinement of a step, divided by commas: `network.host`,
    #: `security.insecure`, `device`; empty for nothing. Source: dockerd, whose defaults these are.
    build_entitlements: str = "network.host,device"
    #: Most bytes of the layers of the build cache; beyond it those unused longest go.
    build_cache_max_bytes: int = 20 * _GIB
    #: Most bytes of pieces of build contexts.
    build_context_max_bytes: int = 16 * _GIB
    #: How long a stopping daemon waits for running calls.
    drain_seconds: int = 10
    #: A stopping daemon stops all containers and kills those that have not ended after so long; 0: they run on. The
    #: next daemon starts those again whose restart policy says so.
    stop_containers_seconds: int = 0
    log_level: str = "info"
    #: How the daemon's own log looks: lines for people, or one JSON object a line.
    log_format: str = "plain"


_TEXT_CHOICES = {
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("plain", "json"),
    "layer_store": ("auto", "directory", "erofs"),
    "cgroup_driver": ("cgroupfs", "systemd"),
    "default_network": ("bridge", "none", "host"),
    "default_userns": ("auto", "host"),
    "apparmor": ("auto", "off"),
    "selinux": ("auto", "off"),
    "log_driver": ("file", "journald", "none"),
}
#: Tables of the file, and what a name in one is called as a setting.
_TABLES: dict[str, str] = {"image_collection": "image_collection_{}", "registry": "registry_{}", "proxy": "{}_proxy"}
_WHOLE_PERCENT = 100
_COLLECTOR = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
_ARGUMENTS = {"data_root": "--data-root", "run_root": "--run-root", "socket_path": "--socket"}


def load(arguments: Sequence[str]) -> Config:
    """The settings for these command-line arguments (without the program's name).

    A config file that was named must exist; the default one may be absent. With `--run-root` and no `--socket`, the
    socket stands in that run root. Raises FIELD_INVALID (field is the setting or the file). Blocking (reads one file).
    """
    parser = argparse.ArgumentParser(prog="fluytd", description="Fluyt's daemon", allow_abbrev=False)
    parser.add_argument("--config", type=Path, metavar="FILE")
    for setting in fields(Config):
        option = _ARGUMENTS.get(setting.name, "--" + setting.name.replace("_", "-"))
        parser.add_argument(option, dest=setting.name, metavar="VALUE")
    parsed = vars(parser.parse_args(arguments))
    values = _from_file(parsed.pop("config"))
    values |= {name: _from_text(name, text) for name, text in parsed.items() if text is not None}
    values |= _from_environment(values)
    if "run_root" in values and "socket_path" not in values:
        values["socket_path"] = str(Path(str(values["run_root"])) / "fluytd.sock")
    return _build(values)


def _from_file(path: Path | None) -> dict[str, object]:
    chosen = path or DEFAULT_CONFIG_PATH
    try:
        return _flat(tomllib.loads(chosen.read_text(encoding="utf-8")))
    except FileNotFoundError:
        if path is None:
            return {}
        raise FieldInvalid(field="config", rule=f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FieldInvalid(field="config", rule=f"{chosen} cannot be read: {error}") from error


def _flat(values: dict[str, object]) -> dict[str, object]:
    """The settings of tables under their whole names; lists of texts as one text."""
    found: dict[str, object] = {}
    for name, value in values.items():
        members = value.items() if name in _TABLES and isinstance(value, dict) else ()
        for member, given in members:
            is_list = isinstance(given, list) and all(isinstance(one, str) for one in given)
            found[_TABLES[name].format(member)] = ",".join(given) if is_list else given
        if name not in _TABLES:
            found[name] = value
        elif not isinstance(value, dict):
            raise FieldInvalid(field=name, rule="must be a table")
    return found


def _from_environment(values: dict[str, object]) -> dict[str, object]:
    """The proxies of the environment, where no setting names others."""
    given = {name: str(values.get(name, "")) for name in ("http_proxy", "https_proxy", "no_proxy")}
    found = proxies_of(os.environ, Proxies(given["http_proxy"], given["https_proxy"], given["no_proxy"]))
    return {"http_proxy": found.http, "https_proxy": found.https, "no_proxy": found.excepted}


def _from_text(name: str, text: str) -> object:
    if isinstance(_DEFAULTS[name], bool):
        # What is neither is refused where types are checked.
        return {"true": True, "false": False}.get(text, text)
    if not isinstance(_DEFAULTS[name], int):
        return text
    try:
        return int(text)
    except ValueError:
        raise FieldInvalid(field=name, rule="must be a whole number") from None


def _build(values: dict[str, object]) -> Config:
    checked: dict[str, object] = {}
    for name, value in values.items():
        if name not in _DEFAULTS:
            raise FieldInvalid(field=name, rule="is not a setting")
        checked[name] = _check(name, value)
    config = Config(**checked)  # type: ignore[arg-type] # each value was checked against its default's type
    high, low = config.image_collection_high_water_percent, config.image_collection_low_water_percent
    if high and low > high:
        raise FieldInvalid(field="image_collection_low_water_percent", rule="must not be above the high water mark")
    if config.cgroup_driver == "systemd":
        engine_slice(config.cgroup_parent)
    if config.userns_range_count > config.userns_pool_count:
        raise FieldInvalid(field="userns_range_count", rule="must not be above userns_pool_count")
    if config.quota_first_project_id + config.quota_project_count > 2**32 - 1:
        raise FieldInvalid(field="quota_project_count", rule="must end below the number 4294967295, which is nobody's")
    if config.userns_first_id + config.userns_pool_count > 2**32 - 1:
        raise FieldInvalid(field="userns_pool_count", rule="must end below the id 4294967295, which is nobody's")
    return config


def _check(name: str, value: object) -> object:
    default = _DEFAULTS[name]
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise FieldInvalid(field=name, rule="must be true or false")
        return value
    if isinstance(default, int):
        # What is 0 by default is a bound that may be absent.
        least = _LEAST.get(name, min(1, default))
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise FieldInvalid(field=name, rule=f"must be a whole number of at least {least}")
        if name.endswith("_percent") and value > _WHOLE_PERCENT:
            raise FieldInvalid(field=name, rule=f"must be at most {_WHOLE_PERCENT}")
        return value
    if not isinstance(value, str):
        raise FieldInvalid(field=name, rule="must be text")
    if isinstance(default, Path):
        path = Path(value)
        if not path.is_absolute():
            raise FieldInvalid(field=name, rule="must be an absolute path")
        return path
    if name == "cgroup_parent" and (not value or value.startswith("/") or ".." in value.split("/")):
        raise FieldInvalid(field=name, rule="must be a relative path without ..")
    if (problem := _text_rule(name, value)) is not None:
        raise FieldInvalid(field=name, rule=problem)
    if name == "trace_endpoint" and value and not _COLLECTOR.fullmatch(value):
        raise FieldInvalid(field=name, rule="must be http://host:port or https://host:port")
    if name in _TEXT_CHOICES and value not in _TEXT_CHOICES[name]:
        raise FieldInvalid(field=name, rule=f"must be one of {', '.join(_TEXT_CHOICES[name])}")
    return value


def _text_rule(name: str, value: str) -> str | None:
    """The rule that a setting about networks or builds breaks."""
    if name == "build_entitlements" and not set(filter(None, value.split(","))) <= set(ENTITLEMENTS):
        return f"must be some of {', '.join(ENTITLEMENTS)}, divided by commas"
    if name == "bridge_name" and not is_interface_name(value):
        return "must have 1 to 15 letters, digits, _, . or -"
    if name == "nft_table" and not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.-]{0,31}", value):
        return "must have 1 to 32 letters, digits, _, . or -, the first a letter"
    versions = {"network_ipv4_pools": (4,), "bridge_subnet": (4,), "network_ipv6_pools": (6,)}
    try:
        for part in filter(None, value.split(",")) if name in versions else ():
            if ipaddress.ip_network(part).version not in versions[name]:
                return "has a range of the other family"
        for part in filter(None, value.split(",")) if name in {"publish_address"} else ():
            ipaddress.ip_address(part)
    except ValueError as error:
        return str(error)
    return None


_DEFAULTS: dict[str, object] = {setting.name: setting.default for setting in fields(Config)}
_LEAST: dict[str, int] = {
    setting.name: setting.metadata["least"] for setting in fields(Config) if "least" in setting.metadata
}
