"""The rules of the API that go beyond lint: contracts in comments, request ids, versions, pages, units, times."""

import re

import pytest

from tests.contract import descriptors
from tests.contract.descriptors import Element

#: Methods whose name begins so change nothing.
READ_VERBS = ("Get", "List", "Watch", "Read", "Resolve", "Wait")
#: Methods that change nothing, or nothing but a session, under another verb.
OTHER_READS = frozenset(
    {
        "AttachContainer",
        "AttachExec",
        "CheckRegistryAuth",
        "CopyFrom",
        "ExportContainer",
        "ExportVolume",
        "SaveBuildCache",
        "SaveImages",
        "SearchRegistry",
        "ServeBuildAgents",
    }
)
BEHAVIOURS = ("REQUIRED", "OPTIONAL", "OUTPUT_ONLY")


def is_mutation(method: Element) -> bool:
    """Whether a method changes something."""
    name = method.proto.name
    is_asked_of_a_driver = (
        ".VolumeDriverService." in method.name
    )  # the engine is the caller; ids make its calls idempotent
    return not name.startswith(READ_VERBS) and name not in OTHER_READS and not is_asked_of_a_driver


def request_of(method: Element) -> list[str]:
    """The field names of a method's request, those of the first message of a stream included."""
    all_messages = descriptors.messages()
    request = all_messages[method.proto.input_type]
    names = [field.name for field in request.field]
    if method.proto.client_streaming:
        first = request.field[0]
        names += [field.name for field in all_messages[first.type_name].field]
    return names


def test_every_element_is_documented() -> None:
    undocumented = [element.name for element in descriptors.elements() if len(element.comment) < 4]
    assert undocumented == []


def test_every_rpc_says_states_idempotency_and_cancel() -> None:
    for method in descriptors.of_kind("method"):
        text = re.sub(r"\s+", " ", method.comment)
        for word in ("State needed:", "State after", "dempoten", "Cancel"):
            assert word in text, f"{method.name} does not say {word}"
        if method.proto.server_streaming:
            assert "stream ends" in text, f"{method.name} does not say how its stream ends"


def test_every_field_says_how_it_behaves() -> None:
    for field in descriptors.of_kind("field"):
        if field.proto.HasField("oneof_index") and not field.proto.proto3_optional:
            continue  # the oneof says it for all its members
        assert field.comment.startswith(BEHAVIOURS), field.name
        if field.comment.startswith("OPTIONAL"):
            assert re.search(r"Default: |Absent: |See `", field.comment), f"{field.name} has no default"
    for oneof in descriptors.of_kind("oneof"):
        assert oneof.comment.startswith(BEHAVIOURS), oneof.name


def test_every_mutation_takes_a_request_id() -> None:
    for method in filter(is_mutation, descriptors.of_kind("method")):
        assert "request_id" in request_of(method), method.name


def test_reads_take_no_request_id() -> None:
    for method in descriptors.of_kind("method"):
        if not is_mutation(method):
            assert "request_id" not in request_of(method), method.name


@pytest.mark.parametrize("verb", ["Start", "Stop", "Kill", "Restart", "Pause", "Resume", "Update", "Rename", "Delete"])
def test_changes_of_versioned_things_can_require_a_version(verb: str) -> None:
    changed = [m for m in descriptors.of_kind("method") if m.proto.name.startswith(verb)]
    assert changed
    for method in changed:
        assert "expected_version" in request_of(method), method.name


def test_every_resource_has_a_version() -> None:
    messages = descriptors.messages()
    for name in ("v1.types.Container", "v1.Image", "v1.Volume", "v1.Network", "v1.ExecSession"):
        assert "version" in [field.name for field in messages[f".fluyt.{name}"].field]


def test_every_list_pages() -> None:
    messages = descriptors.messages()
    for method in descriptors.of_kind("method"):
        if method.proto.name.startswith("List"):
            assert {"page_size", "page_token"} <= set(request_of(method)), method.name
            assert "next_page_token" in [field.name for field in messages[method.proto.output_type].field], method.name


def test_sizes_are_signed_64_bit_and_end_in_their_unit() -> None:
    for field in descriptors.of_kind("field"):
        name, kind = field.proto.name, field.proto.type
        if name.endswith(("_bytes", "_nanos", "_micros")):
            assert kind == field.proto.TYPE_INT64, field.name
        is_number = not field.proto.type_name and kind != field.proto.TYPE_BOOL
        is_unitless = is_number and name.endswith(("_size", "_seconds", "_ms", "_millis", "_len"))
        assert not is_unitless or name == "page_size", field.name
        assert not re.fullmatch(r".*_(at|date|timestamp)", name) or name == "source_date", field.name


def test_times_and_spans_are_the_well_known_types() -> None:
    for field in descriptors.of_kind("field"):
        if field.proto.name.endswith("_time") or field.proto.name == "time":
            assert field.proto.type_name == ".google.protobuf.Timestamp", field.name
        if field.proto.type_name == ".google.protobuf.Timestamp":
            assert field.proto.name.endswith(("time", "source_date")), field.name


def test_states_are_nested_and_output_only() -> None:
    for field in descriptors.of_kind("field"):
        if field.proto.name == "state" and field.proto.type_name:
            assert field.proto.type_name.endswith(".State"), field.name
            assert field.comment.startswith("OUTPUT_ONLY"), field.name


def test_files_are_short_enough_to_read() -> None:
    for path in descriptors.PROTO_ROOT.rglob("*.proto"):
        assert len(path.read_text().splitlines()) <= 600, path
