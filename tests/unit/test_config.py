"""Settings: defaults, file, arguments, in this order of strength; wrong ones are named."""

from pathlib import Path

import pytest

from fluytd.config import Config, load
from fluytd.errors import FieldInvalid


def test_arguments_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "fluytd.toml"
    file.write_text('data_root = "/d"\nworker_count = 3\nlog_level = "debug"\n')
    config = load(["--config", str(file), "--worker-count", "5", "--run-root", "/r"])
    assert (config.data_root, config.worker_count, config.log_level) == (Path("/d"), 5, "debug")
    assert config.socket_path == Path("/r/fluytd.sock")
    assert config.log_segment_bytes == Config().log_segment_bytes


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(FieldInvalid, match="does not exist"):
        load(["--config", str(tmp_path / "absent.toml")])


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("nonsense = 1", "nonsense"),
        ('worker_count = "3"', "worker_count"),
        ("worker_count = true", "worker_count"),
        ("worker_count = 0", "worker_count"),
        ('data_root = "relative"', "data_root"),
        ("data_root = 1", "data_root"),
        ('log_level = "loud"', "log_level"),
        ('layer_store = "zfs"', "layer_store"),
        ('build_entitlements = "network.host,insecure"', "build_entitlements"),
        ("build_entitlements = true", "build_entitlements"),
        ('cgroup_parent = "../x"', "cgroup_parent"),
        ("= broken", "config"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "fluytd.toml"
    file.write_text(text)
    with pytest.raises(FieldInvalid) as caught:
        load(["--config", str(file)])
    assert caught.value.metadata["field"] == field


def test_a_number_on_the_command_line_must_be_one() -> None:
    with pytest.raises(FieldInvalid):
        load(["--worker-count", "many"])


def test_proxies_come_from_the_environment_unless_the_file_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://u:hunter2@proxy")
    file = tmp_path / "fluytd.toml"
    file.write_text('http_proxy = "http://file"\nregistry_upload_chunk_bytes = 0\n')
    config = load(["--config", str(file)])
    assert (config.http_proxy, config.https_proxy, config.no_proxy) == ("http://file", "http://u:hunter2@proxy", "")
    assert "hunter2" not in repr(config)


def test_tables_of_registries_and_proxies_hold_the_same_settings_as_flat_names(tmp_path: Path) -> None:
    tables, flat = tmp_path / "tables.toml", tmp_path / "flat.toml"
    tables.write_text(
        "[registry]\nconnect_timeout_seconds = 3\nheader_timeout_seconds = 4\nidle_timeout_seconds = 5\n"
        'hosts_dir = "/h"\n[proxy]\nhttp = "http://p"\nhttps = "http://q"\nno = ["a.example", "10.0.0.0/8"]\n'
    )
    flat.write_text(
        "registry_connect_timeout_seconds = 3\nregistry_header_timeout_seconds = 4\nregistry_idle_timeout_seconds = 5\n"
        'registry_hosts_dir = "/h"\nhttp_proxy = "http://p"\nhttps_proxy = "http://q"\n'
        'no_proxy = "a.example,10.0.0.0/8"\n'
    )
    config = load(["--config", str(tables)])
    assert config == load(["--config", str(flat)])
    assert (config.registry_connect_timeout_seconds, config.no_proxy) == (3, "a.example,10.0.0.0/8")
    for text, field in [
        ("[proxy]\nftp = 'x'", "ftp_proxy"),
        ("[registry]\nidle_timeout_seconds = 0", "registry_idle_timeout_seconds"),
        ("proxy = 1", "proxy"),
    ]:
        tables.write_text(text)
        with pytest.raises(FieldInvalid) as caught:
            load(["--config", str(tables)])
        assert caught.value.metadata["field"] == field


def test_a_bound_that_may_be_absent_is_not_negative(tmp_path: Path) -> None:
    file = tmp_path / "fluytd.toml"
    file.write_text("registry_upload_chunk_bytes = -1\n")
    with pytest.raises(FieldInvalid, match="at least 0"):
        load(["--config", str(file)])


def test_a_table_holds_the_settings_of_a_collection_of_images(tmp_path: Path) -> None:
    file = tmp_path / "fluytd.toml"
    file.write_text('[image_collection]\nenabled = true\nhigh_water_percent = 0\npinned = ["a/*", "b"]\n')
    config = load(["--config", str(file), "--image-collection-max-bytes", "7"])
    assert (config.image_collection_enabled, config.image_collection_high_water_percent) == (True, 0)
    assert (config.image_collection_pinned, config.image_collection_max_bytes) == ("a/*,b", 7)
    assert load(["--config", str(file), "--image-collection-enabled", "false"]).image_collection_enabled is False


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("image_collection = 1", "image_collection"),
        ("[image_collection]\nnonsense = 1", "image_collection_nonsense"),
        ("[image_collection]\nenabled = 1", "image_collection_enabled"),
        ("[image_collection]\nhigh_water_percent = 101", "image_collection_high_water_percent"),
        ("[image_collection]\nlow_water_percent = -1", "image_collection_low_water_percent"),
        (
            "[image_collection]\nhigh_water_percent = 50\nlow_water_percent = 51",
            "image_collection_low_water_percent",
        ),
        ("[image_collection]\ninterval_seconds = 0", "image_collection_interval_seconds"),
        ("[image_collection]\npinned = [1]", "image_collection_pinned"),
        ("[other]\nenabled = true", "other"),
    ],
)
def test_a_wrong_setting_of_a_table_is_named(tmp_path: Path, text: str, field: str) -> None:
    file = tmp_path / "fluytd.toml"
    file.write_text(text)
    with pytest.raises(FieldInvalid) as caught:
        load(["--config", str(file)])
    assert caught.value.metadata["field"] == field


def test_a_flag_on_the_command_line_is_true_or_false() -> None:
    with pytest.raises(FieldInvalid, match="true or false"):
        load(["--image-collection-enabled", "perhaps"])
