"""COPY and ADD. Source: Docker's Dockerfile reference; BuildKit parseSourcesAndDest."""

from fluytd.builds.dockerfile.fields import blank_words, json_words
from fluytd.builds.dockerfile.heredocs import find_heredoc
from fluytd.builds.dockerfile.instructions.entry import Entry
from fluytd.builds.dockerfile.mistakes import Mistake
from fluytd.builds.dockerfile.model import Add, Copy, Heredoc


def parse_copy(entry: Entry) -> Copy:
    """COPY [flags] SOURCE... DESTINATION in either form."""
    paths = _paths(entry)
    flags = entry.flags(
        chown="text", chmod="text", link="bool", exclude="texts", parents="bool", from_="text"
    )  # fmt: skip
    sources, heredocs, destination = _split(entry, paths)
    return Copy(
        **entry.common,
        sources=sources,
        heredocs=heredocs,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        is_linked=bool(flags.bool("link")),
        exclude=flags.texts("exclude"),
        from_=flags.text("from"),
        keeps_parents=bool(flags.bool("parents")),
    )


def parse_add(entry: Entry) -> Add:
    """ADD [flags] SOURCE... DESTINATION in either form."""
    paths = _paths(entry)
    flags = entry.flags(
        chown="text", chmod="text", link="bool", exclude="texts", checksum="text", keep_git_dir="bool", unpack="bool"
    )  # fmt: skip
    sources, heredocs, destination = _split(entry, paths)
    return Add(
        **entry.common,
        sources=sources,
        heredocs=heredocs,
        destination=destination,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        is_linked=bool(flags.bool("link")),
        exclude=flags.texts("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.bool("keep-git-dir"),
        unpack=flags.bool("unpack"),
    )


def _paths(entry: Entry) -> tuple[str, ...]:
    words = json_words(entry.rest)
    paths = tuple(blank_words(entry.rest)) if words is None else words
    if len(paths) < 2:
        rule = f"{entry.name} has no destination" if paths else f"{entry.name} has no argument"
        raise Mistake(rule, f"write {entry.name} SOURCE... DESTINATION", 0)
    return paths


def _split(entry: Entry, paths: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    """Paths, here-documents and the destination. In JSON form, and within quotes, `<<` begins nothing."""
    *sources, destination = paths
    if find_heredoc(destination) is not None:
        raise Mistake(
            f"the destination of {entry.name} is a here-document", "end the line with a path for the file", destination
        )
    bodies = {heredoc.name: heredoc for heredoc in entry.heredocs}
    files: list[Heredoc] = []
    others: list[str] = []
    for source in sources:
        announced = find_heredoc(source) if bodies else None
        if announced is None or announced.name not in bodies:
            others.append(source)
        else:
            files.append(bodies[announced.name])
    if len(files) != len(entry.heredocs):
        raise Mistake(
            f"a here-document of {entry.name} has blanks in its delimiter", "write it as one word: <<EOF", "<<"
        )
    for file in files:
        if "/" in file.name or file.name in {".", ".."}:
            raise Mistake(
                f"the here-document {file.name!r} cannot name a file", "use a delimiter without '/'", file.name
            )
    return tuple(others), tuple(files), destination
