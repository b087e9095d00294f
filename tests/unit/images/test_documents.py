"""Documents that others wrote: what is read, and what is refused because two readers could see two things in it."""

import hashlib
import json

import pytest

from fluytd.errors import DigestInvalid, EngineError, FieldInvalid, LimitExceeded, ManifestInvalid
from fluytd.ids import Digest
from fluytd.images import config as configs
from fluytd.images import manifests
from fluytd.images.config import chain_ids, parse_time
from fluytd.images.documents import MAX_TEXT_CHARS, Fields, read_json, refuse_manifest
from fluytd.images.imports import MAX_CHANGES, run_config
from fluytd.images.manifests import Index, Manifest
from tests.support import images, tarball
from tests.support.images import Json

REFUSE = refuse_manifest("it")
D = "sha256:" + "a" * 64
LAYER = images.layer(tarball.file("f", "x"))
IMAGE = images.image([LAYER])


def fields(**values: object) -> Fields:
    return Fields(dict(values), "here", REFUSE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b'{"a":1,"a":1}',
        b'{"x":{"a":1,"a":2}}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":"\\ud800"}',
        b"[" * 100_000,
        b"{'a':1}",
    ],
)
def test_what_json_leaves_open_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        read_json(data, REFUSE)


def test_r01_a_key_that_other_readers_take_for_a_known_one_is_refused() -> None:
    # The long s and the sign of kelvin are letters of ASCII to readers in Go.
    for key in ("Layers", "LAYERS", "layer\u017f", "LAYER\u017f", "manife\u017ft\u017f"):
        document = json.dumps(json.loads(IMAGE.manifest) | {key: []}, ensure_ascii=False).encode()
        with pytest.raises(ManifestInvalid, match="is spelled"):
            manifests.parse(document, images.OCI_MANIFEST, "it")
    with pytest.raises(ManifestInvalid, match="is spelled key"):
        fields(**{"\u212aey": 1}).check_known_spelling("key")
    for key in ("layer", "layer\u015b", "layers\u017f"):
        document = json.dumps(json.loads(IMAGE.manifest) | {key: []}, ensure_ascii=False).encode()
        assert isinstance(manifests.parse(document, images.OCI_MANIFEST, "it"), Manifest)


def test_members_are_read_with_their_type_and_null_is_absent() -> None:
    read = fields(text="t", none=None, flag=True, number=3, list=["a"], map={"a": None, "b": "c"}, object={"x": {}})
    assert (read.text("text"), read.text("none"), read.text("absent", "d")) == ("t", "", "d")
    assert (read.flag("flag"), read.flag("none"), read.number("number")) == (True, False, 3)
    assert (read.texts("list"), read.text_map("map")) == (("a",), {"a": "", "b": "c"})
    assert (read.has("none"), "none" in read.names, read.is_text("number")) == (False, True, False)
    assert read.object("absent").names == frozenset()
    assert read.object("object").key_set("x") == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 1),
        ("text", "a\0b"),
        ("texts", "a"),
        ("texts", ["a", 1]),
        ("number", True),
        ("number", -1),
        ("number", 1.0),
        ("number", 2**63),
        ("number", None),
        ("flag", "true"),
        ("text_map", {"a": 1}),
        ("text_map", []),
        ("key_set", ["a"]),
        ("object", []),
        ("object", "x"),
        ("objects", [1]),
        ("objects", {}),
    ],
)
def test_members_of_another_type_are_refused_by_their_path(name: str, value: object) -> None:
    if name == "object" and not value:
        value = [1]  # an empty one counts as absent
    with pytest.raises(ManifestInvalid) as refused:
        getattr(fields(**{name: value}), name)(name)
    assert f"here.{name}" in refused.value.metadata["rule"]


def test_a_text_beyond_its_limit_names_it() -> None:
    with pytest.raises(LimitExceeded) as refused:
        fields(a="x" * (MAX_TEXT_CHARS + 1)).text("a")
    assert refused.value.metadata["limit"] == "MAX_TEXT_CHARS"


def test_digests_of_both_algorithms() -> None:
    strong = "sha512:" + hashlib.sha512(b"x").hexdigest()
    assert fields(d=strong).digest("d") == Digest.of(b"x", "sha512") == strong
    assert (Digest(strong).algorithm, len(Digest(strong).hex)) == ("sha512", 128)
    wrong: tuple[object, ...] = ("sha512:" + "a" * 64, "sha256:" + "a" * 128, "sha384:" + "a" * 96, None, 7, {})
    for bad in wrong:
        with pytest.raises(DigestInvalid):
            fields(d=bad).digest("d")


def changed(**values: object) -> bytes:
    found = json.loads(IMAGE.manifest) | values
    return images.dump({key: value for key, value in found.items() if value != "absent"})


def parse(data: bytes, media_type: str = "") -> Manifest | Index:
    return manifests.parse(data, media_type, "subject")


@pytest.mark.parametrize("said", ["", images.OCI_MANIFEST, f"{images.OCI_MANIFEST}; charset=utf-8", "text/plain"])
def test_a_manifest_is_what_it_calls_itself(said: str) -> None:
    found = parse(IMAGE.manifest, said)
    assert isinstance(found, Manifest)
    assert (found.config.digest, found.layers[0].digest) == (IMAGE.config_digest, LAYER.digest)


def test_without_a_type_of_its_own_the_said_one_or_the_content_counts() -> None:
    assert isinstance(parse(changed(mediaType="absent")), Manifest)
    assert parse(changed(mediaType="absent"), images.DOCKER_MANIFEST).media_type == images.DOCKER_MANIFEST
    index = images.dump({"schemaVersion": 2, "manifests": []})
    assert isinstance(parse(index), Index)
    with pytest.raises(ManifestInvalid):
        parse(index, images.OCI_MANIFEST)


@pytest.mark.parametrize(
    "values",
    [
        {"manifests": []},
        {"schemaVersion": 1},
        {"schemaVersion": "absent"},
        {"mediaType": images.OCI_INDEX},
        {"mediaType": "text/plain"},
        {"config": "absent"},
        {"config": {"mediaType": "text/plain", "digest": D, "size": 1}},
        {"config": {"digest": D, "size": 1}},
        {"layers": "absent"},
        {"layers": {}},
        {"layers": [{"mediaType": "text/plain", "digest": D, "size": 1}]},
        {"layers": [{"mediaType": images.OCI_LAYER, "digest": D}]},
        {"MediaType": images.OCI_MANIFEST},
        {"LAYERS": []},
    ],
)
def test_r01_r02_a_manifest_that_could_be_two_things_is_refused(values: Json) -> None:
    with pytest.raises(ManifestInvalid) as refused:
        parse(changed(**values))
    assert refused.value.metadata["subject"] == "subject"


@pytest.mark.parametrize("layers", [[], None])
def test_a_manifest_may_have_no_layers(layers: list[object] | None) -> None:
    found = parse(changed(layers=layers))
    assert isinstance(found, Manifest)
    assert found.layers == ()


def test_counts_of_a_manifest_and_an_index_meet_their_limits() -> None:
    for data, limit in (
        (changed(layers=[LAYER.descriptor()] * 501), "MAX_LAYERS"),
        (images.dump({"schemaVersion": 2, "manifests": [IMAGE.descriptor()] * 1001}), "MAX_INDEX_ENTRIES"),
        (b" " * (4 * 1024 * 1024 + 1), "MAX_MANIFEST_BYTES"),
    ):
        with pytest.raises(LimitExceeded) as refused:
            parse(data)
        assert refused.value.metadata["limit"] == limit


def test_r12_entries_about_images_are_told_from_images() -> None:
    marked = IMAGE.descriptor() | {"annotations": {"vnd.docker.reference.type": "attestation-manifest"}}
    unknown = IMAGE.descriptor() | {"platform": {"os": "unknown", "architecture": "unknown"}}
    index = parse(images.index([IMAGE], descriptors=[marked, unknown, IMAGE.descriptor()]).manifest)
    assert isinstance(index, Index)
    assert [entry.is_attestation for entry in index.entries] == [True, True, False]


def config(**values: object) -> bytes:
    return images.dump(images.config_json([D]) | values)


def test_a_config_as_old_tools_wrote_it_is_read() -> None:
    run: Json = {
        "Cmd": "one text",
        "Entrypoint": None,
        "Env": None,
        "Volumes": {},
        "Labels": None,
        "ExposedPorts": {"1": {}},
    }
    found = configs.parse(config(config=run, created=None, history=None), 1, "it")
    assert (found.cmd, found.entrypoint, found.env, found.exposed_ports) == (("one text",), (), (), ("1",))
    assert (found.build_time_unix_nanos, found.history) == (None, ())
    assert configs.parse(config(config=None), 1, "it").cmd == ()


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ({}, 0),
        ({}, 2),
        ({"rootfs": None}, 1),
        ({"rootfs": {"diff_ids": [D, 1]}}, 2),
        ({"os": ""}, 1),
        ({"architecture": None}, 1),
        ({"config": []}, 0),
        ({"config": {"Env": [1]}}, 1),
        ({"ROOTFS": {}}, 1),
        ({"config": {"Healthcheck": {"Interval": -1}}}, 1),
    ],
)
def test_r14_a_config_that_does_not_fit_is_refused(values: Json, count: int) -> None:
    with pytest.raises(EngineError) as refused:
        configs.parse(config(**values), count, "it")
    assert refused.value.reason in {"MANIFEST_INVALID", "DIGEST_INVALID"}


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:00.5Z", 500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59Z", -1_000_000_000),
        ("2001-09-09T01:46:40.1234567891234Z", 1_000_000_000_123_456_789),
        ("0001-01-01T00:00:00Z", None),
        ("", None),
        ("yesterday", None),
        ("2001-13-09T01:46:40Z", None),
        ("2001-09-09T01:46:40+99:99", None),
        ("\u0662001-09-09T01:46:40Z", None),
    ],
)
def test_times_of_a_config(text: str, nanos: int | None) -> None:
    assert parse_time(text) == nanos


def test_a_chain_id_stands_for_the_whole_stack() -> None:
    first, second = Digest("sha256:" + "1" * 64), Digest("sha256:" + "2" * 64)
    one, two = chain_ids([first, second])
    assert (one, two) == (first, Digest.of(f"{first} {second}".encode()))
    assert chain_ids([]) == ()


@pytest.mark.parametrize(
    ("changes", "run"),
    [
        ([], {}),
        (["CMD ls -l"], {"Cmd": ["/bin/sh", "-c", "ls -l"]}),
        (['cmd ["ls"]', "CMD []"], {"Cmd": []}),
        (["ENV a=1 b=2", "ENV a=3"], {"Env": ["a=3", "b=2"]}),
        (["ENV a b c"], {"Env": ["a=b c"]}),
        (["ENV a='b c' d="], {"Env": ["a=b c", "d="]}),
        (["LABEL a=1", "LABEL a=2 b=3"], {"Labels": {"a": "2", "b": "3"}}),
        (
            ["EXPOSE 80 443/tcp", "VOLUME /a /b"],
            {"ExposedPorts": {"80": {}, "443/tcp": {}}, "Volumes": {"/a": {}, "/b": {}}},
        ),
        (["USER a", "  user   b  "], {"User": "b"}),
    ],
)
def test_changes_of_an_import(changes: list[str], run: Json) -> None:
    assert run_config(changes) == run


@pytest.mark.parametrize("change", ["", "RUN x", "CMD", "CMD [", "CMD [1]", 'VOLUME {"a":1}[', "ENV 'a", "LABEL a=1 b"])
def test_a_change_that_is_none_names_its_field(change: str) -> None:
    if change.startswith("VOLUME"):
        assert run_config([change])  # a path may look like anything that does not begin as a list
        return
    with pytest.raises(FieldInvalid) as refused:
        run_config(["USER a", change])
    assert refused.value.metadata["field"] == "options.changes[1]"


def test_too_many_changes_name_their_limit() -> None:
    with pytest.raises(FieldInvalid, match="MAX_CHANGES"):
        run_config(["USER a"] * (MAX_CHANGES + 1))
