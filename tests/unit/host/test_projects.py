"""Which numbers of project quotas are given to whom."""

import pytest

from fluytd.errors import LimitExceeded
from fluytd.host.projects import BYTES_PER_INODE, MIN_BOUND_INODES, Projects, inode_bound


def nothing(_: int) -> bool:
    return False


def test_a_number_is_held_by_one_record_alone() -> None:
    projects, volumes, containers = Projects(10, 4), [0], [0, 0]
    projects.holders += [lambda: volumes, lambda: containers]
    for records in (volumes, containers, containers, volumes):
        records.append(projects.take(nothing))
    assert (volumes, containers) == ([0, 10, 13], [0, 0, 11, 12])
    assert projects.held() == {10, 11, 12, 13}
    with pytest.raises(LimitExceeded) as refused:
        projects.take(nothing)
    assert refused.value.metadata["limit"] == "quota_project_count"


def test_a_number_comes_again_last_and_not_while_something_is_counted_for_it() -> None:
    projects, held = Projects(10, 4), [10]
    projects.holders.append(lambda: held)
    assert projects.take(nothing) == 11
    held.append(12)
    counted = {13}
    # 11 was given back at once and is the only one that is neither held nor counted.
    assert projects.take(counted.__contains__) == 11
    counted.clear()
    held.remove(10)
    assert [projects.take(nothing), projects.take(nothing)] == [13, 10]


@pytest.mark.parametrize(
    ("limit_bytes", "inodes"),
    [
        (1, MIN_BOUND_INODES),
        (MIN_BOUND_INODES * BYTES_PER_INODE, MIN_BOUND_INODES),
        (10 * 1024**3, 10 * 1024**3 // BYTES_PER_INODE),
    ],
)
def test_a_bound_of_bytes_is_one_of_inodes(limit_bytes: int, inodes: int) -> None:
    assert inode_bound(limit_bytes) == inodes
