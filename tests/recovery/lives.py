"""Drives containers through calls and crashes at random, beside a model that says how each of them must stand.

A call that was answered has had its whole effect. One that was cut by the death of the daemon has had all of it or
none. Of two calls at once the effect is that of one order or the other. After each step nothing stands on the host
that nothing owns, and the events tell each life whole and in order.
"""

import dataclasses
import itertools
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

import grpc
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fluyt.v1 import containers_pb2, execs_pb2, execs_pb2_grpc
from fluyt.v1.types import container_pb2
from tests.e2e.containers.steps import refusal
from tests.recovery.container_scenarios import is_frozen, pids_bound
from tests.recovery.crash import (
    CALL_SECONDS,
    IMAGE,
    CrashedEngine,
    end_in_order,
    read_events,
    until_empty,
    until_gone,
    until_nothing_unowned,
)
from tests.recovery.life_calls import (
    CALLS,
    ENDING,
    REFUSED,
    SENDING,
    START_UNDONE,
    STARTING,
    THAWING,
    UNAWAITED,
    Call,
    described,
    renaming,
    stands_as,
    updating,
)
from tests.recovery.life_model import CREATED, EXITED, KILLED, KINDS, PAUSED, RUNNING, Chronicle, Life, RefusedError
from tests.support import leftovers
from tests.support.wait import until_now

MAX_CONTAINERS: Final = 5
#: Ends of one container between two starts by a caller or a daemon: the wait before a policy's start doubles each time.
MAX_OWN_ENDS: Final = 3
#: The daemon is killed so long after a call has begun, at most: most calls take less.
KILL_WITHIN_MILLIS: Final = 40
#: How long a process may take to end by a signal that was sent, where nobody can tell whether one was.
SIGNAL_SECONDS: Final = 1.0
#: A policy that starts a container again does so in less.
REST_SECONDS: Final = 0.3
EXEC_EXIT_CODE: Final = 4


class Lives(RuleBasedStateMachine):
    """One example: containers come, are driven and go. The engine is the caller's and is left without them.

    Which rule comes next and what it draws must not hang on what the engine did, as hypothesis wants the same of each
    run: a rule for which there is no container does nothing.
    """

    #: Set by who runs it, on a class of its own.
    engine: CrashedEngine
    chronicle: Chronicle
    #: How often each thing was done.
    counts: Counter[str]
    #: What failed, each with the steps that led there.
    failures: list[Exception]

    def __init__(self) -> None:
        """No container is there."""
        super().__init__()
        self.lives: dict[str, Life] = {}
        #: Id of each live container -> the pid of its process.
        self.pids: dict[str, int] = {}
        #: Ids of the sessions that must run -> that of their container.
        self.execs: dict[str, str] = {}
        self.own_ends: Counter[str] = Counter()
        self.numbers = itertools.count()
        self.steps: list[str] = []

    @rule(kind=st.sampled_from(sorted(KINDS)))
    def create(self, kind: str) -> None:
        """CreateContainer."""
        if len(self.lives) < MAX_CONTAINERS:
            self._count(f"create {kind}")
            life = Life(self._free_name(), KINDS[kind])
            self._become(self._create(life), life)

    @rule(kind=st.sampled_from(sorted(KINDS)))
    def run(self, kind: str) -> None:
        """RunContainer, detached."""
        if len(self.lives) < MAX_CONTAINERS:
            self._count(f"run {kind}")
            life = Life(self._free_name(), KINDS[kind])
            request = containers_pb2.RunContainerRequest(spec=life.kind.spec(IMAGE), name=life.name, detach=True)
            *_, last = self.engine.containers.RunContainer(request, timeout=CALL_SECONDS)
            self._become(last.started.id, life.start())

    @rule(which=st.integers(0, 99), call=st.sampled_from(CALLS))
    def call(self, which: int, call: Call) -> None:
        """One call, to its answer."""
        if (id_ := self._choose(which)) is not None:
            self._answered(id_, call)

    @rule(which=st.integers(0, 99), limit=st.integers(20, 90))
    def update(self, which: int, limit: int) -> None:
        """UpdateContainer."""
        if (id_ := self._choose(which)) is not None:
            self._answered(id_, updating(limit))

    @rule(which=st.integers(0, 99))
    def rename(self, which: int) -> None:
        """RenameContainer."""
        if (id_ := self._choose(which)) is not None:
            self._answered(id_, renaming(self._free_name()))

    @rule(which=st.integers(0, 99), stays=st.booleans())
    def execute(self, which: int, stays: bool) -> None:
        """Exec, to its end or of a process that stays."""
        if (id_ := self._choose(which, RUNNING)) is None:
            return
        self._count("exec that stays" if stays else "exec", id_)
        args = ["sleep", "1000"] if stays else ["sh", "-c", f"exit {EXEC_EXIT_CODE}"]
        spec = execs_pb2.ExecSpec(args=args, detach=stays)
        start = execs_pb2.ExecRequest(start=execs_pb2.ExecStart(container=id_, spec=spec))
        *_, last = execs_pb2_grpc.ExecServiceStub(self.engine.channel).Exec(iter([start]), timeout=CALL_SECONDS)
        if stays:
            self.execs[last.started.id] = id_
        else:
            assert last.exited.exit_code == EXEC_EXIT_CODE, last

    @rule(which=st.integers(0, 99), first=st.sampled_from(CALLS), second=st.sampled_from(CALLS))
    def call_at_once(self, which: int, first: Call, second: Call) -> None:
        """Two calls on one container at the same time."""
        if (id_ := self._choose(which)) is None:
            return
        self._count("two calls at once", id_, f"{first.name}, {second.name}")
        life = self.lives[id_]
        threads = [threading.Thread(target=self._tried, args=(id_, call)) for call in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if {first.name, second.name} & UNAWAITED:
            self._await_signal(id_)
        possible = [second.on(first.on(life)), first.on(second.on(life))]
        for one, other in ((first, second), (second, first)):
            if one.name == "restart" and other.name in ENDING:
                possible.append(one.on(life))  # it came while the end that the other asked for had not come yet
            if one.name in STARTING and other.name == "stop":
                possible.append(life.ended(KILLED))  # the stop's time was over before it heard signals
            if one.name in STARTING and life.kind.at_once is not None:
                after = other.on(dataclasses.replace(life, state=RUNNING))  # before it had ended by itself
                possible.append(after and after.at_rest())
        self._become_one_of(id_, possible, is_process_known=False)
        after = self.lives.get(id_)
        if after is not None and after.state == PAUSED and id_ not in self.pids:
            # Frozen before it could say that it hears signals, or end.
            self._answered(id_, THAWING)

    @rule(which=st.integers(0, 99))
    def end_by_itself(self, which: int) -> None:
        """Somebody else sends the process SIGTERM."""
        id_ = self._choose(which, RUNNING)
        if id_ is not None and self._may_end(id_):
            self._count("end by itself", id_)
            os.kill(self.pids[id_], signal.SIGTERM)
            self._ends(id_, self.lives[id_].end_by_itself())

    @rule(which=st.integers(0, 99))
    def kill_supervisor(self, which: int) -> None:
        """A supervisor is killed."""
        id_ = self._choose(which, RUNNING, PAUSED)
        if id_ is not None and self._may_end(id_):
            self._count("supervisor killed", id_)
            os.kill(self._supervisor_of(id_), signal.SIGKILL)
            self._ends(id_, self.lives[id_].lose_supervisor())

    @rule(in_order=st.booleans())
    def start_daemon_again(self, in_order: bool) -> None:
        """The daemon is killed or ends in order, and is started again."""
        self._count("daemon ended" if in_order else "daemon killed")
        if in_order:
            end_in_order(self.engine)
            until_empty(lambda: leftovers.nothing_left_of_stopped(self.engine))
        else:
            self.engine.kill()
        self._start_daemon()

    @rule(which=st.integers(0, 99), loses=st.booleans())
    def end_without_daemon(self, which: int, loses: bool) -> None:
        """A process ends, or a supervisor is killed, while no daemon is there."""
        if (id_ := self._choose(which, RUNNING)) is None:
            return
        self._count("supervisor killed without a daemon" if loses else "end without a daemon", id_)
        self.engine.kill()
        life, pid = self.lives[id_], self.pids[id_]
        if loses:
            supervisor = self._supervisor_of(id_)
            os.kill(supervisor, signal.SIGKILL)
            until_gone(supervisor)
            until_gone(pid)
            self._set(id_, life.lose_supervisor(), is_new_process=True)
        elif life.kind.on_term is not None:
            os.kill(pid, signal.SIGTERM)
            until_gone(pid)
            self._set(id_, life.end_by_itself(), is_new_process=True)
        self._start_daemon()

    @rule(which=st.integers(0, 99), call=st.sampled_from(CALLS), millis=st.integers(0, KILL_WITHIN_MILLIS))
    def cut(self, which: int, call: Call, millis: int) -> None:
        """The daemon is killed in the middle of a call."""
        if (id_ := self._choose(which)) is None:
            return
        life = self.lives[id_]
        self._cut(f"{call.name} cut", id_, millis, lambda: call.make(self.engine, id_))
        possible = [life, call.on(life)]
        is_at_rest = life.state == EXITED or (life.kind.is_removed and life.state == CREATED)
        if (is_at_rest and call.name in STARTING) or (life.is_live and call.name == "restart"):
            # What its last run left was forgotten when the start was recorded; no process came of it, and what goes
            # with its end has gone.
            possible.append(life.ended(START_UNDONE))
        if life.is_live and call.name in SENDING:
            with suppress(AssertionError):
                until_now(lambda: leftovers.process_of(self.pids[id_]) is None, "it ends", SIGNAL_SECONDS)
            # It may have ended by the signal although what the caller wanted of it was not recorded.
            if call.name == "restart" and life.kind.on_term:
                possible.append(life.ended(life.kind.on_term))
            if call.name == "delete by force":
                possible.append(life.ended(KILLED))
        for other in self.lives:
            self.lives[other] = self.lives[other].after_daemon_start()
        self.own_ends.clear()
        self.engine.start()
        self._become_one_of(id_, [one and one.after_daemon_start() for one in possible], is_process_known=False)
        if call.name == "terminate" and life.state == PAUSED and self.lives[id_].state == PAUSED:
            self._answered(id_, call)  # whether a signal waits for it nobody could tell otherwise

    @rule(kind=st.sampled_from(sorted(KINDS)), millis=st.integers(0, KILL_WITHIN_MILLIS), runs=st.booleans())
    def cut_creation(self, kind: str, millis: int, runs: bool) -> None:
        """The daemon is killed in the middle of CreateContainer or RunContainer."""
        if len(self.lives) >= MAX_CONTAINERS:
            return
        life = Life(self._free_name(), KINDS[kind])

        def make() -> None:
            if runs:
                request = containers_pb2.RunContainerRequest(spec=life.kind.spec(IMAGE), name=life.name)
                list(self.engine.containers.RunContainer(request, timeout=CALL_SECONDS))
            else:
                self._create(life)

        self._cut(f"{'run' if runs else 'create'} cut", "", millis, make)
        for other in self.lives:
            self.lives[other] = self.lives[other].after_daemon_start()
        self.own_ends.clear()
        self.engine.start()
        found = next((one for one in leftovers.list_containers(self.engine) if one.name == life.name), None)
        if found is not None:
            self._become_one_of(found.id, [None, life, life.start()] if runs else [life])

    @invariant()
    def all_stand_as_they_must(self) -> None:
        """Containers, processes and sessions are those of the model, and nothing is unowned."""
        self._settle()
        until_nothing_unowned(self.engine)

    @invariant()
    def events_tell_all(self) -> None:
        """The events tell each life whole and in order, up to where it stands."""
        until_now(self._events_agree, "the events tell of the containers that there are")
        for id_, life in self.lives.items():
            told = self.chronicle.told[id_]
            assert (told.name, told.state, told.owes_stopped) == (life.name, life.state, False), f"{told} of {life}"
            assert not life.is_live or told.host_pid == self.pids[id_], f"{told}: its process is {self.pids[id_]}"
            running = {exec_id for exec_id, last in told.execs.items() if last == "exec_started"}
            assert running == {exec_id for exec_id, owner in self.execs.items() if owner == id_}, told

    def teardown(self) -> None:
        """Nothing of the example is left. What failed is kept with the steps that led there."""
        failure = sys.exc_info()[1]
        if isinstance(failure, Exception):
            failure.add_note("\n".join(["steps:", *self.steps]))
            self.failures.append(failure)
        if self.engine.process.poll() is not None:
            self.engine.start()
        for container in leftovers.list_containers(self.engine):
            with suppress(grpc.RpcError):  # it may remove itself in this moment
                self.engine.containers.DeleteContainer(
                    containers_pb2.DeleteContainerRequest(container=container.id, force=True), timeout=CALL_SECONDS
                )
        if failure is None:
            until_nothing_unowned(self.engine)

    def _count(self, what: str, id_: str = "", detail: str = "") -> None:
        self.counts[what] += 1
        self.steps.append(" ".join([what, detail, str(self.lives.get(id_, ""))]))

    def _free_name(self) -> str:
        return f"life-{next(self.numbers)}"

    def _choose(self, which: int, *states: int) -> str | None:
        """The id of a container in one of these states, or in any."""
        found = [id_ for id_, life in self.lives.items() if not states or life.state in states]
        return found[which % len(found)] if found else None

    def _may_end(self, id_: str) -> bool:
        self.own_ends[id_] += 1
        return not self.lives[id_].kind.is_always_restarted or self.own_ends[id_] <= MAX_OWN_ENDS

    def _create(self, life: Life) -> str:
        request = containers_pb2.CreateContainerRequest(spec=life.kind.spec(IMAGE), name=life.name)
        answer = self.engine.containers.CreateContainer(request, timeout=CALL_SECONDS)
        return str(answer.container.id)

    def _answered(self, id_: str, call: Call) -> None:
        """The call was answered, or refused as the model says."""
        life = self.lives[id_]
        self._count(call.name, id_)
        try:
            after = call.effect(life)
        except RefusedError:
            reason = self._tried(id_, call)
            assert reason == "CONTAINER_WRONG_STATE", f"{call.name} of {life} was refused with {reason!r}"
            after = life
        else:
            call.make(self.engine, id_)
        is_new_process = call.name == "restart" or (not life.is_live and after is not None and after.is_live)
        if is_new_process:
            self.own_ends.pop(id_, None)
        before = self.pids.get(id_)
        self._become_one_of(id_, [after], is_process_known=not is_new_process)
        assert call.name != "restart" or id_ not in self.pids or self.pids[id_] != before, f"{life} was not restarted"

    def _tried(self, id_: str, call: Call) -> str:
        """The reason why it was refused; empty if it was not."""
        try:
            call.make(self.engine, id_)
        except grpc.RpcError as error:
            reason = refusal(error)[1]
            if reason not in REFUSED:
                self.failures.append(error)
            return reason
        return ""

    def _cut(self, what: str, id_: str, millis: int, make: Callable[[], object]) -> None:
        """The daemon has died while `make` was under way, or a moment after it."""

        def until_cut() -> None:
            with suppress(grpc.RpcError):
                make()

        self._count(what, id_, f"after {millis} ms")
        thread = threading.Thread(target=until_cut)
        thread.start()
        thread.join(millis / 1000)
        self.counts["of these cut before the answer"] += thread.is_alive()
        self.engine.process.kill()
        thread.join()
        self.engine.kill()

    def _start_daemon(self) -> None:
        for id_, life in self.lives.items():
            self._set(id_, life.after_daemon_start(), is_new_process=not life.is_live)
        self.own_ends.clear()
        self.engine.start()

    def _await_signal(self, id_: str) -> None:
        """A signal that was sent to the container's process, if one was, has done what it does."""
        found = next((one for one in leftovers.list_containers(self.engine) if one.id == id_), None)
        if found is not None and found.host_pid:
            with suppress(AssertionError):
                until_now(lambda: leftovers.process_of(found.host_pid) is None, "it ends", SIGNAL_SECONDS)

    def _supervisor_of(self, id_: str) -> int:
        ours = leftovers.processes_of(self.engine)
        [found] = [one.pid for one in ours if one.is_supervisor and id_ in one.arguments]
        return found

    def _ends(self, id_: str, after: Life | None) -> None:
        """Its process ends now, unless it hears no signal."""
        if after is not None and after.kind.on_term is None and after.is_live:
            return
        until_gone(self.pids[id_])
        self._become_one_of(id_, [after], is_process_known=False)

    def _become(self, id_: str, life: Life | None) -> None:
        self._become_one_of(id_, [life])

    def _become_one_of(self, id_: str, possible: Sequence[Life | None], *, is_process_known: bool = True) -> None:
        """The container has come to stand as one of these, and the model with it."""
        seen: list[container_pb2.Container | None] = []

        def matching() -> list[Life | None]:
            seen[:] = [next((one for one in leftovers.list_containers(self.engine) if one.id == id_), None)]
            return [one for one in possible if stands_as(seen[0], one)]

        def is_at_rest() -> bool:
            if not matching():
                return False
            # Where more than one may be, it may be on its way through one to another.
            first = seen[0] and (seen[0].state, seen[0].host_pid)
            if len({*possible}) > 1:
                time.sleep(REST_SECONDS)
            return bool(matching()) and first == (seen[0] and (seen[0].state, seen[0].host_pid))

        try:
            until_now(is_at_rest)
        except AssertionError:
            allowed = [str(one) for one in possible]
            raise AssertionError(f"it was {self.lives.get(id_)}, may be {allowed}, is {described(seen[0])}") from None
        life = next(one for one in possible if stands_as(seen[0], one))
        pid = seen[0].host_pid if seen[0] is not None else 0
        self._set(id_, life, is_new_process=not is_process_known and self.pids.get(id_) != pid)

    def _set(self, id_: str, life: Life | None, *, is_new_process: bool = False) -> None:
        if is_new_process or life is None or not life.is_live:
            self.pids.pop(id_, None)
            self.execs = {exec_id: owner for exec_id, owner in self.execs.items() if owner != id_}
        if life is None:
            self.lives.pop(id_, None)
        else:
            self.lives[id_] = life

    def _settle(self) -> None:
        """All containers stand as the model says, and those that nothing happened to have the same process."""
        seen: list[str] = []

        def is_settled() -> bool:
            seen[:] = self._differences()
            return not seen

        try:
            until_now(is_settled)
        except AssertionError:
            raise AssertionError("\n".join(seen)) from None
        for id_, life in self.lives.items():
            if life.is_live:
                until_now(partial(self._is_ready, id_), f"{life} has written its line")
                assert is_frozen(self.engine, id_) is (life.state == PAUSED), life
                assert pids_bound(self.engine, id_) == (str(life.pids_limit) if life.pids_limit else "max"), life
        until_now(self._sessions_agree, "the sessions that run are those that must")

    def _is_ready(self, id_: str) -> bool:
        return b"ready" in self.engine.logs(id_)

    def _differences(self) -> Iterator[str]:
        found = {one.id: one for one in leftovers.list_containers(self.engine)}
        for id_ in found.keys() | self.lives.keys():
            life = self.lives.get(id_)
            if not stands_as(found.get(id_), life):
                yield f"{life} is {described(found.get(id_))}"
            elif life is not None and life.is_live:
                pid = found[id_].host_pid
                if self.pids.setdefault(id_, pid) != pid:
                    yield f"{life} had the process {self.pids[id_]} and has {pid}"

    def _sessions_agree(self) -> bool:
        api = execs_pb2_grpc.ExecServiceStub(self.engine.channel)
        listed = api.ListExecs(execs_pb2.ListExecsRequest(page_size=1_000), timeout=CALL_SECONDS).execs
        running = {one.id for one in listed if one.state == execs_pb2.ExecSession.STATE_RUNNING}
        return running == self.execs.keys() and {one.container_id for one in listed} <= self.lives.keys()

    def _events_agree(self) -> bool:
        """Reads what is new. True if it tells of each container that there is and of no other."""
        read_events(self.engine, self.chronicle)
        return self.chronicle.told.keys() == self.lives.keys()
