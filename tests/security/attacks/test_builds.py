"""Builds whose steps would reach the host by a mount's source, its id, or its place."""

from pathlib import Path

from tests.e2e.builds.steps import build, context
from tests.security.canary import Canary
from tests.support.engine import Engine


def test_z07_the_id_of_a_cache_is_no_path(engine: Engine, tmp_path: Path) -> None:
    roots = (engine.root, engine.root / "data", engine.root.parent)
    before = [{path.name for path in root.iterdir()} for root in roots]
    for identifier in ("../../escape", "../escape", "../../../escape", f"{engine.root}/escape", "."):
        line = f"--mount=type=cache,id={identifier},target=/c sh -c 'ls -A /c; touch /c/mark'"
        built = build(engine, context(tmp_path, {}), f"FROM busybox:1\nRUN {line}\n", no_cache=True)
        assert built.output == b"", identifier
    assert [{path.name for path in root.iterdir()} for root in roots] == before


def test_z08_the_source_of_a_mount_is_that_of_its_stage(engine: Engine, canary: Canary, tmp_path: Path) -> None:
    lines = ["FROM busybox:1 AS base", "RUN ln -s / /rootdir"]
    lines += [f"RUN ln -s {canary.path} /outside", f"RUN ln -s ../../../../../../..{canary.path} /up"]
    lines += ["RUN echo stage > /mark", "FROM busybox:1"]
    lines.append("RUN --mount=type=bind,from=base,source=/rootdir,target=/m,rw cat /m/mark; ls -d /m/bin; touch /m/new")
    built = build(engine, context(tmp_path / "context", {"f": "x"}), "\n".join(lines))
    assert built.output == b"stage\n/m/bin\n"
    for source in ("/outside", "/up", "/outside/secret", "/rootdir/outside"):
        wanted = [*lines, f"RUN --mount=type=bind,from=base,source={source},target=/m,rw cat /m /m/* 2>/dev/null; true"]
        try:
            output = build(engine, tmp_path / "context", "\n".join(wanted)).output
        except Exception as error:  # noqa: BLE001 - a refusal is as good, as long as it says nothing of the canary
            output = str(error).encode()
        assert not canary.is_in(output), source
        assert canary.changes() == [], source


def test_z09_what_a_step_puts_in_the_place_of_a_mount_is_left_alone(
    engine: Engine, canary: Canary, tmp_path: Path
) -> None:
    """The clean-up of an empty mount point followed the link that stood there by then."""
    script = f"sh -c 'umount /m/f; mv /m /m2; rm -rf /m; ln -s {canary.path} /m; readlink /m' 2>/dev/null"
    for mount in ("type=tmpfs,target=/m/f", "type=cache,target=/m/f", "type=bind,target=/m/f"):
        built = build(
            engine, context(tmp_path / "context", {"x": "x"}), f"FROM busybox:1\nRUN --mount={mount} {script}\n"
        )
        assert built.output == f"{canary.path}\n".encode(), mount
        assert canary.changes() == [], mount
