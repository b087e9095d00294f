"""What is done inside a container from outside, past the daemon, which may be dead."""

import subprocess


def touch(host_pid: int, path: str) -> None:
    """The file is there in the container of the process, made by its own root, whoever that is on the host."""
    spaces = ["--mount", "--user"]
    subprocess.run(["nsenter", "-t", str(host_pid), *spaces, "-S", "0", "-G", "0", "touch", path], check=True)
