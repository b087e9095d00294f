"""What is pushed where: plans, mount sources, whole indexes and single manifests, on fakes."""

import json
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fluytd.errors import BlobNotFound, FieldInvalid, ImageNotFound, PlatformUnavailable
from fluytd.gc.leases import Leases
from fluytd.ids import Digest
from fluytd.images import config as configs
from fluytd.images.manifests import Descriptor
from fluytd.images.model import Image, ImageLayer
from fluytd.images.platforms import Platform
from fluytd.images.ports import Destination
from fluytd.images.push import Pusher, mount_sources, plan
from fluytd.images.table import ImageTable, Name
from fluytd.operations.model import LayerPhase, PushProgress
from fluytd.operations.service import OperationHandle
from fluytd.registries.model import Credentials
from tests.support import images, tarball
from tests.support.images import Tagged

USER = Credentials("user", "hunter2")


def stored(tagged: images.Image, target: Tagged | None = None) -> Image:
    """The image as the engine keeps it after a pull of `target`."""
    top = target or tagged
    media_type, data = top.manifests[top.digest]
    config = configs.parse(tagged.config, len(tagged.layers), images.digest_of(tagged.config))
    layers = tuple(
        ImageLayer(
            Descriptor(layer.media_type(), Digest(layer.digest), len(layer.blob)), Digest(layer.diff_id), diff, "l", 1
        )
        for layer, diff in zip(tagged.layers, config.diff_ids, strict=True)
    )
    own_type, own = tagged.manifests[tagged.digest]
    return Image(
        id=Digest(images.digest_of(tagged.config)),
        manifest=Descriptor(own_type, Digest(tagged.digest), len(own)),
        target=Descriptor(media_type, Digest(top.digest), len(data)),
        config_text=tagged.config.decode(),
        config=config,
        layers=layers,
        create_time_unix_nanos=0,
        ways=() if top is tagged else ((Descriptor(media_type, Digest(top.digest), len(data)),),),
    )


def descriptor(tagged: Tagged) -> Descriptor:
    """Of its manifest or index."""
    media_type, data = tagged.manifests[tagged.digest]
    return Descriptor(media_type, Digest(tagged.digest), len(data))


def small(name: str, **values: Any) -> images.Image:
    """An image of one small layer."""
    return images.image([images.layer(tarball.file(name, name.encode()))], **values)


class Content:
    """Blobs in memory."""

    def __init__(self, blobs: dict[str, bytes]) -> None:
        self.blobs = blobs

    async def has(self, digest: str) -> bool:
        return digest in self.blobs

    async def read(self, digest: Digest, max_size_bytes: int) -> bytes:
        assert max_size_bytes
        if digest not in self.blobs:
            raise BlobNotFound(digest=digest)
        return self.blobs[digest]


class Destinations:
    """A registry that remembers."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.blobs: dict[str, str] = {}
        self.manifests: list[tuple[str, str]] = []
        self.sent: dict[str, bytes] = {}
        self.credentials: set[Credentials] = set()
        #: Manifests that were there before.
        self.known: set[str] = set()

    def new_upload_counters(self) -> Any:
        return SimpleNamespace(phase="waiting", sent_bytes=0)

    async def push_blob(self, to: Destination, digest: Digest, mount_from: str, counters: Any, cancel: Any) -> bool:
        self.credentials.add(to.credentials)
        is_new = digest not in self.blobs
        self.blobs[digest] = mount_from
        counters.phase = "done" if is_new else "present"
        return is_new

    async def has_manifest(self, to: Destination, digest: Digest, cancel: Any) -> bool:
        return digest in self.known

    async def push_manifest(self, to: Destination, reference: str, media_type: str, data: bytes, cancel: Any) -> Digest:
        assert all(digest in self.blobs for digest in needed_by(data))
        self.manifests.append((reference, media_type))
        self.sent[reference] = data
        return Digest(images.digest_of(data))


def needed_by(data: bytes) -> list[str]:
    """The blobs that a manifest names."""
    document = json.loads(data)
    parts = [document["config"], *document["layers"]] if "layers" in document else []
    return [part["digest"] for part in parts]


class Case:
    """A pusher over fakes."""

    def __init__(self, blobs: Iterable[Tagged], *present: Image) -> None:
        content: dict[str, bytes] = {}
        for tagged in blobs:
            content |= tagged.blobs
            content |= {digest: data for digest, (_, data) in tagged.manifests.items()}
        self.registry = Destinations(Content(content))
        self.table = ImageTable()
        for image in present:
            self.table.put(image)
        self.table.set_name("r.example/app:1", Name(present[0].target.digest, tuple(one.id for one in present)))
        self.recorded: list[str] = []
        catalogue = SimpleNamespace(table=self.table, record_push=self._record)
        self.pusher = Pusher(
            cast(Any, self.registry.content), self.registry, cast(Any, catalogue), Leases(), blobs_per_image=2
        )
        self.progress: list[PushProgress] = []

    async def _record(self, images: Sequence[Image], repo_digest: str, fact: object, actor: str) -> None:
        self.recorded.append(repo_digest)

    async def push(self, platforms: Sequence[Platform] = ()) -> Any:
        shown: list[Any] = []
        handle = SimpleNamespace(
            track=shown.append, check=lambda: None, cancel_token=None, actor="root", scope=nullcontext()
        )
        pushes = plan(self.table, "r.example/app:1", "", all_tags=False)
        result = await self.pusher.push(pushes, platforms, USER, cast(OperationHandle, handle))
        self.progress = [shown[0]()]
        return result


async def test_an_image_is_sent_whole_before_its_name() -> None:
    tagged = small("a")
    case = Case([tagged], stored(tagged))
    result = await case.push()
    assert result.digest == tagged.digest
    assert case.registry.manifests == [("1", images.OCI_MANIFEST)]
    assert result.sent_bytes == sum(map(len, tagged.blobs.values()))
    assert case.recorded == [f"r.example/app@{tagged.digest}"]
    assert case.registry.credentials == {USER}
    assert [layer.phase for layer in case.progress[0].layers] == [LayerPhase.DONE]
    assert case.progress[0].layers[0].diff_id == tagged.layers[0].diff_id


async def test_an_index_is_pushed_as_it_came_where_all_of_it_is_here() -> None:
    here, other = small("a"), small("b", architecture="s390x")
    index = images.index([here, other])
    case = Case([here, other, index], stored(other, index), stored(here, index))
    result = await case.push()
    assert result.digest == index.digest
    assert [reference for reference, _ in case.registry.manifests] == [other.digest, here.digest, "1"]
    assert case.registry.sent["1"] == index.manifest


async def test_of_an_index_of_which_one_platform_is_here_the_manifest_is_pushed() -> None:
    here, other = small("a"), small("b", architecture="s390x")
    index = images.index([here, other])
    case = Case([here, index], stored(here, index))
    assert (await case.push()).digest == here.digest
    assert [reference for reference, _ in case.registry.manifests] == ["1"]


async def test_of_an_index_of_which_several_platforms_are_here_an_index_of_those_is_pushed() -> None:
    first, second, absent = (small(name, architecture=name) for name in ("arm64", "s390x", "riscv64"))
    index = images.index([first, absent, second])
    digests = set()
    for order in ((first, second), (second, first)):
        case = Case([first, second, index], *(stored(one, index) for one in order))
        digests.add((await case.push()).digest)
        sent = json.loads(case.registry.sent["1"])
        assert [entry["digest"] for entry in sent["manifests"]] == [first.digest, second.digest]
        assert [entry["platform"]["architecture"] for entry in sent["manifests"]] == ["arm64", "s390x"]
    assert len(digests) == 1


async def test_r12_an_attestation_is_named_only_where_the_registry_has_it() -> None:
    here = small("a")
    attestation = {"mediaType": images.OCI_MANIFEST, "digest": "sha256:" + "ab" * 32, "size": 7}
    unknown = attestation | {"platform": {"os": "unknown", "architecture": "unknown"}}
    index = images.index([here], descriptors=[here.descriptor(), unknown])
    case = Case([here, index], stored(here, index))
    assert (await case.push()).digest == here.digest
    case = Case([here, index], stored(here, index))
    case.registry.known.add("sha256:" + "ab" * 32)
    assert (await case.push()).digest == index.digest


async def test_an_index_in_an_index_is_pushed_before_it() -> None:
    here, other = small("a"), small("b", architecture="s390x")
    inner = images.index([other])
    index = images.index([here, inner])
    other_way = replace(stored(other, index), ways=((descriptor(index), descriptor(inner)),))
    case = Case([here, other, index], stored(here, index), other_way)
    assert (await case.push()).digest == index.digest
    assert [reference for reference, _ in case.registry.manifests] == [here.digest, other.digest, inner.digest, "1"]


async def test_platforms_that_are_asked_for_are_pushed_alone_or_refused() -> None:
    here, other = small("a"), small("b", architecture="s390x")
    index = images.index([here, other])
    case = Case([here, other, index], stored(here, index), stored(other, index))
    host, second = Platform.normalised("linux", images.HOST_ARCHITECTURE), Platform.normalised("linux", "s390x")
    assert (await case.push([host])).digest == here.digest
    assert (await case.push([second, host])).digest == index.digest
    with pytest.raises(PlatformUnavailable):
        await case.push([Platform.normalised("linux", "ppc64le", "")])


async def test_layers_that_may_not_be_distributed_are_not_sent() -> None:
    tagged = small("a")
    text = json.loads(tagged.manifests[tagged.digest][1])
    text["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
    for urls in (["https://elsewhere.example/layer"], []):
        text["layers"][0]["urls"] = urls
        foreign = images.image(tagged.layers, manifest={"layers": text["layers"]})
        case = Case([foreign], stored(foreign))
        case.registry.blobs[tagged.layers[0].digest] = "was there"
        await case.push()
        # Nobody could ever have a layer that no registry has and no URL names.
        is_sent = case.registry.blobs[tagged.layers[0].digest] != "was there"
        assert is_sent == (not urls)


def test_a_blob_is_mounted_from_another_repository_of_the_same_registry() -> None:
    tagged = small("a")
    image = stored(tagged)
    table = ImageTable()
    table.put(image)
    digests = [Digest(digest) for digest in tagged.blobs]
    for repository in ("other.example/x", "r.example/app"):
        table.add_repo_digest(f"{repository}@{tagged.digest}", image.id)
    assert mount_sources(table, digests, Destination("r.example", "app", USER)) == {}
    table.add_repo_digest(f"r.example/team/base@{tagged.digest}", image.id)
    found = mount_sources(table, digests, Destination("r.example", "app", USER))
    assert found == dict.fromkeys(digests, "team/base")
    assert mount_sources(table, [Digest("sha256:" + "0" * 64)], Destination("r.example", "app", USER)) == {}


def named(*names: str) -> ImageTable:
    """A table of one image with these names."""
    table = ImageTable()
    image = stored(small("a"))
    table.put(image)
    for name in names:
        table.set_name(name, Name.of(image))
    return table


def test_a_plan_says_what_is_written() -> None:
    table = named("r.example/app:1", "r.example/app:2", "r.example/other:1")

    def written(reference: str, target: str = "", *, all_tags: bool = False) -> list[str]:
        return [str(push.target) for push in plan(table, reference, target, all_tags=all_tags)]

    assert written("r.example/app:1") == ["r.example/app:1"]
    assert written("r.example/app:1", "q.example/x") == ["q.example/x:latest"]
    assert written("r.example/app", all_tags=True) == ["r.example/app:1", "r.example/app:2"]
    assert written("r.example/app", "q.example/x", all_tags=True) == ["q.example/x:1", "q.example/x:2"]


@pytest.mark.parametrize(
    ("reference", "target", "all_tags", "field"),
    [
        ("sha256:" + images.digest_of(small("a").config)[7:], "", False, "target_reference"),
        ("r.example/app:1", "r.example/app@sha256:" + "0" * 64, False, "target_reference"),
        ("r.example/app:1", "", True, "reference"),
        ("r.example/app", "r.example/b:1", True, "target_reference"),
    ],
)
def test_a_push_that_could_write_no_name_is_refused(reference: str, target: str, all_tags: bool, field: str) -> None:
    with pytest.raises(FieldInvalid) as refused:
        plan(named("r.example/app:1"), reference, target, all_tags=all_tags)
    assert refused.value.metadata["field"] == field


def test_a_repository_without_images_is_not_found() -> None:
    with pytest.raises(ImageNotFound):
        plan(named("r.example/app:1"), "r.example/none", "", all_tags=True)
