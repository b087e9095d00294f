"""Contexts that stay in memory: bounded, and never older than what is on disk."""

from dataclasses import dataclass

from fluytd.builds.kept import MAX_KEPT, MAX_KEPT_BYTES, KeptTrees


@dataclass(frozen=True)
class _Tree:
    index_bytes: int = 1


def test_a_context_is_found_again_until_it_changes() -> None:
    kept: KeptTrees[_Tree] = KeptTrees()
    tree = _Tree()
    kept.put("a", tree, kept.changes)
    assert kept.get("a") is tree
    kept.drop("a")
    assert kept.get("a") is None


def test_what_was_read_before_a_change_is_not_kept() -> None:
    kept: KeptTrees[_Tree] = KeptTrees()
    before = kept.changes
    after = kept.drop("a")
    kept.put("a", _Tree(), before)
    assert kept.get("a") is None
    kept.put("a", _Tree(), after)
    assert kept.get("a") is not None


def test_those_used_longest_ago_go_beyond_either_bound() -> None:
    kept: KeptTrees[_Tree] = KeptTrees()
    for number in range(MAX_KEPT):
        kept.put(str(number), _Tree(), kept.changes)
    kept.get("0")
    kept.put("one more", _Tree(), kept.changes)
    assert kept.get("0") is not None
    assert kept.get("1") is None
    kept.put("large", _Tree(MAX_KEPT_BYTES), kept.changes)
    assert kept.get("large") is not None
    assert kept.get("0") is None
    kept.put("too large", _Tree(MAX_KEPT_BYTES + 1), kept.changes)
    assert kept.get("too large") is None
    assert kept.get("large") is not None
    kept.clear()
    assert kept.get("large") is None
