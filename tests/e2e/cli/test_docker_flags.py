"""Flags of Docker's `run`, `create` and `logs` that come down to what the API has, and those that are refused."""

from pathlib import Path

import pytest

from tests.e2e.cli.program import IMAGE, Program


@pytest.mark.parametrize("command", ["run", "create"])
def test_the_id_stands_in_a_file_that_was_not_there(fluyt: Program, tmp_path: Path, command: str) -> None:
    path, name = tmp_path / "cid", f"cid-{command}"
    fluyt.ok(command, "--cidfile", str(path), "--name", name, IMAGE, "true")
    [shown] = fluyt("inspect", "--format", "json", name).objects
    assert path.read_text() == shown["id"]
    ended = fluyt(command, "--cidfile", str(path), "--name", f"{name}-2", IMAGE, "true")
    assert (ended.code, "is there already" in ended.err) == (125, True)
    assert path.read_text() == shown["id"]
    assert all(each["name"] != f"{name}-2" for each in fluyt("ps", "-a", "--format", "json").objects)


def test_no_file_stays_where_no_container_came(fluyt: Program, tmp_path: Path) -> None:
    path = tmp_path / "cid"
    assert fluyt("create", "--cidfile", str(path), "--pull", "never", "localhost/absent:1").code == 125
    assert not path.exists()


def test_labels_of_a_file_stand_behind_those_of_flags(fluyt: Program, tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_text("# a comment\n\na=file\nb=c=d\nbare\n")
    fluyt.ok("create", "--name", "labelled", "--label-file", str(path), "--label", "a=flag", IMAGE, "true")
    [shown] = fluyt("inspect", "--format", "json", "labelled").objects
    assert shown["spec"]["labels"] == {"a": "flag", "b": "c=d", "bare": ""}


def test_an_exposed_port_is_published_by_a_capital_p_alone(fluyt: Program) -> None:
    for name, flags in (("open", ["-P"]), ("closed", [])):
        fluyt.ok(
            "run", "-d", "--name", name, *flags, "--expose", "8000-8001", "--expose", "53/udp", IMAGE, "sleep", "99"
        )
    lines = fluyt.ok("port", "open").splitlines()
    assert sorted({line.split(" ")[0] for line in lines}) == ["53/udp", "8000/tcp", "8001/tcp"]
    assert fluyt.ok("port", "closed") == ""
    wrong = fluyt("create", "--expose", "0", IMAGE, "true")
    assert (wrong.code, "--expose 0" in wrong.err) == (125, True)


def test_details_are_what_the_log_options_name(fluyt: Program) -> None:
    options = ["--log-opt", "labels=role,absent", "--log-opt", "env=MODE"]
    values = ["--label", "role=a b,c", "--label", "other=x", "-e", "MODE=fast", "-e", "SECRET=x"]
    fluyt.ok("run", "--name", "told", *options, *values, IMAGE, "echo", "line")
    assert fluyt.ok("logs", "--details", "told") == "MODE=fast,role=a+b%2Cc line\n"
    assert fluyt.ok("logs", "told") == "line\n"


def test_log_options_alone_leave_the_driver_to_the_engine(fluyt: Program) -> None:
    fluyt.ok("create", "--name", "bounded", "--log-opt", "max-file=3", IMAGE, "true")
    [shown] = fluyt("inspect", "--format", "json", "bounded").objects
    assert (shown["spec"]["log"]["driver"], shown["spec"]["log"]["segment_count"]) == ("DRIVER_FILE", 3)


@pytest.mark.parametrize(
    ("flags", "instead"),
    [
        (["--link", "a:b"], "--network"),
        (["--isolation", "hyperv"], "leave it out"),
        (["--runtime", "runc"], "leave it out"),
        (["--link-local-ip", "169.254.1.1"], "--ip"),
        (["--io-maxiops", "5"], "--device-read-iops"),
        (["--storage-opt", "inodes=5"], "size=10g"),
        (["--storage-size", "much"], "write a number and b, k, m, g, t or p, as in 512m"),
    ],
)
def test_what_is_not_offered_says_what_to_do_instead(fluyt: Program, flags: list[str], instead: str) -> None:
    ended = fluyt("create", *flags, IMAGE, "true")
    assert (ended.code, instead in ended.err) == (125, True), ended.err


def test_a_graphics_processor_is_a_device_by_its_cdi_name(fluyt: Program) -> None:
    ended = fluyt("run", "--rm", "--gpus", "2", IMAGE, "true")
    assert (ended.code, "nvidia.com/gpu=0" in ended.err) == (125, True), ended.err


@pytest.mark.parametrize("flags", [["--storage-opt", "size=8m"], ["--storage-size", "8m"]])
def test_a_bound_of_the_writable_layer_is_kept_or_refused_with_what_to_do(fluyt: Program, flags: list[str]) -> None:
    ended = fluyt("create", *flags, IMAGE, "true")
    if ended.code == 0:  # the file system of this host keeps bounds
        [shown] = fluyt("inspect", "--format", "json", ended.out.strip()).objects
        assert shown["spec"]["storage_size_bytes"] == 8 * 1024**2
    else:
        assert (ended.code, "cannot be bounded" in ended.err, "prjquota" in ended.err) == (125, True, True), ended.err


def test_a_volumes_bound_is_kept_or_refused_with_what_to_do(fluyt: Program) -> None:
    for flags in (["--limit", "8m"], ["-o", "size=8m"]):
        ended = fluyt("volume", "create", *flags, "bounded")
        if ended.code == 0:
            fluyt.ok("volume", "rm", "bounded")
        else:
            assert ("cannot be bounded" in ended.err, "prjquota" in ended.err) == (True, True), ended.err
