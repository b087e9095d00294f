"""`unsafe` stands where it may, is counted in rust_core/SAFETY.md, and each block says why it is sound."""

import re
import tomllib
from collections import Counter
from pathlib import Path

from tests.support.engine import REPOSITORY

CRATES = [*REPOSITORY.glob("rust_core/*/Cargo.toml"), REPOSITORY / "clients" / "cli" / "Cargo.toml"]
#: Comments of a line and texts, in which the word says nothing.
SAID = re.compile(r'//.*|"(?:\\.|[^"\\])*"')
WORD = re.compile(r"\bunsafe\b")
BLOCK = re.compile(r"\bunsafe\s*\{")
#: How far above a block its reason may begin: a comment of a few lines, and the beginning of the statement.
LINES_ABOVE = 6
ROW = re.compile(r"^\| `([a-z_/.]+)` \| (\d+) \|", re.MULTILINE)


def sources() -> dict[str, list[str]]:
    """The lines of each Rust file, by its path in the checkout."""
    paths = [path for crate in CRATES for path in crate.parent.rglob("*.rs")]
    return {str(path.relative_to(REPOSITORY)): path.read_text().splitlines() for path in paths}


def counted() -> Counter[str]:
    """How often each file says `unsafe`."""
    found = {name: sum(len(WORD.findall(SAID.sub("", line))) for line in lines) for name, lines in sources().items()}
    return Counter({name: count for name, count in found.items() if count})


def test_every_use_is_counted_where_it_is_reviewed() -> None:
    table = (REPOSITORY / "rust_core" / "SAFETY.md").read_text()
    rows = {f"rust_core/{name}": int(count) for name, count in ROW.findall(table)}
    assert rows == dict(counted())
    assert f"{sum(rows.values())} in all" in table


def test_only_the_crates_for_it_have_any() -> None:
    assert {name.split("/")[1] for name in counted()} == {"sys", "process"}
    allowed = [name for name, lines in sources().items() if any("allow(unsafe_code)" in line for line in lines)]
    assert {name.split("/")[1] for name in allowed} == {"sys", "process"}


def test_every_block_says_why_it_is_sound() -> None:
    silent = []
    for name, lines in sources().items():
        for number, line in enumerate(lines):
            above = lines[max(0, number - LINES_ABOVE) : number + 1]
            if BLOCK.search(SAID.sub("", line)) and not any("SAFETY: " in said for said in above):
                silent.append(f"{name}:{number + 1}")
    assert silent == []


def test_the_compiler_refuses_the_rest() -> None:
    lints = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["lints"]
    assert lints["rust"]["unsafe_code"] == "deny"
    assert lints["clippy"]["undocumented_unsafe_blocks"] == "deny"
    assert [crate for crate in CRATES if tomllib.loads(Path(crate).read_text())["lints"] != {"workspace": True}] == []
