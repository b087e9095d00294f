"""COPY, ADD and WORKDIR: what they take along, and the layer that is drawn up of it."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from fluytd import failpoints
from fluytd.builds import graph
from fluytd.builds.dockerfile.chmod import apply_mode
from fluytd.builds.dockerfile.origins import FileSource, GitSource, HttpSource, InlineSource, PathSource
from fluytd.builds.dockerfile.steps import CopyStep, WorkdirStep
from fluytd.builds.ports import CopyTarget, Draft, Selection, Wanted
from fluytd.images.ports import StoredLayer

if TYPE_CHECKING:
    from fluytd.builds.solver import Outcome, Solver

Make = Callable[[], Awaitable[StoredLayer | None]]
_MODES: Final = 0o10000
_INLINE_MODE: Final = 0o644


async def prepared(solver: "Solver", step: CopyStep, outcome: "Outcome") -> tuple[str, Make]:
    """The key of a COPY or ADD, and what carries it out.

    Raises BUILD_SOURCE_NOT_FOUND, BUILD_COPY_REJECTED, LIMIT_EXCEEDED, IO_FAILED, CANCELLED, and what fetching a
    repository or URL raises.
    """
    trees, cancel = solver.shop.trees, solver.job.handle.cancel_token
    selections: list[Selection] = []
    digests: list[str] = []
    for source in step.sources:
        selection, identity = await _select(solver, step, source)
        selections.append(selection)
        digests.append(identity or await trees.digest(selection, cancel))
    key = trees.key_of(graph.copy_parts(step, outcome.chain_id, digests))
    return key, lambda: _copy(solver, step, outcome, selections)


async def _select(solver: "Solver", step: CopyStep, source: FileSource) -> tuple[Selection, str]:
    """What is copied, and what stands for it in the key; empty: its files do."""
    trees, cancel = solver.shop.trees, solver.job.handle.cancel_token
    match source:
        case PathSource():
            tree = await solver.tree_of(step.origin)
            wanted = Wanted(source.path, source.is_required, source.parents_pattern, step.exclude)
            return await trees.select(tree, wanted, cancel), ""
        case InlineSource():
            files = [(source.name, source.content.encode("utf-8", "surrogateescape"), _INLINE_MODE)]
            tree = trees.of_files(files, "the here-document")
            return await trees.select(tree, Wanted(graph.literal(source.name)), cancel), ""
        case HttpSource():
            fetched = await solver.job.sources.get(source)
            return await trees.select(fetched.tree, Wanted(graph.literal(source.filename)), cancel), ""
        case GitSource():
            fetched = await solver.job.sources.get(source)
            wanted = Wanted("/", excluded=step.exclude)
            return await trees.select(fetched.tree, wanted, cancel), fetched.identity


async def _copy(
    solver: "Solver", step: CopyStep, outcome: "Outcome", selections: Sequence[Selection]
) -> StoredLayer | None:
    trees, cancel = solver.shop.trees, solver.job.handle.cancel_token
    base = await solver.tree_of_layers(outcome.layers, "the stage")
    owner = await trees.owner_of(base, step.chown) if step.chown else None
    below = trees.of_files([], "nothing") if step.is_linked else base
    draft = trees.draft(below, solver.directory_time_seconds())
    mode = _mode(step.chmod)
    is_several = sum(selection.match_count for selection in selections) > 1
    for selection, source in zip(selections, step.sources, strict=True):
        unpacks = {PathSource: step.unpacks_local, HttpSource: step.unpacks_remote}.get(type(source), False)
        target = CopyTarget(step.destination, owner, mode, is_several, unpacks)
        await trees.copy(draft, selection, target, cancel)
    return await _stored(solver, draft)


def _mode(text: str) -> tuple[int, ...] | None:
    if not text:
        return None
    if text.isdecimal():
        return (int(text, 8),)
    return tuple(
        apply_mode(text, mode, is_directory=is_directory) for is_directory in (False, True) for mode in range(_MODES)
    )


async def workdir(solver: "Solver", step: WorkdirStep, outcome: "Outcome") -> tuple[str, Make]:
    """The key of a WORKDIR, and what carries it out. Raises BUILD_COPY_REJECTED, USER_INVALID, IO_FAILED."""
    key = solver.shop.trees.key_of(graph.workdir_parts(step, outcome.chain_id))

    async def make() -> StoredLayer | None:
        trees = solver.shop.trees
        base = await solver.tree_of_layers(outcome.layers, "the stage")
        draft = trees.draft(base, solver.directory_time_seconds())
        await trees.make_directory(draft, step.path, step.user)
        return await _stored(solver, draft)

    return key, make


async def _stored(solver: "Solver", draft: Draft) -> StoredLayer | None:
    trees, job = solver.shop.trees, solver.job
    if await trees.is_empty(draft):
        return None
    failpoints.hit("build.layer.store")
    counters = solver.shop.layering.new_counters()
    return await trees.store(draft, counters, job.handle.cancel_token, job.request.packing.compression)
