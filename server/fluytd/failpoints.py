"""Named places at which a test can kill the daemon, and the catalogue of all their names.

`FLUYT_FAILPOINT=name` or `name:N` arms one: the process that comes by it (for the N-th time) kills itself with SIGKILL.
The Rust core reads the same variable. Unarmed, a failpoint costs one comparison.
"""

import os
import signal

#: The environment variable that arms a failpoint.
VARIABLE = "FLUYT_FAILPOINT"

#: Every failpoint of the Python side: name -> where it stands. Each is named for the side effect that comes next.
CATALOGUE: dict[str, str] = {
    "container.create.record": "a container's record of intent",
    "container.create.directories": "its directories",
    "container.create.files": "the files that are bound into it",
    "container.create.created": "the record that it was created",
    "container.prepare.directories": "directories for a container to come",
    "container.prepare.supervisors": "supervisors for containers to come",
    "container.tidy.directories": "the removal of directories that were dropped",
    "container.start.record": "the record that it is being started",
    "container.start.relabel": "the SELinux label of something of the host that it mounts",
    "container.start.run_dir": "its run directory",
    "layer.label": "the SELinux label of a folder of layers",
    "container.start.process": "its control groups, its supervisor, its process",
    "container.start.executed": "the way back to the event loop, the process runs",
    "container.start.running": "the record that it runs",
    "container.stop.record": "the record that it is being stopped",
    "container.stop.signal": "the stop signal",
    "container.stop.kill": "the kill after the grace time",
    "container.kill.signal": "a signal that a caller asked for",
    "container.pause.record": "the record that it is being paused",
    "container.pause.freeze": "the freezing of its processes",
    "container.resume.thaw": "the thawing of its processes",
    "container.resume.record": "the record that it runs again",
    "container.restart.start": "a start by its restart policy",
    "container.update.limits": "the writing of its new limits",
    "container.update.record": "the record that it has new limits or another policy",
    "container.exit.record": "the record that it has ended",
    "container.exit.cgroup": "the removal of its control groups",
    "container.exit.run_dir": "the removal of its run directory",
    "container.scope.start": "the systemd unit of a container's start, with its supervisor in it",
    "container.scope.attach": "the supervisor's own group in that unit, which stands",
    "container.scope.update": "telling systemd of a container's new limits",
    "container.scope.stop": "the removal of its systemd unit",
    "container.commit.freeze": "the freezing of a container whose files are read",
    "container.commit.thaw": "the thawing of it",
    "container.copy.begin": "the opening of a container's tree for files that are copied into it",
    "container.copy.write": "a piece of an archive on its way to the unpacker",
    "container.copy.finish": "the end of the unpacking, all pieces have come",
    "container.delete.put_off": "the record that it is to be removed once it has ended",
    "container.delete.record": "the record that it is being deleted",
    "container.delete.files": "the removal of its files",
    "container.delete.directories": "the removal of its directories, also of an undone creation",
    "container.delete.volumes": "the removal of its anonymous volumes",
    "container.delete.forget": "the removal of its record",
    **{
        f"container.record.{state}": "the commit of a record of this state"
        for state in (
            "creating",
            "created",
            "starting",
            "running",
            "paused",
            "stopping",
            "exited",
            "unknown",
            "deleting",
            "deleted",
        )
    },
    "volume.create.record": "a volume's record of intent",
    "volume.create.directory": "its directory",
    "volume.create.ready": "the record that it is there",
    "volume.quota.bind": "the project of a volume's directory, and its bound",
    "volume.quota.release": "taking that bound away, the directory has gone",
    "container.quota.bind": "the project of a writable layer, and its bound",
    "container.quota.release": "taking that bound away, the layer has gone",
    "host.quota.sweep": "taking a bound away that nothing is left of",
    "volume.fill.copy": "the copying of an image's content beside its data",
    "volume.fill.settle": "putting that content in place",
    "volume.clone.copy": "the copying of another volume's data",
    "volume.import.unpack": "the unpacking of that archive",
    "volume.rename.record": "the record of its new name",
    "volume.delete.record": "the record that it is being deleted",
    "volume.delete.data": "the removal of its data",
    "volume.delete.forget": "the removal of its record",
    "volume.recover": "a volume being brought in order at the start of a daemon",
    **{
        f"volume.record.{state}": "the commit of a volume's record of this state"
        for state in ("creating", "ready", "deleting", "deleted")
    },
    "check.blob.compress": "the compressing of a layer whose blob is damaged or missing",
    "check.blob.replace": "a blob that was made again taking the place of a damaged one",
    "check.layer.make": "making a layer again",
    "check.layer.replace": "a layer that was made again taking the place of a damaged one",
    "check.record.restore": "an image's record that was made again being written",
    "check.source.fetch": "the fetching of a blob that is damaged or missing",
    "collection.image.delete": "the deletion of an image by a collection",
    "image.pin.record": "the record that an image is pinned",
    "exec.start.process": "a further process",
    "exec.start.begun": "the answer of the supervisor, the process is on its way",
    **{
        f"exec.record.{state}": "the commit of a record of a session in this state"
        for state in ("starting", "running", "exited", "deleted")
    },
    "network.create.record": "a network's record",
    "network.record.saved": "the commit of a network's record",
    "network.delete.record": "the removal of a network's record, its bridge has gone",
    "network.record.deleted": "the commit of that removal",
    "network.bridge.make": "a network's bridge",
    "network.bridge.remove": "the removal of a network's bridge",
    "network.table.make": "the nftables table, and what it is told of a network",
    "network.table.change": "what the table is told of published ports",
    "network.attach.link": "the veth pair of a container, its addresses and routes",
    "network.prepare.link": "a veth pair for a container to come",
    "network.prepare.linked": "keeping such a pair with the supervisor whose namespace it leads to",
    "network.names.serve": "the sockets that names are asked on in a container",
    "network.attach.started": "the start of a container whose interfaces stand",
    "network.connect.record": "the record that a running container is on one more network",
    "network.connect.attach": "the interface of a running container",
    "network.disconnect.record": "the record that a running container has left a network",
    "network.disconnect.detach": "the removal of a running container's interface",
    "network.publish.record": "the record that a running container publishes other ports",
    "network.forward.lead": "a forwarder at ::1 being told where its port leads",
    "network.publish.table": "what the table is told of other ports of a running container",
    "network.detach.link": "the removal of an ended container's interface",
    "network.cni.record": "the record that plugins are to attach a container",
    "network.cni.saved": "the commit of such a record, or of what plugins answered",
    "network.cni.add": "the execution of a plugin that attaches a container",
    "network.cni.result": "the record of what plugins answered",
    "network.cni.delete": "the execution of a plugin that detaches a container",
    "network.cni.put_off": "the record that a plugin failed to take away what it gave",
    "network.cni.forget": "the removal of the record, all plugins have been told",
    "network.sweep.link": "the removal of an interface that nothing owns",
    "recovery.apply": "each action of a recovery",
    "build.agent.ask": "a request of a step to an agent of the build's caller",
    "build.agent.listen": "the socket at which a step finds an agent of the build's caller",
    "build.cache.export": "the staging of the list of records of a cache that is sent to a registry or a caller",
    "build.cache.mount": "the layer made of a cache mount for a cache that is sent",
    "build.cache.restore": "the filling of a cache mount from a cache elsewhere",
    "build.cache.save": "the sending of a cache to a caller",
    "build.cache.write": "the file made of a blob of a caller's cache",
    "build.cache.fetch": "the fetching of a step's layer from a cache elsewhere",
    "build.cache.record": "the record of a step's result",
    "build.cache.delete": "the removal of records of step results",
    "build.config.stage": "the staging of the config of a built image",
    "build.context.save": "the writing of a context's entries",
    "build.history.delete": "the removal of a build's record or output from the history",
    "build.history.output": "the writing of output of a build to the history",
    "build.history.record": "the record of a build in the history",
    "build.index.stage": "the staging of the index of a build, or of what it attests",
    "build.layer.publish": "making the layer of a step visible",
    "build.layer.repack": "the staging of a layer of an image that is compressed otherwise or has no late times",
    "build.layer.store": "the staging of the layer of a step",
    "build.manifest.stage": "the staging of the manifest of a built image",
    "build.mount.delete": "the removal of the directory of a cache mount",
    "build.mount.write": "the writing of files that a step mounts",
    "build.packages.write": "the writing out of lists of packages that an attestation reads",
    "build.push": "the push of a built image, which is visible",
    "build.record": "the record of a built image",
    "build.run.directories": "the directories of a step that runs a command",
    "build.run.start": "the start of a step's command",
    "build.source.fetch": "the directory that a source of a build is fetched into",
    "build.run.release": "giving back what a step's command held",
    "commit.config.stage": "the staging of the config of a commit",
    "commit.layer.store": "the reading and staging of a container's changes",
    "commit.manifest.stage": "the staging of the manifest of a commit",
    "commit.record": "the record of a committed image",
    "gc.blob.delete": "the removal of a blob that nothing needs",
    "gc.ingest.delete": "the removal of a partial download",
    "gc.layer.delete": "the removal of a layer that nothing needs",
    "gc.staged.delete": "the removal of a layer that was never published",
    "image.delete.index": "the rewriting of index.json after a deletion",
    "image.delete.record": "the removal of an image's record",
    "image.tag.record": "the record of a reference",
    "image.untag.record": "the removal of a reference's record",
    "import.config.stage": "the staging of the config of an import",
    "import.layer.store": "the staging of a root file system",
    "import.manifest.stage": "the staging of the manifest of an import",
    "import.record": "the record of an imported image",
    "import.decompress": "a root file system without its xz or bzip2",
    "import.spool": "the receipt of a root file system",
    "apparmor.load": "the AppArmor profile of containers in the kernel",
    "load.spool": "the receipt of an image archive",
    "load.decompress": "an image archive without its xz or bzip2",
    "load.config.stage": "the staging of a config from an archive",
    "load.index.stage": "the staging of an index from an archive",
    "load.layer.store": "the staging of a layer from an archive",
    "load.manifest.stage": "the staging of a manifest from an archive",
    "load.record": "the records of loaded images",
    "push.blob": "the sending of a blob",
    "push.manifest": "the sending of manifests, all blobs are there",
    "push.record": "the record that an image was pushed",
    "pull.config.fetch": "the fetching of a config",
    "pull.index.publish": "making an index visible whose image was there already",
    "pull.index.stage": "the staging of an index",
    "pull.layer.fetch": "the fetching of a layer",
    "pull.manifest.stage": "the staging of a manifest",
    "pull.record": "the record of a pulled image",
    **{
        f"{verb}.{what}.publish": f"making {what} visible"
        for verb in ("pull", "load", "import", "commit", "build")
        for what in ("blobs", "layers")
    },
}


def _parse(value: str) -> tuple[str, int]:
    name, _, count = value.rpartition(":")
    return (name, int(count)) if name and count.isdecimal() else (value, 1)


_name, _remaining = _parse(os.environ.get(VARIABLE, ""))


def hit(name: str) -> None:
    """Kills this process if `name` is armed and its count is reached; otherwise does nothing."""
    global _remaining  # noqa: PLW0603 - the count belongs to the process, as the variable does
    if name != _name:
        return
    _remaining -= 1
    if _remaining == 0:
        os.kill(os.getpid(), signal.SIGKILL)
