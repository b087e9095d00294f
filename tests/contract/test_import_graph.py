"""Who may import whom, read off the import statements. Source: the rules in ARCHITECTURE.md."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SERVER = REPOSITORY / "server"

#: Files named for a technology: the only ones that may import `_core`.
TECHNOLOGY = frozenset(
    {
        "store",
        "registry",
        "supervisor",
        "directories",
        "reader",
        "probe",
        "overlay",
        "archives",
        "bridges",
        "plugins",
        "quotas",
    }
)
#: Modules that reach the outside world, a clock or chance.
IMPURE = frozenset({"asyncio", "os", "random", "secrets", "shutil", "socket", "sqlite3", "subprocess", "time"})
#: Files that only compute.
PURE_NAMES = frozenset(
    {
        "graph",
        "log_fields",
        "model",
        "privileges",
        "process_spec",
        "reconcile",
        "resolve",
        "resource_limits",
        "root_mounts",
        "signals",
        "spec",
        "start_facts",
        "start_spec",
        "transitions",
        "units",
    }
)
TRANSPORT = ("grpc", "grpc_health", "grpc_reflection", "grpc_status", "google", "fluyt")
COMPOSITION_ROOT = "fluytd.bootstrap"


@cache
def graph() -> dict[str, frozenset[str]]:
    """Every module of the daemon and what it imports, `from a import b` as both `a` and `a.b`."""
    return {_name(path): frozenset(_imports(path)) for path in sorted((SERVER / "fluytd").rglob("*.py"))}


def _name(path: Path) -> str:
    parts = path.relative_to(SERVER).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_below(name: str, *packages: str) -> bool:
    """Whether a module is one of these packages or stands in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def offenders(modules: Iterator[str], *packages: str) -> list[tuple[str, str]]:
    """(module, what it imports) for imports from these packages."""
    return [(name, target) for name in modules for target in sorted(graph()[name]) if is_below(target, *packages)]


def last(name: str) -> str:
    """The file's own name."""
    return name.rpartition(".")[2]


def test_only_the_edge_knows_the_transport() -> None:
    assert offenders((name for name in graph() if not is_below(name, "fluytd.api")), *TRANSPORT) == []


def test_nothing_but_the_composition_root_imports_the_edge() -> None:
    others = (name for name in graph() if not is_below(name, COMPOSITION_ROOT) and not is_below(name, "fluytd.api"))
    assert offenders(others, "fluytd.api") == []


def test_the_core_is_imported_by_files_named_for_a_technology_only() -> None:
    others = (name for name in graph() if last(name) not in TECHNOLOGY and not is_below(name, COMPOSITION_ROOT))
    assert offenders(others, "fluytd._core") == []


def test_only_the_composition_root_names_backends() -> None:
    named = [
        (name, target)
        for name in graph()
        if not is_below(name, COMPOSITION_ROOT)
        for target in graph()[name]
        if target in graph() and last(target) in TECHNOLOGY and target.rpartition(".")[0] != "fluytd"
        if last(name) not in TECHNOLOGY
    ]
    assert named == []


def test_the_bus_of_systemd_is_an_extra_that_one_file_knows() -> None:
    backend = "fluytd.containers.systemd"
    assert offenders((name for name in graph() if name != backend), "jeepney") == []
    assert {name for name in graph() if backend in graph()[name]} == {"fluytd.bootstrap.containers"}
    # Who has the other driver does not pay for it.
    code = "import sys, fluytd.bootstrap; sys.exit('jeepney' in sys.modules)"
    paths = [str(SERVER), str(REPOSITORY / "clients" / "python")]
    assert (
        subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(paths)}, check=False).returncode == 0
    )


def test_pure_files_do_no_input_or_output() -> None:
    pure = [name for name in graph() if last(name) in PURE_NAMES]
    assert len(pure) > 5
    assert offenders(iter(pure), *IMPURE, "fluytd._core", "fluytd.workers", "fluytd.state", "fluytd.failpoints") == []


def test_the_dockerfile_language_is_pure() -> None:
    language = [name for name in graph() if is_below(name, "fluytd.builds.dockerfile")]
    assert len(language) > 20
    assert offenders(iter(language), *IMPURE, "fluytd._core", "fluytd.workers", "fluytd.state") == []


def test_models_import_no_services() -> None:
    models = (name for name in graph() if last(name) in PURE_NAMES)
    assert [(name, t) for name in models for t in graph()[name] if last(t) == "service" and t in graph()] == []


def test_rpc_bodies_do_not_import_each_other() -> None:
    bodies = {name for name in graph() if is_below(name, "fluytd.api") and name.endswith("_service")}
    assert bodies
    assert [(name, target) for name in bodies for target in graph()[name] if target in bodies] == []


def test_conversions_know_neither_grpc_nor_rpc_bodies() -> None:
    conversions = [name for name in graph() if is_below(name, "fluytd.api.convert")]
    assert offenders(iter(conversions), "grpc", "fluytd._core", *IMPURE) == []
    assert [(n, t) for n in conversions for t in graph()[n] if t.endswith("_service") and t in graph()] == []


def test_the_error_catalogue_and_ids_stand_below_everything() -> None:
    allowed = ("fluytd.errors", "fluytd.ids")
    for name in graph():
        if is_below(name, *allowed):
            own = [target for target in graph()[name] if is_below(target, "fluytd")]
            assert all(is_below(target, *allowed) for target in own), name


def test_every_file_can_be_read_at_one_sitting() -> None:
    for root in (SERVER, REPOSITORY / "clients" / "python", REPOSITORY / "tests"):
        for path in root.rglob("*.py"):
            if not is_generated(path):
                assert len(path.read_text().splitlines()) <= 600, path


def is_generated(path: Path) -> bool:
    """Whether protoc wrote it, or it belongs to a virtual environment or a build."""
    return "_pb2" in path.name or bool({"build", ".build", "node_modules"} & set(path.parts))


def rust_dependencies() -> dict[str, set[str]]:
    """Each crate of the core and the crates of the core that it depends on (tests left out), by folder name."""
    paths = REPOSITORY.glob("rust_core/*/Cargo.toml")
    manifests = {path.parent.name: tomllib.loads(path.read_text()) for path in paths}
    # Dependencies go by the workspace's names for the crates, which are those of the folders.
    return {
        folder: {name for name in manifest.get("dependencies", {}) if name in manifests}
        for folder, manifest in manifests.items()
    }


def test_rust_crates_depend_downwards_only() -> None:
    below = {"sys", "errors"}
    allowed: dict[str, set[str]] = {
        "errors": set(),
        "sys": {"errors"},
        "layer": {"content", "erofs", "mount"},
        "registry": {"content"},
        "host": {"mount", "cgroup"},
        "process": {"mount", "cgroup"},
        "volume": {"layer", "mount"},
        "build": {"layer", "mount", "process"},
        "ingest": {"content", "layer", "registry"},
        "control": {"process", "cgroup"},
        "supervisor": {"process", "control", "logs"},
    }
    crates = rust_dependencies()
    assert {"errors", "sys", "process", "supervisor", "bindings"} <= set(crates)
    assert "mount" in crates["process"], "the crates' names were not understood"
    for crate, needs in crates.items():
        if crate != "bindings":
            assert needs - below <= allowed.get(crate, set()), f"{crate} depends on {sorted(needs - below)}"
            assert "bindings" not in needs


def test_only_bindings_know_python() -> None:
    for path in REPOSITORY.glob("rust_core/*/Cargo.toml"):
        names = tomllib.loads(path.read_text()).get("dependencies", {})
        assert path.parent.name == "bindings" or not any(name.startswith("pyo3") for name in names), path
