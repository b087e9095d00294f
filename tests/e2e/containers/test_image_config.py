"""How the config of an image and the request are put together, and what an image may not say."""

from typing import Any

import pytest

from fluyt.v1 import containers_pb2
from fluyt.v1.types import container_filter_pb2, container_spec_pb2
from tests.e2e.containers.steps import INVALID, WRONG_STATE, create, delete, get, load, refused, refused_run, status_of
from tests.support import images, tarball
from tests.support.engine import Engine

NO_ENTRYPOINT = container_spec_pb2.StringList()


def entrypoint(*values: str) -> container_spec_pb2.StringList:
    return container_spec_pb2.StringList(values=values)


@pytest.mark.parametrize(
    ("config", "own", "args", "executed"),
    [
        ({"cmd": ["sh", "-c", "x"]}, None, [], ["sh", "-c", "x"]),
        ({"cmd": ["sh"]}, None, ["echo", "a"], ["echo", "a"]),
        ({"entrypoint": ["/e"], "cmd": ["c"]}, None, [], ["/e", "c"]),
        ({"entrypoint": ["/e"], "cmd": ["c"]}, None, ["a", "b"], ["/e", "a", "b"]),
        ({"entrypoint": ["/e"], "cmd": ["c"]}, ["/own"], [], ["/own"]),
        ({"entrypoint": ["/e"], "cmd": ["c"]}, ["/own", "x"], ["a"], ["/own", "x", "a"]),
        ({"entrypoint": ["/e"], "cmd": ["c"]}, [], ["a"], ["a"]),
        ({"entrypoint": [], "cmd": ["c"]}, None, [], ["c"]),
        ({"entrypoint": ["/e"], "cmd": []}, None, [], ["/e"]),
        ({"entrypoint": ["/e", ""], "cmd": [""]}, None, [], ["/e", "", ""]),
    ],
)
def test_entrypoint_command_and_arguments_are_put_together_as_docker_does(
    engine: Engine, config: dict[str, list[str]], own: list[str] | None, args: list[str], executed: list[str]
) -> None:
    given: dict[str, Any] = {} if own is None else {"entrypoint": entrypoint(*own)}
    container = create(engine, *args, image=load(engine, **config), **given)
    assert list(get(engine, container.id).resolved_args) == executed


def test_a_container_without_any_command_is_refused_before_it_is_made(engine: Engine) -> None:
    no_commands: list[list[str] | None] = [[], None]
    for cmd in no_commands:
        image = load(engine, cmd=cmd)
        status, reason, metadata = refused(lambda image=image: create(engine, image=image))  # type: ignore[misc]
        assert (status, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.args")
    image = load(engine, entrypoint=["/e"], cmd=["c"])
    refusal = refused(lambda: create(engine, image=image, entrypoint=NO_ENTRYPOINT))
    assert refusal[:2] == (INVALID, "FIELD_INVALID")


def test_t11_the_environment_of_the_image_is_kept_but_for_what_has_no_name(engine: Engine) -> None:
    image = load(engine, env=["A=1", "B=b=b", "A=2", "BARE", "=x", "", "E=", "N=a\nb"])
    container = create(engine, "true", image=image, env=["E=5", "B"])
    env = list(get(engine, container.id).resolved_env)
    assert sorted(line for line in env if not line.startswith(("PATH=", "HOSTNAME="))) == ["A=2", "E=5", "N=a\nb"]
    assert engine.run(image, "sh", "-c", 'echo "$N"')[0] == b"a\nb\n"


def test_t14_the_path_of_the_image_is_kept_and_an_empty_one_too(engine: Engine) -> None:
    image = load(engine, env=["PATH=/only"])
    assert engine.run(image, "/bin/sh", "-c", "echo $PATH")[0] == b"/only\n"
    assert refused_run(engine, "sh", image=image)[2]["exit_code"] == "127"
    assert engine.run(image, "sh", "-c", "echo $PATH", env=["PATH=/bin"])[0] == b"/bin\n"


@pytest.mark.parametrize("user", ["nobodyhere", "4294967296", "app:nogroup", "-1"])
def test_t06_a_user_of_the_image_that_cannot_be_had_starts_nothing_and_the_request_can_do_better(
    engine: Engine, user: str
) -> None:
    image = load(engine, user=user)
    assert refused_run(engine, "id", image=image)[:2] == (INVALID, "USER_INVALID")
    assert engine.run(image, "id", "-u", user="app")[0] == b"1000\n"


def test_t05_the_user_of_the_image_is_used(engine: Engine) -> None:
    image = load(engine, user="app:extra")
    status = status_of(engine.run(image, "cat", "/proc/self/status")[0])
    assert (set(status["Uid"].split()), set(status["Gid"].split())) == ({"1000"}, {"2000"})


def test_t09_the_working_directory_of_the_image_is_made_and_the_requests_wins(engine: Engine) -> None:
    image = load(engine, working_dir="/srv/app")
    assert engine.run(image, "pwd")[0] == b"/srv/app\n"
    assert engine.run(image, "pwd", working_dir="/tmp")[0] == b"/tmp\n"


@pytest.mark.parametrize("directory", ["rel", "a/b", "..", "/proc/self/fd/7"])
def test_t09_a_working_directory_of_the_image_that_cannot_be_starts_nothing(engine: Engine, directory: str) -> None:
    status, reason, metadata = refused_run(engine, "pwd", image=load(engine, working_dir=directory))
    assert (status, reason) in {(WRONG_STATE, "PROCESS_START_FAILED"), (INVALID, "FIELD_INVALID")}
    assert directory in str(metadata)


def test_t09_upward_steps_of_the_image_stay_inside(engine: Engine) -> None:
    image = load(engine, tarball.directory("srv"), working_dir="/srv/../../../../../../etc")
    assert engine.run(image, "/bin/pwd")[0] == b"/etc\n"


def test_t04_a_stop_signal_of_the_image_that_is_none_is_refused_and_the_request_can_do_better(engine: Engine) -> None:
    image = load(engine, stop_signal="SIGNOPE")
    status, reason, metadata = refused(lambda: create(engine, "true", image=image))
    assert (status, reason, metadata["field"]) == (INVALID, "FIELD_INVALID", "spec.image")
    delete(engine, create(engine, "true", image=image, stop_signal="TERM").id)


def test_labels_of_the_request_are_over_those_of_the_image(engine: Engine) -> None:
    image = load(engine, labels={"a": "image", "b": "image"}, env=[images.BUSYBOX_PATH])
    container = create(engine, "true", image=image, labels={"b": "own", "c": "own"})

    def found(*labels: str) -> list[str]:
        wanted = container_filter_pb2.ContainerFilter(labels=labels)
        answer = engine.containers.ListContainers(containers_pb2.ListContainersRequest(filter=wanted))
        return [one.id for one in answer.containers]

    assert found("a=image", "b=own", "c") == [container.id]
    assert found("b=image") == found("nosuch") == []
