"""buf's STANDARD lint on the API's descriptors, without buf. Source: https://buf.build/docs/lint/rules.

The one exception stands in proto/buf.yaml: PACKAGE_VERSION_SUFFIX for fluyt/v1/types.
"""

import re
from collections import Counter
from pathlib import PurePath

from google.protobuf import descriptor_pb2

from tests.contract import descriptors

PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
LOWER_SNAKE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
TYPES_PACKAGE = "fluyt.v1.types"


def upper_snake(pascal: str) -> str:
    """`PullPolicy` -> `PULL_POLICY`, as buf does it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", pascal).upper()


def test_every_proto_file_is_looked_at() -> None:
    found = {str(path.relative_to(descriptors.PROTO_ROOT)) for path in descriptors.PROTO_ROOT.rglob("*.proto")}
    assert {file.name for file in descriptors.files()} == found
    assert len(found) > 20


def test_a_package_is_its_directory_and_versioned() -> None:
    for file in descriptors.files():
        assert file.syntax == "proto3"
        assert file.package == str(PurePath(file.name).parent).replace("/", ".")
        assert LOWER_SNAKE.fullmatch(PurePath(file.name).stem), file.name
        assert file.package == TYPES_PACKAGE or re.fullmatch(r".*\.v[1-9][0-9]*", file.package)


def test_imports_are_used_plain_and_without_cycles() -> None:
    for file in descriptors.files():
        assert not file.public_dependency
        assert not file.weak_dependency
        used = {
            field.type_name
            for element in descriptors.of_kind("field")
            if element.file is file and (field := element.proto).type_name
        }
        used |= {
            value.type_name
            for element in descriptors.of_kind("message")
            if element.file is file
            for entry in element.proto.nested_type
            if entry.options.map_entry
            for value in entry.field
            if value.type_name
        }
        used |= {name for service in file.service for method in service.method for name in (method.input_type,)}
        used |= {name for service in file.service for method in service.method for name in (method.output_type,)}
        for dependency in file.dependency:
            assert used & _declared(dependency), f"{file.name} imports {dependency} in vain"
        if file.package == TYPES_PACKAGE:
            own = ("fluyt/v1/types/", "google/protobuf/")
            assert all(dependency.startswith(own) for dependency in file.dependency), file.name


def _declared(name: str) -> set[str]:
    for file in descriptors.files():
        if file.name == name:
            kinds = ("message", "enum")
            return {f".{e.name}" for kind in kinds for e in descriptors.of_kind(kind) if e.file is file}
    stem = PurePath(name).stem  # google/protobuf/timestamp.proto declares google.protobuf.Timestamp
    return {f".google.protobuf.{stem.capitalize()}"}


def test_names_have_the_case_of_their_kind() -> None:
    rules = {
        "message": PASCAL,
        "enum": PASCAL,
        "service": PASCAL,
        "method": PASCAL,
        "field": LOWER_SNAKE,
        "oneof": LOWER_SNAKE,
        "value": UPPER_SNAKE,
    }
    for element in descriptors.elements():
        assert rules[element.kind].fullmatch(element.proto.name), element.name


def test_enum_values_carry_their_enum_and_begin_with_unspecified() -> None:
    for element in descriptors.of_kind("enum"):
        enum = element.proto
        prefix = upper_snake(enum.name)
        assert not enum.options.allow_alias
        assert enum.value[0].number == 0
        assert enum.value[0].name == f"{prefix}_UNSPECIFIED", element.name
        assert all(value.name.startswith(f"{prefix}_") for value in enum.value), element.name


def test_every_rpc_has_messages_of_its_own() -> None:
    used: Counter[str] = Counter()
    for element in descriptors.of_kind("method"):
        method = element.proto
        package = element.file.package
        assert method.input_type == f".{package}.{method.name}Request", element.name
        assert method.output_type == f".{package}.{method.name}Response", element.name
        used.update((method.input_type, method.output_type))
    assert used
    assert set(used.values()) == {1}


def test_every_service_stands_alone_in_its_file_and_is_called_one() -> None:
    for file in descriptors.files():
        assert len(file.service) <= 1, file.name
        assert all(service.name.endswith("Service") for service in file.service)


def test_no_field_is_required_in_the_proto2_sense() -> None:
    for element in descriptors.of_kind("field"):
        assert element.proto.label != descriptor_pb2.FieldDescriptorProto.LABEL_REQUIRED


def test_no_file_says_where_its_code_goes() -> None:
    # PACKAGE_SAME_*: options of one package agree, here by there being none.
    for file in descriptors.files():
        assert not file.options.ListFields(), file.name
