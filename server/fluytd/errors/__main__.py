"""Prints docs/errors.md from the catalogue: `python -m fluytd.errors > docs/errors.md`."""

import sys

from fluytd.errors import EngineError, catalogue

_HEAD = """\
# Errors

<!-- Made by `python -m fluytd.errors > docs/errors.md` from server/fluytd/errors; do not edit. -->

Every failed call ends with a google.rpc.Status that carries one ErrorInfo: `domain` is `fluyt`, `reason` is one of
those below, and `metadata` holds every value that the message shows.

| reason | code | metadata | meaning |
|---|---|---|---|
"""


def render() -> str:
    """The whole page: a table of all reasons, then one section a reason with message and next step."""
    leaves = catalogue()
    rows = [
        f"| [{reason}](#{reason.lower()}) | {leaf.code.name} | {_keys(leaf)} | {_doc(leaf)} |"
        for reason, leaf in leaves.items()
    ]
    sections = [
        f"## {reason}\n\n{_doc(leaf)}\n\n- Code: {leaf.code.name}\n- Metadata: {_keys(leaf)}\n"
        f"- Message: {leaf.text}\n- What to do: {leaf.next_step}\n"
        for reason, leaf in leaves.items()
    ]
    return _HEAD + "\n".join(rows) + "\n\n" + "\n".join(sections)


def _keys(leaf: type[EngineError]) -> str:
    return ", ".join(f"`{key}`" for key in leaf.keys)


def _doc(leaf: type[EngineError]) -> str:
    return (leaf.__doc__ or "").strip()


if __name__ == "__main__":
    sys.stdout.write(render())
