"""The Python client's calls for volumes against a live engine."""

import io

import pytest

from fluyt import errors
from fluyt import volumes as client
from fluyt.v1 import volumes_pb2
from tests.support import tarball
from tests.support.engine import Engine


def test_the_client_does_all_that_can_be_done_with_volumes(engine: Engine) -> None:
    channel = engine.channel
    assert client.create(channel, "py-one", labels={"py": "1"}).name == "py-one"
    archive = tarball.write_tar([tarball.file("f", "kept\n")])
    assert client.import_archive(channel, "py-one", io.BytesIO(archive)).entry_count == 1
    assert client.rename(channel, "py-one", "py-two").version == 2
    assert dict(client.clone(channel, "py-two", "py-copy").labels) == {"py": "1"}
    sent = io.BytesIO()
    assert client.export(channel, "py-copy", sent).size_bytes == len(sent.getvalue())
    wanted = volumes_pb2.VolumeFilter(labels=["py"])
    assert [one.name for one in client.list_all(channel, wanted)] == ["py-copy", "py-two"]
    assert client.get(channel, "py-two").container_ids == []
    assert list(client.prune(channel, wanted, dry_run=True).deleted) == []
    assert list(client.prune(channel, wanted, all=True).deleted) == ["py-copy", "py-two"]
    with pytest.raises(errors.NotFound):
        client.delete(channel, "py-two")
    assert client.delete(channel, "py-two", force=True) == 0
    with pytest.raises(errors.NotFound):
        client.export(channel, "py-two", io.BytesIO())
