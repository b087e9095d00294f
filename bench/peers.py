"""The engines we are measured against: how to start them and which command does the same work.

Each lives below one scratch folder, is started by us and ended by its pid. Commands are run in a private mount
namespace that shows pure cgroup v1 (`namespace.py`), since crun refuses the hybrid layout.
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

DAEMON_READY_SECONDS = 30.0


@dataclass(slots=True)
class Peer:
    """One engine. `run` gives the command for a container that ends by itself, `start` one that stays, `exec_true` one
    that runs /bin/true in that."""

    name: str
    version: str
    run: Callable[[], list[str]]
    start: Callable[[str], list[str]]
    remove: Callable[[str], list[list[str]]]
    exec_true: Callable[[str], list[str]]
    #: A container (name) that runs a shell script until it ends.
    script: Callable[[str, str], list[str]]
    #: Commands that ask a container of `script` to end by TERM; they return when it has, unless there is a `pid`.
    stop: Callable[[str], list[list[str]]]
    #: Commands that remove a container that has ended.
    remove_ended: Callable[[str], list[list[str]]]
    #: One look at the figures of all that run, all that a container wrote, and that followed; None where it has none.
    stats: list[str] | None = None
    logs: Callable[[str], list[str]] | None = None
    #: The first process of a container whose end no command waits for.
    pid: Callable[[str], int] | None = None
    pull: Callable[[str], list[str]] | None = None
    drop_image: Callable[[str], list[str]] | None = None
    #: Names (comm) of processes that it keeps for each container.
    helpers: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


class Peers:
    """Every peer that is installed, ready to be driven; `close` ends the daemons."""

    def __init__(self, scratch: Path, rootfs: Path, image: str | None, only: str = "") -> None:
        """Starts every peer that is installed, or `only` the one named; `image` is pulled into each engine."""
        self._scratch = scratch
        self._rootfs = rootfs
        self.image = image
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._count = 0
        self.skipped: list[str] = []
        makers: dict[str, Callable[[], Peer | None]] = {
            "crun": lambda: self._oci("crun"),
            "runc": lambda: self._oci("runc"),
            "podman": self._podman,
            "containerd": self._containerd,
            "docker": self._docker,
        }
        found = [make() for name, make in makers.items() if only in ("", name)]
        self.peers = [peer for peer in found if peer is not None]

    def close(self) -> None:
        """Every daemon that was started here has ended."""
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def name(self) -> str:
        """A container name that no peer has seen."""
        self._count += 1
        return f"bench{os.getpid()}n{self._count}"

    def _oci(self, runtime: str) -> Peer | None:
        if shutil.which(runtime) is None or shutil.which("runc") is None:
            self.skipped.append(f"{runtime}: not installed (runc writes the bundle)")
            return None
        for name, args in (("true", ["/bin/true"]), ("sleep", ["/bin/sleep", "100000"])):
            self._bundle(name, args)
        bundles = self._scratch / "bundles"
        state = ["--root", str(self._scratch / f"{runtime}-state")]

        def script(name: str, text: str) -> list[str]:
            bundle = self._bundle(f"script-{zlib.crc32(text.encode())}", ["/bin/sh", "-c", text])
            return [runtime, *state, "run", "-d", "-b", str(bundle), name]

        def pid(name: str) -> int:
            told = subprocess.run([runtime, *state, "state", name], capture_output=True, check=True).stdout
            return int(json.loads(told)["pid"])

        return Peer(
            name=runtime,
            version=first_line([runtime, "--version"]),
            run=lambda: [runtime, *state, "run", "-b", str(bundles / "true"), self.name()],
            start=lambda name: [runtime, *state, "run", "-d", "-b", str(bundles / "sleep"), name],
            remove=lambda name: [[runtime, *state, "delete", "-f", name]],
            exec_true=lambda name: [runtime, *state, "exec", name, "/bin/true"],
            script=script,
            stop=lambda name: [[runtime, *state, "kill", name, "TERM"]],
            pid=pid,
            remove_ended=lambda name: [[runtime, *state, "delete", name]],
        )

    def _bundle(self, name: str, args: list[str]) -> Path:
        """An OCI bundle of the root file system that executes this; made once."""
        bundle = self._scratch / "bundles" / name
        if not (bundle / "config.json").exists():
            bundle.mkdir(parents=True)
            subprocess.run(["runc", "spec"], cwd=bundle, check=True)
            config = json.loads((bundle / "config.json").read_text())
            config["process"]["terminal"] = False
            config["process"]["args"] = args
            config["root"] = {"path": str(self._rootfs), "readonly": False}
            (bundle / "config.json").write_text(json.dumps(config))
        return bundle

    def _podman(self) -> Peer | None:
        if shutil.which("podman") is None:
            self.skipped.append("podman: not installed")
            return None
        home = self._scratch / "podman"
        home.mkdir(parents=True, exist_ok=True)
        (home / "containers.conf").write_text(
            '[containers]\ndefault_ulimits=["nofile=20000:20000","nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime="crun"\n'
        )
        (home / "storage.conf").write_text(
            f'[storage]\ndriver="overlay"\ngraphroot="{home}/root"\nrunroot="{home}/run"\n'
        )
        environment = {
            "CONTAINERS_CONF": str(home / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
            "PODMAN_IGNORE_CGROUPSV1_WARNING": "1",
        }
        image = self.image or ""
        if image:
            quiet_run(["podman", "pull", "-q", "--tls-verify=false", image], environment)
        none = ["--network", "none"]
        return Peer(
            name="podman",
            version=first_line(["podman", "--version"]),
            run=lambda: ["podman", "run", "--rm", *none, image, "/bin/true"],
            start=lambda name: ["podman", "run", "-d", "--name", name, *none, image, "sleep", "100000"],
            remove=lambda name: [["podman", "rm", "-f", "-t", "0", name]],
            exec_true=lambda name: ["podman", "exec", name, "/bin/true"],
            script=lambda name, text: ["podman", "run", "-d", "--name", name, *none, image, "sh", "-c", text],
            stop=lambda name: [["podman", "stop", name]],
            remove_ended=lambda name: [["podman", "rm", name]],
            stats=["podman", "stats", "--no-stream"],
            logs=lambda name: ["podman", "logs", name],
            pull=lambda reference: ["podman", "pull", "-q", "--tls-verify=false", reference],
            drop_image=lambda reference: ["podman", "rmi", "-f", reference],
            helpers=("conmon",),
            environment=environment,
        )

    def _containerd(self) -> Peer | None:
        if shutil.which("containerd") is None:
            self.skipped.append("containerd: not installed")
            return None
        home = self._scratch / "ctrd"
        home.mkdir(parents=True, exist_ok=True)
        socket = home / "s"
        (home / "config.toml").write_text(
            f'version=2\nroot="{home}/root"\nstate="{home}/state"\ndisabled_plugins=["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress="{socket}"\n[ttrpc]\naddress="{socket}.ttrpc"\n'
        )
        ctr = ["ctr", "-a", str(socket)]
        self._daemon(
            "containerd", ["containerd", "-c", str(home / "config.toml"), "-l", "error"], [*ctr, "version"], {}
        )
        image = self.image or ""
        if image:
            quiet_run([*ctr, "images", "pull", "--plain-http", image], {})
        return Peer(
            name="containerd",
            version=first_line(["containerd", "--version"]),
            run=lambda: [*ctr, "run", "--rm", image, self.name(), "/bin/true"],
            start=lambda name: [*ctr, "run", "-d", image, name, "sleep", "100000"],
            remove=lambda name: [[*ctr, "task", "rm", "-f", name], [*ctr, "container", "rm", name]],
            exec_true=lambda name: [*ctr, "tasks", "exec", "--exec-id", self.name(), name, "/bin/true"],
            script=lambda name, text: [*ctr, "run", "-d", image, name, "sh", "-c", text],
            stop=lambda name: [[*ctr, "tasks", "kill", "-s", "TERM", name], [*ctr, "tasks", "attach", name]],
            # The attached command has removed the task.
            remove_ended=lambda name: [[*ctr, "container", "rm", name]],
            pull=lambda reference: [*ctr, "images", "pull", "--plain-http", reference],
            drop_image=lambda reference: [*ctr, "images", "rm", "--sync", reference],
            helpers=("containerd-shim",),
        )

    def _docker(self) -> Peer | None:
        if shutil.which("dockerd") is None:
            self.skipped.append("docker: not installed")
            return None
        home = self._scratch / "dk"
        home.mkdir(parents=True, exist_ok=True)
        environment = {"DOCKER_HOST": f"unix://{home}/s"}
        docker = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        self._daemon(
            "dockerd",
            ["dockerd", "--data-root", f"{home}/root", "--exec-root", f"{home}/x", "-H", environment["DOCKER_HOST"]]
            + ["-p", f"{home}/pid", "--exec-opt", "native.cgroupdriver=cgroupfs", "--insecure-registry", "127.0.0.0/8"],
            [docker, "version"],
            environment,
        )
        image = self.image or ""
        if image:
            quiet_run([docker, "pull", "-q", image], environment)
        none = ["--network", "none"]
        return Peer(
            name="docker",
            version=first_line([docker, "--version"]) + (", unpigz" if shutil.which("unpigz") else ""),
            run=lambda: [docker, "run", "--rm", *none, image, "/bin/true"],
            start=lambda name: [docker, "run", "-d", "--name", name, *none, image, "sleep", "100000"],
            remove=lambda name: [[docker, "rm", "-f", name]],
            exec_true=lambda name: [docker, "exec", name, "/bin/true"],
            script=lambda name, text: [docker, "run", "-d", "--name", name, *none, image, "sh", "-c", text],
            stop=lambda name: [[docker, "stop", name]],
            remove_ended=lambda name: [[docker, "rm", name]],
            stats=[docker, "stats", "--no-stream"],
            logs=lambda name: [docker, "logs", name],
            pull=lambda reference: [docker, "pull", "-q", reference],
            drop_image=lambda reference: [docker, "rmi", "-f", reference],
            helpers=("containerd-shim", "docker-proxy"),
            environment=environment,
        )

    def _daemon(self, name: str, command: list[str], ready: list[str], environment: dict[str, str]) -> None:
        log = (self._scratch / f"{name}.log").open("ab")
        daemon = subprocess.Popen(
            command,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._daemons.append(daemon)
        deadline = time.monotonic() + DAEMON_READY_SECONDS
        while time.monotonic() < deadline and daemon.poll() is None:
            done = subprocess.run(
                ready, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            )
            if done.returncode == 0:
                return
            time.sleep(0.1)
        raise RuntimeError(f"{name} did not become ready: see {self._scratch}/{name}.log")


def quiet_run(command: list[str], environment: dict[str, str]) -> float:
    """Runs a command to its end; returns the seconds it took. Raises RuntimeError with its output if it fails.

    Output goes to a file, not a pipe: a container that inherits a pipe would keep it open.
    """
    with tempfile.TemporaryFile() as output:
        begin = time.perf_counter()
        done = subprocess.run(
            command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
        seconds = time.perf_counter() - begin
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(
                f"{' '.join(command)}: exit {done.returncode}: {output.read()[-600:].decode(errors='replace')}"
            )
    return seconds


def first_line(command: list[str]) -> str:
    """The first line a version command prints."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n", 1)[0].strip()
