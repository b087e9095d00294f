"""Health checks in real containers: what they find, when they are asked, and that nothing of a probe stays."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from fluyt.v1 import containers_pb2, execs_pb2
from fluyt.v1.types import container_filter_pb2, container_spec_pb2
from tests.e2e.containers.health_steps import (
    HEALTHY,
    RUNNING,
    STARTING,
    STAY,
    UNHEALTHY,
    Check,
    Health,
    check,
    checked,
    events_of,
    health,
    inside,
    millis,
    results_of,
    until_asked_again,
    until_others_are_asked,
    until_state,
)
from tests.e2e.containers.steps import create, exit_of, get, load, refused, start, wait
from tests.e2e.execs import steps as execs
from tests.support.engine import Engine
from tests.support.wait import until_now


def test_l08_failures_in_the_start_period_are_told_and_not_counted(engine: Engine) -> None:
    container = checked(engine, check("echo no; exit 3", start_period=3_600_000, retries=1))
    until_now(lambda: len(health(engine, container.id).results) == 5, "five checks have failed")
    found = health(engine, container.id)
    assert (found.state, found.failing_streak, found.last_exit_code, found.last_output) == (STARTING, 0, 3, b"no\n")
    assert {(result.exit_code, result.output) for result in found.results} == {(3, b"no\n")}


def test_l08_what_fails_after_the_start_period_counts_and_makes_it_unhealthy(engine: Engine) -> None:
    container = checked(engine, check("test -f /ok", start_period=1_000, retries=2))
    assert until_state(engine, container.id, UNHEALTHY).failing_streak >= 2
    [(state, time)] = events_of(engine, container.id, 1)
    assert state == UNHEALTHY
    assert time - container.start_time.ToNanoseconds() >= 1_000_000_000


def test_l08_a_success_in_the_start_period_makes_it_healthy_at_once_and_ends_the_grace(engine: Engine) -> None:
    container = checked(engine, check("test -f /ok", start_period=3_600_000, retries=2))
    until_now(lambda: health(engine, container.id).results, "it was asked")
    inside(engine, container.id, "touch /ok")
    assert until_state(engine, container.id, HEALTHY).failing_streak == 0
    inside(engine, container.id, "rm /ok")
    assert until_state(engine, container.id, UNHEALTHY).failing_streak >= 2
    inside(engine, container.id, "touch /ok")
    until_state(engine, container.id, HEALTHY)
    assert [state for state, _ in events_of(engine, container.id, 3)] == [HEALTHY, UNHEALTHY, HEALTHY]


def test_l09_a_probe_is_killed_at_its_timeout_with_all_that_it_started(engine: Engine) -> None:
    script = "for n in 1 2; do sleep 1000 & echo $$ $! >> /pids; done; echo $$ $$ >> /pids; echo waits; sleep 1000"
    container = checked(engine, check(script, timeout=1_000, retries=2))
    found = until_state(engine, container.id, UNHEALTHY)
    assert found.last_exit_code == -1
    assert found.last_output == b"waits\nthe check was killed after its timeout of 1000 ms\n"
    began, now = inside(engine, container.id, "cat /pids; echo -; ps -o pid").split("-\n")
    pairs = [tuple(line.split()) for line in began.splitlines()]
    latest = pairs[-1][0]
    old = {pid for probe, pid in pairs if probe != latest}
    assert len(old) >= 3
    assert not old & set(now.split()), (began, now)


def test_what_a_probe_leaves_behind_is_killed_where_its_group_is_known(engine: Engine) -> None:
    hierarchies = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
    if not any((each / "cgroup.controllers").exists() for each in hierarchies):
        pytest.skip("needs cgroup v2")
    container = checked(engine, check("setsid sleep 4567 & echo left"))
    for _ in range(3):
        until_asked_again(engine, container.id)
    assert inside(engine, container.id, "ps -o args").count("sleep 4567") <= 1


def test_probes_that_were_killed_take_no_place_of_further_processes(engine: Engine) -> None:
    fast = Check(args=["sleep", "1000"], interval=millis(1), timeout=millis(1), retries=1)
    container = checked(engine, fast)
    # More than the supervisor keeps at a time.
    until_now(lambda: health(engine, container.id).failing_streak > 170, "170 checks have failed", 50)
    assert health(engine, container.id).last_output == b"the check was killed after its timeout of 1 ms\n"
    assert inside(engine, container.id, "echo runs") == "runs\n"


def test_the_end_of_what_a_probe_wrote_is_kept_and_the_timeout_is_its_last_line(engine: Engine) -> None:
    container = checked(engine, check("yes 1234567; sleep 1000", timeout=1_000, retries=1))
    found = until_state(engine, container.id, UNHEALTHY)
    assert len(found.last_output) == 4096
    assert found.last_output.endswith(b"the check was killed after its timeout of 1000 ms\n")
    container = checked(engine, check("head -c 100000 /dev/zero; echo end", retries=1))
    found = until_state(engine, container.id, HEALTHY)
    assert found.last_output == b"\0" * 4092 + b"end\n"


def test_a_probe_is_run_as_the_containers_own_process_is(engine: Engine) -> None:
    wanted = check("id -u; pwd; echo $A")
    container = checked(engine, wanted, user="1000", working_dir="/tmp", env=["A=b"])
    assert until_state(engine, container.id, HEALTHY).last_output == b"1000\n/tmp\nb\n"


def test_a_command_that_is_not_there_is_a_failure_that_says_so(engine: Engine) -> None:
    container = checked(engine, Check(args=["/nosuch"], interval=millis(50), retries=1))
    found = until_state(engine, container.id, UNHEALTHY)
    assert (found.last_exit_code, b"/nosuch" in found.last_output) == (-1, True)


def image_check(engine: Engine, *test: str, **fields: int) -> str:
    """An image with this check every 50 ms."""
    return load(engine, extra_config={"Healthcheck": {"Test": test, "Interval": 50_000_000, **fields}})


def test_the_check_of_the_image_is_carried_out_and_the_caller_changes_what_he_names(engine: Engine) -> None:
    image = image_check(engine, "CMD-SHELL", "echo shell; exit 1", Retries=2, Timeout=20_000_000_000)
    container = checked(engine, None, image=image)
    found = until_state(engine, container.id, UNHEALTHY)
    assert (found.failing_streak >= 2, found.last_output) == (True, b"shell\n")
    container = checked(engine, Check(retries=1, start_period=millis(3_600_000)), image=image)
    until_now(lambda: len(health(engine, container.id).results) == 5, "the image's check was asked five times")
    assert health(engine, container.id).state == STARTING
    container = checked(engine, None, image=image_check(engine, "CMD", "echo", "$HOME"))
    assert until_state(engine, container.id, HEALTHY).last_output == b"$HOME\n"


def test_a_check_of_none_by_image_or_caller_is_none(engine: Engine) -> None:
    for image, own in (
        (image_check(engine, "NONE"), None),
        (image_check(engine, "CMD", "true"), Check(disabled=True)),
    ):
        container = checked(engine, own, image=image)
        until_others_are_asked(engine)
        assert not get(engine, container.id).HasField("health")
    container = checked(engine, check("true"), image=image_check(engine, "NONE"))
    until_state(engine, container.id, HEALTHY)


@pytest.mark.parametrize("test", [["CMD", "echo", "x" * 300_000], ["CMD-SHELL", ""], ["CMD", ""]])
def test_a_hostile_check_of_an_image_ends_in_a_state_and_the_container_runs(engine: Engine, test: list[str]) -> None:
    container = checked(engine, None, image=image_check(engine, *test, Retries=1))
    until_now(lambda: health(engine, container.id).results, "it was asked")
    assert health(engine, container.id).state in {HEALTHY, UNHEALTHY}
    assert inside(engine, container.id, "echo runs") == "runs\n"


@pytest.mark.parametrize(
    ("wanted", "reason", "about"),
    [
        (Check(retries=3), "FIELD_INVALID", "spec.health_check.args"),
        (Check(args=["true"], retries=1_001), "FIELD_INVALID", "spec.health_check.retries"),
        (Check(args=["true"], timeout=Duration(seconds=-1)), "FIELD_INVALID", "spec.health_check.timeout"),
        (Check(args=["true"], interval=Duration(seconds=86_401)), "FIELD_INVALID", "spec.health_check.interval"),
        (Check(args=["true"], disabled=True), "FIELD_INVALID", "spec.health_check.args"),
        (Check(args=["x" * 65_537]), "LIMIT_EXCEEDED", "MAX_HEALTH_ARGS_BYTES"),
    ],
)
def test_a_check_that_cannot_be_is_refused_by_name(engine: Engine, wanted: Check, reason: str, about: str) -> None:
    _, found, metadata = refused(lambda: create(engine, "true", health_check=wanted))
    assert (found, about in metadata.values()) == (reason, True), metadata


def test_unhealthy_containers_are_stopped_killed_or_restarted_as_asked(engine: Engine) -> None:
    always = container_spec_pb2.RestartPolicy(mode=container_spec_pb2.RestartPolicy.MODE_ALWAYS)
    # It fails once the script can be told to end.
    script = f"rm -f /ready; trap 'exit 0' TERM; touch /ready; echo run; {STAY}"

    def failing(action: "Check.Action.ValueType", **spec: Any) -> str:
        wanted = check("test ! -f /ready", retries=1, action=action)
        return checked(engine, wanted, script, stop_timeout=Duration(seconds=5), **spec).id

    stopped, killed = failing(Check.ACTION_STOP), failing(Check.ACTION_KILL)
    again, restarted = failing(Check.ACTION_KILL, restart_policy=always), failing(Check.ACTION_RESTART)
    assert exit_of(wait(engine, stopped)) == ("exit_code", 0)
    assert exit_of(wait(engine, killed)) == ("signal", 9)
    until_now(lambda: get(engine, again).restart_count >= 2, "its policy starts it again and again")
    # Each run is found out anew.
    until_now(lambda: engine.logs(restarted).count(b"run\n") >= 3, "it was restarted twice")
    assert get(engine, stopped).health.state == UNHEALTHY
    assert get(engine, killed).restart_count == get(engine, stopped).restart_count == 0


def test_a_restart_of_an_unhealthy_container_makes_it_healthy_where_that_helps(engine: Engine) -> None:
    wanted = check("test -f /ok", retries=1, action=Check.ACTION_RESTART, start_period=1_000)
    # The first run lacks the file, the second finds what the first has left.
    script = f"test -f /first && touch /ok; touch /first; {STAY}"
    container = checked(engine, wanted, script)
    until_state(engine, container.id, HEALTHY)
    found = get(engine, container.id)
    assert (found.state, found.host_pid != container.host_pid, found.health.failing_streak) == (RUNNING, True, 0)
    assert [state for state, _ in events_of(engine, container.id, 2)] == [UNHEALTHY, HEALTHY]


def test_what_is_paused_or_ended_is_not_asked_and_what_runs_again_is(engine: Engine) -> None:
    container = checked(engine, check("true"))
    until_state(engine, container.id, HEALTHY)
    engine.containers.PauseContainer(containers_pb2.PauseContainerRequest(container=container.id))
    before = results_of(engine, container.id)
    until_others_are_asked(engine)
    assert results_of(engine, container.id) == before
    engine.containers.ResumeContainer(containers_pb2.ResumeContainerRequest(container=container.id))
    assert until_asked_again(engine, container.id).state == HEALTHY
    engine.containers.StopContainer(containers_pb2.StopContainerRequest(container=container.id))
    before = results_of(engine, container.id)
    until_others_are_asked(engine)
    assert results_of(engine, container.id) == before
    start(engine, container.id)
    assert until_state(engine, container.id, HEALTHY).results[0].end_time.ToNanoseconds() > before[-1]


def test_probes_are_not_among_the_sessions(engine: Engine) -> None:
    container = checked(engine, check("echo asked > /asked; sleep 1000"))
    until_now(lambda: "asked" in inside(engine, container.id, "cat /asked"), "a probe runs")
    found = execs.api(engine).ListExecs(execs_pb2.ListExecsRequest(container=container.id)).execs
    assert {tuple(session.spec.args) for session in found} == {("sh", "-c", "cat /asked")}


def test_health_goes_on_after_the_daemon_was_killed_and_its_probe_does_not(engine: Engine) -> None:
    probing = checked(engine, check("echo $$ >> /pids; test -f /go || sleep 1000", timeout=3_600_000))
    bad = checked(engine, check("false", retries=1))
    until_now(lambda: inside(engine, probing.id, "cat /pids"), "a probe runs")
    until_state(engine, bad.id, UNHEALTHY)
    engine.kill()
    engine.start()
    assert health(engine, bad.id).state == UNHEALTHY
    assert until_asked_again(engine, bad.id).failing_streak >= 3
    old = inside(engine, probing.id, "head -n 1 /pids; touch /go").strip()
    until_now(lambda: old not in inside(engine, probing.id, "ps -o pid").split(), "the old probe is gone")
    until_now(lambda: len(inside(engine, probing.id, "cat /pids").split()) >= 2, "another one was begun")
    assert (get(engine, probing.id).host_pid, get(engine, probing.id).state) == (probing.host_pid, RUNNING)


def test_containers_are_listed_by_their_health(engine: Engine) -> None:
    made = {
        HEALTHY: checked(engine, check("true")).id,
        UNHEALTHY: checked(engine, check("false", retries=1)).id,
        STARTING: checked(engine, check("false", start_period=3_600_000)).id,
        Health.STATE_UNSPECIFIED: checked(engine, None).id,
    }
    for state, container_id in made.items():
        until_state(engine, container_id, state)
    for state, container_id in made.items():
        wanted = container_filter_pb2.ContainerFilter(health_states=[state])
        answer = engine.containers.ListContainers(containers_pb2.ListContainersRequest(filter=wanted))
        assert [one.id for one in answer.containers] == [container_id], state
