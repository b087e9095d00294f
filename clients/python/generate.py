"""Regenerates the Python messages and stubs of fluyt.v1 and the frozen descriptor from proto/.

Run it from anywhere, with grpcio-tools and mypy-protobuf installed: `python clients/python/generate.py`. A change that
breaks clients is refused unless `--allow-breaking` is given. tests/contract fails while what is committed differs from
what it would write.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2, text_format
from grpc_tools import protoc

sys.path.insert(0, str(Path(__file__).parent))
import breaking

REPOSITORY = Path(__file__).resolve().parents[2]
PROTO_ROOT = REPOSITORY / "proto"
PYTHON_ROOT = REPOSITORY / "clients" / "python"
#: The frozen API.
FROZEN = PROTO_ROOT / "descriptor.txtpb"
#: The generated package, below the root of the Python sources.
PACKAGE = Path("fluyt") / "v1"
WELL_KNOWN = Path(grpc_tools.__file__).parent / "_proto"
MARKER = '"""Generated from proto/fluyt/v1 by clients/python/generate.py; not to be edited."""\n'


def list_protos() -> list[str]:
    """Every .proto file of the public API, relative to proto/, sorted."""
    return sorted(str(path.relative_to(PROTO_ROOT)) for path in PROTO_ROOT.glob("fluyt/**/*.proto"))


def run_protoc(*options: str) -> None:
    """protoc ran over all files; raises SystemExit with its status if it refused one."""
    # The plugins lie beside this interpreter, whether or not its environment is activated.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    arguments = ["protoc", f"-I{PROTO_ROOT}", f"-I{WELL_KNOWN}", *options, *list_protos()]
    if status := protoc.main(arguments):
        raise SystemExit(status)


def build_descriptor_set() -> descriptor_pb2.FileDescriptorSet:
    """The API with comments (source info) and without imported files of other packages."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "set.binpb"
        run_protoc(f"--descriptor_set_out={path}", "--include_source_info")
        return descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes())


def freeze(descriptor_set: descriptor_pb2.FileDescriptorSet) -> str:
    """The text form that stands in proto/descriptor.txtpb: all but comments and positions."""
    bare = descriptor_pb2.FileDescriptorSet()
    bare.CopyFrom(descriptor_set)
    for file in bare.file:
        file.ClearField("source_code_info")
    header = "# The public API, frozen: written by clients/python/generate.py. A difference is a change of the API.\n"
    return header + text_format.MessageToString(bare)


def generate(python_root: Path) -> None:
    """`python_root`/fluyt/v1 holds exactly the generated modules; nothing there is touched if protoc refuses a file."""
    with tempfile.TemporaryDirectory() as scratch:
        run_protoc(
            f"--python_out={scratch}",
            f"--mypy_out=quiet:{scratch}",
            f"--grpc_python_out={scratch}",
            f"--mypy_grpc_out=quiet,generate_concrete_servicer_stubs:{scratch}",
        )
        made = Path(scratch) / PACKAGE
        for directory in (made, made / "types"):
            (directory / "__init__.py").write_text(MARKER)
        for path in sorted(made.glob("**/*_pb2_grpc.py*")):
            if path.name.removesuffix("i").removesuffix("_pb2_grpc.py") not in SERVICE_FILES or path.parent != made:
                path.unlink()
        package = python_root / PACKAGE
        if package.exists():
            shutil.rmtree(package)
        shutil.copytree(made, package)


#: Only these files declare a service; protoc's plugin writes an empty module for each other one.
SERVICE_FILES = frozenset(
    path.stem for path in PROTO_ROOT.glob(str(PACKAGE / "*.proto")) if "\nservice " in path.read_text()
)


def frozen_set() -> descriptor_pb2.FileDescriptorSet:
    """The API as it is frozen in the repository."""
    return text_format.Parse(FROZEN.read_text(), descriptor_pb2.FileDescriptorSet())


def main() -> int:
    """Writes the modules and the frozen descriptor; 0 when done, 1 if that would break clients."""
    parser = argparse.ArgumentParser(description="Regenerate fluyt.v1 for Python from proto/.")
    parser.add_argument("--allow-breaking", action="store_true", help="freeze a change that breaks clients")
    allow_breaking = parser.parse_args().allow_breaking
    descriptor_set = build_descriptor_set()
    broken = breaking.compare(frozen_set(), descriptor_set)
    for sentence in broken:
        sys.stderr.write(f"breaking: {sentence}\n")
    if broken and not allow_breaking:
        sys.stderr.write("nothing was written; --allow-breaking writes it all the same\n")
        return 1
    generate(PYTHON_ROOT)
    FROZEN.write_text(freeze(descriptor_set))
    return 0


if __name__ == "__main__":
    sys.exit(main())
