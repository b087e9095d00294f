"""A container and what is asked of a further process in it, put together for the core. Pure."""

from dataclasses import replace

from fluytd.containers import process_spec as core
from fluytd.containers import selinux
from fluytd.containers.model import Container
from fluytd.containers.privileges import apparmor_profile, capabilities, check_capabilities
from fluytd.containers.process_checks import check_directory, check_process
from fluytd.containers.resolve import DEFAULT_TERM
from fluytd.containers.start_facts import HostFacts
from fluytd.errors import FieldInvalid
from fluytd.execs.model import ExecSpec


def exec_start(exec_id: str, container: Container, spec: ExecSpec, host: HostFacts, *, is_held: bool) -> core.ExecStart:
    """Everything the core needs. Raises FIELD_INVALID with the field's path below `spec`, LIMIT_EXCEEDED."""
    if not spec.args:
        raise FieldInvalid(field="spec.args", rule="must be given")
    working_dir = spec.working_dir or container.resolved.working_dir
    check_directory(working_dir, "spec.working_dir")
    check_process(spec.args, spec.env, spec.user, spec.additional_groups)
    check_capabilities(spec.add_capabilities, host, "spec.add_capabilities")
    security = container.spec.security
    added = (*security.add_capabilities, *spec.add_capabilities)
    security = replace(security, add_capabilities=added, privileged=security.privileged or spec.privileged)
    profile = "unconfined" if spec.privileged else container.spec.security.seccomp_profile
    limits = container.spec.rlimits
    labels = selinux.applied(container, host.selinux, host.kernel_release)
    return core.ExecStart(
        id=exec_id,
        args=list(spec.args),
        env=_env(container, spec),
        cwd=working_dir,
        user=spec.user or container.resolved.user,
        additional_groups=[*container.spec.additional_groups, *spec.additional_groups],
        capabilities=capabilities(security, host),
        seccomp_profile=profile or ("unconfined" if security.privileged else "default"),
        no_new_privileges=security.no_new_privileges,
        apparmor_profile="" if spec.privileged else apparmor_profile(security, host),
        process_label="" if labels is None else labels.process,
        rlimits=[core.Rlimit(f"RLIMIT_{limit.name.upper()}", limit.soft, limit.hard) for limit in limits],
        oom_score_adj=container.spec.oom_score_adj,
        open_stdin=spec.open_stdin,
        terminal=spec.terminal_size if spec.tty else None,
        is_held=is_held,
    )


def _env(container: Container, spec: ExecSpec) -> list[str]:
    # Source: moby `daemon/exec.go`: the environment is the container's but for TERM, which goes with a terminal.
    merged = dict(item.split("=", 1) for item in container.resolved.env)
    if spec.tty:
        merged.setdefault("TERM", DEFAULT_TERM)
    elif container.spec.tty and not _names_term(container):
        merged.pop("TERM", None)
    for item in spec.env:
        name, separator, value = item.partition("=")
        if separator:
            merged[name] = value
        else:
            merged.pop(name, None)
    return [f"{name}={value}" for name, value in merged.items()]


def _names_term(container: Container) -> bool:
    """Image or caller gave the container this variable."""
    return any(item.startswith("TERM=") for item in (*container.image.env, *container.spec.env))
