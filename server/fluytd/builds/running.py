"""RUN: what its result depends on, its mounts, its command, and the layer of what it changed."""

from typing import TYPE_CHECKING

from fluytd import failpoints
from fluytd.builds import admission, graph
from fluytd.builds.copying import Make
from fluytd.builds.dockerfile.origins import BindMount, CacheMount, Scratch
from fluytd.builds.dockerfile.steps import RunStep
from fluytd.builds.executor import Command, network_of
from fluytd.builds.graph import StepPlace
from fluytd.builds.ports import Selection, Wanted
from fluytd.containers.spec import SecuritySpec
from fluytd.errors import BuildCommandFailed, BuildPlatformNotRun, EngineError
from fluytd.images.ports import StoredLayer

if TYPE_CHECKING:
    from fluytd.builds.solver import Outcome, Solver


async def prepared(solver: "Solver", step: RunStep, place: StepPlace, outcome: "Outcome") -> tuple[str, Make]:
    """The key of a RUN, and what carries it out. Raises BUILD_SOURCE_NOT_FOUND for a mount."""
    trees, cancel = solver.shop.trees, solver.job.handle.cancel_token
    selections: dict[int, Selection] = {}
    digests: list[str] = []
    for index, mount in enumerate(step.mounts):
        digest = ""
        if isinstance(mount, BindMount) or (isinstance(mount, CacheMount) and not isinstance(mount.origin, Scratch)):
            tree = await solver.tree_of(mount.origin)
            selections[index] = await trees.select(tree, Wanted(graph.literal(mount.source)), cancel)
            stack = await solver.stack_of(mount.origin)
            # A stage is known by its layers: to read all of it for its key would take as long as to copy it.
            digest = f"{stack}:{mount.source}" if stack is not None else await trees.digest(selections[index], cancel)
        digests.append(digest)
    devices = [device.name for device in step.devices]
    specs = await solver.shop.devices.as_written(devices) if devices else ()
    key = trees.key_of(graph.run_parts(step, outcome.chain_id, digests, specs))
    return key, lambda: _run(solver, step, place, outcome, selections)


async def _run(
    solver: "Solver", step: RunStep, place: StepPlace, outcome: "Outcome", selections: dict[int, Selection]
) -> StoredLayer:
    shop, job = solver.shop, solver.job
    request, handle = job.request, job.handle
    platform = step.config.platform
    if not await shop.can_run(platform):
        raise BuildPlatformNotRun(platform=str(platform))
    room_id = shop.executor.new_room()
    devices = tuple(device.name for device in step.devices)
    device_mounts = await shop.devices.mount_points(devices) if devices else ()
    ids = [layer.layer_id for layer in outcome.layers]
    restore = solver.restore if job.foreign.mounts else None
    made = shop.mounts.made(room_id, step, selections, request.secrets, job.agents, restore, handle.cancel_token)
    async with made as mounted:
        command = Command(
            argv=step.argv,
            env=(*step.env, *step.proxy_env, *mounted.env),
            working_dir=step.working_dir or "/",
            user=step.user,
            # One that stands in it twice is named at its upper place only (case R16).
            layer_ids=tuple(reversed(dict.fromkeys(reversed(ids)))),
            max_id=max((layer.max_id for layer in outcome.layers), default=0),
            users=request.users,
            network=network_of(admission.network_of(step, request), request.extra_hosts),
            binds=tuple(mounted.binds),
            tmpfs=tuple(mounted.tmpfs),
            resources=request.resources,
            rlimits=request.rlimits,
            shm_size_bytes=request.shm_size_bytes,
            cgroup_parent=request.cgroup_parent,
            security=SecuritySpec(privileged=step.security == "insecure"),
            cdi_devices=devices,
            device_mounts=device_mounts,
        )

        def write(stream: str, time_unix_nanos: int, data: bytes) -> None:
            job.log.write(place.number, stream, time_unix_nanos, data)

        async with shop.executor.ran(room_id, command, write, handle) as (ending, tree):
            if ending.status.shell_code != 0:
                failed = BuildCommandFailed(exit_code=ending.status.shell_code)
                if mounted.fault is not None:
                    raise mounted.fault from failed
                raise failed
            failpoints.hit("build.layer.store")
            counters, compression = shop.layering.new_counters(), request.packing.compression
            return await shop.layering.store_changes(tree, counters, handle.cancel_token, compression)


def exit_code_of(error: EngineError) -> int | None:
    """The exit code that a failure of a step stands for; None where no command has ended or could be begun."""
    cause = error.__cause__
    # A lost agent is why the command failed.
    told = cause if isinstance(cause, BuildCommandFailed) else error
    code = told.failure.metadata.get("exit_code", "")
    return int(code) if code.isdecimal() else None
