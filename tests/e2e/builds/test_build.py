"""Builds as a caller sees them: images that run, steps, the cache."""

from pathlib import Path

from tests.e2e.builds.steps import CACHED, DONE, build, config, context
from tests.support.engine import Engine

DOCKERFILE = """
    FROM busybox:1
    ARG GREETING=hello
    ENV PLACE=world
    LABEL kind=sample
    WORKDIR /app
    COPY data /app/data
    RUN echo "$GREETING $PLACE" > greeting && cat data/one
    EXPOSE 8080
    VOLUME /data
    USER 7:8
    SHELL ["/bin/sh", "-ec"]
    ENTRYPOINT ["cat"]
    CMD ["/app/greeting"]
    """


def test_an_image_is_built_of_a_folder_and_runs(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"data/one": "first file\n", "data/two": "second file\n"})
    built = build(engine, folder, DOCKERFILE)
    out, err, ended = engine.run(built.reference)
    assert (out, err, ended.exit_code) == (b"hello world\n", b"", 0)
    assert b"first file\n" in built.output
    run = config(engine, built)["config"]
    assert (run["User"], run["WorkingDir"], run["Labels"]) == ("7:8", "/app", {"kind": "sample"})
    assert (run["ExposedPorts"], run["Volumes"]) == ({"8080/tcp": {}}, {"/data": {}})
    assert (run["Entrypoint"], run["Cmd"], run["Shell"]) == (["cat"], ["/app/greeting"], ["/bin/sh", "-ec"])


def test_what_has_not_changed_comes_from_the_cache_and_gives_the_same_image(engine: Engine, tmp_path: Path) -> None:
    folder = context(tmp_path, {"data/one": "1\n", "data/two": "2\n"})
    first = build(engine, folder, DOCKERFILE)
    again = build(engine, folder, DOCKERFILE)
    assert (first.state_of("RUN"), again.state_of("RUN"), again.state_of("COPY")) == (DONE, CACHED, CACHED)
    assert first.result.image_id == again.result.image_id
    (folder / "data" / "one").write_text("other\n")
    changed = build(engine, folder, DOCKERFILE)
    assert (changed.state_of("WORKDIR"), changed.state_of("COPY"), changed.state_of("RUN")) == (CACHED, DONE, DONE)
    assert changed.result.image_id != first.result.image_id
