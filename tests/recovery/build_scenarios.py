"""How each failpoint on the way of a build is reached, and what must hold after it."""

import os
from contextlib import suppress
from typing import Any

from fluyt import build_caches, builds, errors
from fluyt.v1 import builds_pb2, images_pb2
from tests.recovery.crash import CrashedEngine, Scenario
from tests.recovery.image_scenarios import names, whole_then_removed
from tests.support import agents, leftovers, repositories

REFERENCE = "made/half:1"
DOCKERFILE = b"""FROM busybox:1
COPY half /half
RUN --mount=type=cache,target=/cache --mount=type=bind,source=half,target=/mounted cat /mounted > /cache/half
RUN echo told; sleep 0.5
"""


def build(engine: CrashedEngine) -> None:
    """A context is uploaded and an image built of it; a daemon that dies is no failure of its own."""
    folder = engine.root / "context"
    folder.mkdir(exist_ok=True)
    (folder / "half").write_text("whole\n")
    # The same layer both times: what a crash left staged is found again.
    os.utime(folder / "half", (1_000_000_000, 1_000_000_000))
    with suppress(errors.Unavailable):
        builds.build(engine.channel, folder, dockerfile_text=DOCKERFILE, references=[REFERENCE])


def prune(engine: CrashedEngine) -> None:
    """Everything that builds keep for later ones goes."""
    with suppress(errors.Unavailable):
        builds.prune_cache(engine.channel, all=True)
        builds.prune_history(engine.channel, all=True)


def build_again(engine: CrashedEngine) -> None:
    """The build succeeds; an image of the killed daemon has lost its name to it. Nothing is left of either."""
    build(engine)
    for image in leftovers.list_images(engine):
        if not image.references:
            engine.images.DeleteImage(images_pb2.DeleteImageRequest(image=image.id))
    for reference in names(engine):
        assert reference.endswith(REFERENCE)
    whole_then_removed(engine, REFERENCE)
    prune(engine)
    assert not list(builds.list_cache(engine.channel))
    assert not list(builds.list_builds(engine.channel))
    for name in ("build_history", "build_mounts"):
        assert not list((engine.root / "data" / name).iterdir()), name


def build_of_a_repository(engine: CrashedEngine) -> None:
    """A repository is cloned and an image built of it."""
    work = engine.root / "repository"
    if not work.exists():
        folder = engine.root / "context"
        folder.mkdir(exist_ok=True)
        (folder / "half").write_text("whole\n")
        repositories.make(work, {"half": "whole\n", "Dockerfile": DOCKERFILE.decode()})
    source = builds_pb2.BuildSource(git_url=f"file://{work}")
    with suppress(errors.Unavailable):
        builds.build(engine.channel, source, references=[REFERENCE])


def build_and_push(engine: CrashedEngine) -> None:
    """An image is built and pushed by the same call."""
    folder = engine.root / "context"
    folder.mkdir(exist_ok=True)
    (folder / "half").write_text("whole\n")
    reference = f"{engine.registry}/{REFERENCE}"
    with suppress(errors.Unavailable):
        builds.build(engine.channel, folder, dockerfile_text=DOCKERFILE, references=[reference], push=True)


def pushed_again(engine: CrashedEngine) -> None:
    """The image was visible before its push began; it goes, and is built again."""
    (name,) = names(engine)
    whole_then_removed(engine, name)
    build_again(engine)


def build_with_times_until(engine: CrashedEngine) -> None:
    """An image is built whose layers have no late times: they are other ones than those of its steps."""
    with suppress(errors.Unavailable):
        _build_with(engine, source_date_seconds=500_000_000)


def build_attested(engine: CrashedEngine) -> None:
    """An image with a list of packages is built and attested."""
    folder = engine.root / "context"
    folder.mkdir(exist_ok=True)
    (folder / "half").write_text("whole\n")
    (folder / "packages").write_text("Package: half\nVersion: 1\n")
    with suppress(errors.Unavailable):
        builds.build(
            engine.channel,
            folder,
            dockerfile_text=b"FROM busybox:1\nCOPY half /half\nCOPY packages /var/lib/dpkg/status.d/half\n",
            references=[REFERENCE],
            provenance=builds_pb2.ProvenanceSpec(),
            sbom=True,
        )


def attested_again(engine: CrashedEngine) -> None:
    """The same build succeeds, and all that was staged for the killed one is gone with it."""
    build_attested(engine)
    whole_then_removed(engine, REFERENCE)
    assert not list((engine.root / "data" / "build_scratch").iterdir())
    build_again(engine)


def build_and_export(engine: CrashedEngine) -> None:
    """An image is built and the results of its steps written to a registry, with what is in its cache mount."""
    with suppress(errors.Unavailable):
        _build_with(engine, cache_to=f"{engine.registry}/cache:1", cache_to_spec=builds_pb2.BuildCacheSpec(mounts=True))


def export_then_prune(engine: CrashedEngine) -> None:
    """The results of a build's steps are in a registry alone."""
    build_and_export(engine)
    prune(engine)


def build_from_cache(engine: CrashedEngine) -> None:
    """An image is built of results of a registry, and its cache mount filled from there."""
    source = builds_pb2.BuildCacheSource(reference=f"{engine.registry}/cache:1", mounts=True)
    with suppress(errors.Unavailable):
        _build_with(engine, cache_sources=[source])


def build_and_save(engine: CrashedEngine) -> None:
    """An image is built and the results of its steps sent to a folder, with what is in its cache mount."""
    build(engine)
    with suppress(errors.Unavailable):
        (known, *_) = builds.list_builds(engine.channel)
        spec = builds_pb2.BuildCacheSpec(mounts=True)
        build_caches.save(engine.channel, known.id, engine.root / "cache", spec=spec)


def save_then_prune(engine: CrashedEngine) -> None:
    """The results of a build's steps are in a folder alone."""
    build_and_save(engine)
    prune(engine)


def build_from_folder(engine: CrashedEngine) -> None:
    """An image is built of results of a folder."""
    with suppress(errors.Unavailable):
        source = build_caches.upload(engine.channel, engine.root / "cache", mounts=True)
        _build_with(engine, cache_sources=[source])


def _build_with(engine: CrashedEngine, **options: Any) -> None:
    folder = engine.root / "context"
    folder.mkdir(exist_ok=True)
    (folder / "half").write_text("whole\n")
    os.utime(folder / "half", (1_000_000_000, 1_000_000_000))
    builds.build(engine.channel, folder, dockerfile_text=DOCKERFILE, references=[REFERENCE], **options)


def build_with_agent(engine: CrashedEngine) -> None:
    """A step asks an agent that its caller serves; perl talks to its socket."""
    folder = engine.root / "context"
    agents.folder_of_programs(folder)
    (folder / "half").write_text("whole\n")
    dockerfile = f"FROM busybox:1\nCOPY / /\nRUN --mount=type=ssh {agents.ASK}\n".encode()
    with agents.agent(engine.root / "agent") as agent, suppress(errors.Unavailable):
        builds.build(
            engine.channel, folder, dockerfile_text=dockerfile, references=[REFERENCE], agents={"default": agent.socket}
        )


def build_with_agent_again(engine: CrashedEngine) -> None:
    """Nothing is left of the socket; the same build succeeds."""
    assert not list((engine.root / "run" / "builds").iterdir())
    build_with_agent(engine)
    whole_then_removed(engine, REFERENCE)
    build_again(engine)


BUILDING = Scenario(build, build_again)
ASKING = Scenario(build_with_agent, build_with_agent_again)
PUSHING = Scenario(build_and_push, pushed_again)
FETCHING = Scenario(build_of_a_repository, build_again)
ATTESTING = Scenario(build_attested, attested_again)
EXPORTING = Scenario(build_and_export, build_again)
TAKING = Scenario(build_from_cache, build_again, export_then_prune)
SAVING = Scenario(build_and_save, build_again)
TAKING_FOLDER = Scenario(build_from_folder, build_again, save_then_prune)
REPACKING = Scenario(build_with_times_until, build_again)
PRUNING = Scenario(prune, build_again, build)

#: Failpoint of the daemon -> how it is reached.
SCENARIOS = {
    "build.agent.ask": ASKING,
    "build.agent.listen": ASKING,
    "build.context.save": BUILDING,
    "build.source.fetch": FETCHING,
    "build.history.record": BUILDING,
    "build.history.output": BUILDING,
    "build.history.delete": PRUNING,
    "build.mount.delete": PRUNING,
    "build.mount.write": BUILDING,
    "build.run.directories": BUILDING,
    "build.run.start": BUILDING,
    "build.run.release": BUILDING,
    "build.layer.store": BUILDING,
    "build.layer.publish": BUILDING,
    "build.layer.repack": REPACKING,
    "build.cache.export": EXPORTING,
    "build.cache.fetch": TAKING,
    "build.cache.mount": EXPORTING,
    "build.cache.restore": TAKING,
    "build.cache.save": SAVING,
    "build.cache.write": TAKING_FOLDER,
    "build.cache.record": BUILDING,
    "build.cache.delete": PRUNING,
    "build.config.stage": BUILDING,
    "build.manifest.stage": BUILDING,
    "build.packages.write": ATTESTING,
    "build.index.stage": ATTESTING,
    "build.blobs.publish": BUILDING,
    "build.layers.publish": BUILDING,
    "build.push": PUSHING,
    "build.record": BUILDING,
}

#: Failpoint of the core in the daemon -> how it is reached.
CORE_SCENARIOS = {
    "context.chunk.write": BUILDING,
    "context.tree.rename": BUILDING,
    "context.pack.delete": PRUNING,
}
