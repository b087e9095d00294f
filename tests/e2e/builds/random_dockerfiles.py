"""Random small Dockerfiles of what Docker and buildah both define, and what an image of one comes to.

Left out, since the two differ by intent: WORKDIR and COPY without --chown after USER (who owns what they make), what
RUN writes below a VOLUME, the directory that VOLUME makes, ENV and ARG of one name, ONBUILD, and anything of
BuildKit's own.
"""

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

#: Of the context: path -> content, a directory, or a link.
FILES = {
    "f": "file\n",
    "g.txt": "g\n",
    "d/one.txt": "one\n",
    "d/two": "two\n",
    "d/deep/three.txt": "three\n",
    "d/link": "-> one.txt",
    "e/": "",
}
#: What engines make of a root for their own ends, and the base has.
OWN = ("dev", "proc", "sys", "run", "etc/hosts", "etc/resolv.conf", "etc/hostname")
_NAMES = st.sampled_from(["a", "b", "sub/c"])
_PLACES = st.sampled_from(["/x/", "/x/y/", "/z", "rel/", "./", "/new/deep/er/"])
_VALUES = st.sampled_from(["1", "two words", "$A", "${B:-none}", "a\\$b", "'q'", "${A:+set}"])
_QUOTED = _VALUES.map(lambda text: f'"{text}"')

_COPY = st.builds(
    lambda source, place, owner, word: f"{word} {owner}{source} {place}",
    st.sampled_from(["f", "d", "d/", "d/*.txt", "*.txt", "f g.txt", "d/deep", "e", "[fg]*", "."]),
    st.sampled_from(["/x/", "/x/y/", "rel/", "./", "/new/deep/er/"]),
    st.sampled_from(["", "--chown=3:4 ", "--chown=5 ", "--chown=daemon:daemon "]),
    st.sampled_from(["COPY", "ADD"]),
)
_RUN = st.one_of(
    st.builds("RUN mkdir -p {0} && echo {0} > {0}/made".format, st.sampled_from(["/x/r", "/q", "rel", "/x/y"])),
    st.builds("RUN rm -rf {}".format, st.sampled_from(["/x", "/q", "rel", "/etc/group", "/x/y"])),
    st.builds("RUN ln -sf {} /link{}".format, st.sampled_from(["/x", "f", "../up"]), st.integers(0, 2)),
    st.builds(
        "RUN mkdir -p /perm && touch /perm/f && chmod {} /perm/f".format, st.sampled_from(["4755", "600", "1777"])
    ),
    st.builds("RUN mkdir -p /own && touch /own/f && chown {} /own /own/f".format, st.sampled_from(["9:9", "0:7"])),
    st.just('RUN printf "%s|%s|%s" "$A" "$B" "$C" > /env'),
    st.just("RUN pwd > /where"),
    st.just('RUN ["sh", "-c", "echo exec > /exec"]'),
)
_CONFIG = st.one_of(
    st.builds("ENV {}={}".format, st.sampled_from("ABC"), _QUOTED),
    st.builds("ENV A={} B={}".format, _QUOTED, _QUOTED),
    st.builds("LABEL {}={}".format, st.sampled_from(["k", "org.example.k", '"with space"']), _QUOTED),
    st.builds("ARG D={}\nENV FROM_ARG=$D".format, _QUOTED),
    st.builds("WORKDIR {}".format, st.sampled_from(["/w", "rel", "/x/v$A", "..", "/w/../v"])),
    st.builds("EXPOSE {}".format, st.sampled_from(["80", "53/udp", "80 81"])),
    st.builds("STOPSIGNAL {}".format, st.sampled_from(["SIGINT", "9"])),
)
_LAST = st.one_of(
    st.builds("CMD {}".format, st.sampled_from(['["a", "b"]', "echo $A", "[]"])),
    st.builds("ENTRYPOINT {}".format, st.sampled_from(['["e"]', "exec top"])),
    st.builds("USER {}".format, st.sampled_from(["7", "7:8", "daemon", "root"])),
)


@st.composite
def dockerfiles(draw: st.DrawFn) -> str:
    """The lines after the first FROM, in which `BASE` stands for the base image."""
    steps = st.lists(st.one_of(_COPY, _RUN, _CONFIG), min_size=2, max_size=6)
    lines = ["FROM BASE", *draw(steps)]
    if draw(st.booleans()):
        lines[0] += " AS first"
        lines += ["RUN mkdir -p /out/in && echo out > /out/in/f", "FROM BASE", *draw(steps)]
        lines.append(f"COPY --from=first /out {draw(_PLACES)}")
        lines.append(f"COPY --from=first /out/in/f {draw(_PLACES.map(lambda place: place + draw(_NAMES)))}")
    lines += draw(st.lists(_LAST, max_size=3))
    return "\n".join(lines) + "\n"


def run(*command: str | Path) -> str:
    """What a program prints. Raises AssertionError with what it complains of."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def judged(archive: Path, scratch: Path) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """What an OCI archive's image is: of its config what both engines define, and its files as umoci unpacks them."""
    scratch.mkdir()
    run("skopeo", "copy", "-q", f"oci-archive:{archive}", f"oci:{scratch}/layout:1")
    told = json.loads(run("skopeo", "inspect", "--config", f"oci:{scratch}/layout:1"))["config"]
    told.get("Labels", {}).pop("io.buildah.version", None)
    run("umoci", "unpack", "--image", f"{scratch}/layout:1", scratch / "bundle")
    files = tree(scratch / "bundle" / "rootfs")
    shutil.rmtree(scratch)
    return {name: value for name, value in told.items() if value}, files


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Path -> kind, mode, owner, and content or target; of a link no mode."""
    found: dict[str, tuple[Any, ...]] = {}
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            relative = str(path.relative_to(root))
            if any(relative == own or relative.startswith(f"{own}/") for own in OWN):
                continue
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if stat.S_ISLNK(status.st_mode):
                content = str(path.readlink())
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            mode = 0 if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode)
            found[relative] = (kind, mode, status.st_uid, status.st_gid, content)
    return found
