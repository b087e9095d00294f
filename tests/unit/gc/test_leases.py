"""Leases and deletions exclude each other, in whichever order they come."""

import asyncio

import pytest

from fluytd.gc.leases import Leases


async def test_what_is_held_may_not_be_deleted_until_the_last_lease_ends() -> None:
    leases = Leases()
    async with leases.lease() as outer:
        await outer.add(["a"])
        async with leases.lease() as inner:
            await inner.add(["a"])
        async with leases.deletion("a") as may_delete:
            assert not may_delete
    assert not leases.is_held("a")
    async with leases.deletion("a") as may_delete:
        assert may_delete


async def test_a_lease_waits_for_a_deletion_that_has_begun() -> None:
    leases = Leases()
    async with leases.lease() as lease:
        async with leases.deletion("a") as may_delete:
            assert may_delete
            adding = asyncio.ensure_future(lease.add(["a"]))
            await asyncio.sleep(0)
            assert not adding.done()
            assert leases.is_held("a")
        await adding
        async with leases.deletion("a") as may_delete:
            assert not may_delete


async def test_two_deletions_of_one_resource_do_not_meet_and_others_do_not_mind() -> None:
    leases = Leases()
    async with leases.deletion("a"), leases.deletion("a") as again, leases.deletion("b") as other:
        assert (again, other) == (False, True)


async def test_a_deletion_that_fails_lets_waiting_leases_go_on() -> None:
    leases = Leases()
    waiting: list[asyncio.Future[None]] = []
    async with leases.lease() as lease:

        async def delete() -> None:
            async with leases.deletion("a"):
                waiting.append(asyncio.ensure_future(lease.add(["a"])))
                await asyncio.sleep(0)
                assert not waiting[0].done()
                raise OSError("disk")

        with pytest.raises(OSError, match="disk"):
            await delete()
        await waiting[0]


async def test_what_is_added_twice_is_held_once() -> None:
    leases = Leases()
    async with leases.lease() as lease:
        await lease.add(["a", "a"])
        await lease.add(["a"])
        assert lease.resources == {"a"}
        lease.release()
        assert not leases.is_held("a")
        assert lease.resources == frozenset()


async def test_a_lease_that_is_cancelled_while_it_waits_holds_nothing() -> None:
    leases = Leases()

    async def work() -> None:
        async with leases.lease() as lease:
            await lease.add(["a"])

    async with leases.deletion("a"):
        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert not leases.is_held("a")
