"""`--format` with templates of Go, as Docker's users write them."""

import pytest

from tests.e2e.cli.program import IMAGE, Program
from tests.e2e.cli.test_lifecycle import stays


def test_a_list_of_containers_by_dockers_names_and_the_apis(fluyt: Program) -> None:
    identity = stays(fluyt, "one", "--label", "b=2", "--label", "a=1")
    show = "{{.ID}}|{{.Names}}|{{.Image}}|{{.State}}|{{.Labels}}|{{.Networks}}|{{.name}}|{{.spec.image}}"
    expected = f"{identity[:12]}|one|{IMAGE}|running|a=1,b=2||one|{IMAGE}\n"
    assert fluyt.ok("ps", "--format", show) == expected
    assert fluyt.ok("ps", "--no-trunc", "--format", "{{.ID}}") == f"{identity}\n"
    header, row = fluyt.ok("ps", "--format", r"table {{.Names}}\t{{.Status}}\t{{.Size}}").splitlines()
    assert header.split() == ["NAMES", "STATUS", "SIZE"]
    assert row.startswith("one     Up ")
    assert "(virtual " in row
    assert row.index("Up ") == header.index("STATUS")
    assert fluyt.ok("container", "ls", "--format={{json .Names}}") == '"one"\n'
    assert fluyt.ok("ps", "--format", "{{.Names}}", "--filter", "name=nobody") == ""


def test_an_inspection_by_dockers_names_and_the_apis(fluyt: Program) -> None:
    identity = stays(fluyt, "one", "--env", "A=b", "--label", "x.y/z=1")
    for template, expected in (
        ("{{.Id}} {{.Name}} {{.State.Status}} {{.State.Running}}", f"{identity} /one running true"),
        ('{{index .Config.Labels "x.y/z"}}{{with index .Config.Labels "none"}}!{{end}}', "1"),
        ("{{range .Config.Env}}{{println .}}{{end}}", None),
        ("{{if .State.Paused}}paused{{else}}{{.state}}{{end}}", "STATE_RUNNING"),
        ("{{json .Config.Cmd}}", None),
        ("{{range $name, $one := .NetworkSettings.Networks}}{{$name}}{{end}}", ""),
        ("{{.RestartCount}} {{.State.ExitCode}}", "0 0"),
    ):
        shown = fluyt.ok("inspect", "-f", template, "one")
        assert expected is None or shown == f"{expected}\n", template
    assert "A=b\n" in fluyt.ok("inspect", "-f", "{{range .Config.Env}}{{println .}}{{end}}", "one")
    assert int(fluyt.ok("inspect", "--format", "{{.State.Pid}}", "one")) > 1
    fluyt.ok("kill", "one")
    fluyt.ok("wait", "one")
    assert fluyt.ok("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "one") == "exited 137\n"


def test_images_volumes_and_networks(fluyt: Program) -> None:
    repository, tag = IMAGE.rsplit(":", 1)
    assert f"{repository}:{tag}\n" in fluyt.ok("images", "--format", "{{.Repository}}:{{.Tag}}")
    assert fluyt.ok("image", "inspect", "-f", "{{.Os}} {{index .RepoTags 0}}", IMAGE) == f"linux {IMAGE}\n"
    assert fluyt.ok("inspect", "--type", "image", "-f", "{{len .RepoTags}}", IMAGE) == "1\n"
    fluyt.ok("volume", "create", "--label", "k=v", "kept")
    try:
        assert fluyt.ok("volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Labels}}") == "kept local k=v\n"
        mountpoint = fluyt.ok("volume", "inspect", "-f", '{{.Mountpoint}} {{index .Labels "k"}}', "kept")
        assert mountpoint.endswith("/_data v\n")
    finally:
        fluyt.ok("volume", "rm", "kept")


@pytest.mark.parametrize(
    ("template", "part", "code"),
    [
        ("{{.Nope}}", "no field Nope", 1),
        # What is wrong in itself is so before the engine is asked.
        ("{{.Names", "--format", 125),
        ("{{nope .Names}}", "nope not defined", 125),
        ("yaml", "a template of Go", 125),
        ("{{" + "(" * 9000 + ".ID" + ")" * 9000 + "}}", "MAX_TEMPLATE_BYTES", 125),
    ],
)
def test_a_template_that_is_wrong_is_told_and_prints_nothing(
    fluyt: Program, template: str, part: str, code: int
) -> None:
    stays(fluyt, "one")
    ended = fluyt("ps", "--format", template)
    assert (ended.code, ended.out) == (code, "")
    assert part in ended.err
    assert "String(" not in ended.err
