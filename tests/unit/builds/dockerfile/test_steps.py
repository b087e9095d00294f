"""What RUN, COPY, ADD and WORKDIR become: commands, mounts, sources, destinations."""

import pytest

from fluytd.builds.dockerfile.origins import (
    BindMount,
    BuildContext,
    CacheMount,
    FileSource,
    GitSource,
    HttpSource,
    InlineSource,
    Mount,
    PathSource,
    Scratch,
    SecretMount,
    SshMount,
    TmpfsMount,
)
from fluytd.builds.dockerfile.steps import CopyStep, RunStep, WorkdirStep
from tests.support.dockerfiles import AMD64, refusal, steps

DIGEST = "sha256:" + "a" * 64


def run(text: str, **build_args: str) -> RunStep:
    """The last step, a RUN."""
    found = steps(f"FROM scratch\n{text}", **build_args)[-1]
    assert isinstance(found, RunStep)
    return found


def copy(text: str, **build_args: str) -> CopyStep:
    """The last step, a COPY or ADD."""
    found = steps(f"FROM scratch\n{text}", **build_args)[-1]
    assert isinstance(found, CopyStep)
    return found


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("RUN echo $A  'b'", ("/bin/sh", "-c", "echo $A  'b'")),
        ('RUN ["a", "$B"]', ("a", "$B")),
        ('SHELL ["/bin/bash", "-c"]\nRUN x', ("/bin/bash", "-c", "x")),
        ("RUN <<E\na\nb\nE", ("/bin/sh", "-c", "a\nb\n")),
        ("RUN <<-E\n\ta\n\tE", ("/bin/sh", "-c", "a\n")),
        ("RUN <<'E'\n$a\nE", ("/bin/sh", "-c", "$a\n")),
        ("RUN cat <<E > /o\nq\nE", ("/bin/sh", "-c", "cat <<E > /o\nq\nE")),
        ("RUN <<-E cat\n\tq\n\tE", ("/bin/sh", "-c", "<<-E cat\n\tq\nE")),
        ("RUN <<A <<B\n1\nA\n2\nB", ("/bin/sh", "-c", "<<A <<B\n1\nA\n2\nB")),
    ],
)
def test_the_command_of_run(text: str, argv: tuple[str, ...]) -> None:
    assert run(text).argv == argv


def test_b18_a_script_with_an_interpreter_is_a_file() -> None:
    found = run("RUN <<-EOF\n\t#!/bin/awk -f\n\tBEGIN{print 42}\n\tEOF")
    assert found.argv == ("/bin/sh", "-c", "/dev/pipes/EOF")
    assert found.script == InlineSource("EOF", "#!/bin/awk -f\nBEGIN{print 42}\n")
    assert "cannot name a file" in refusal("FROM scratch\nRUN <<../x\n#!/bin/sh\n../x").message


def test_run_gets_what_the_stage_says() -> None:
    found = run("USER joe\nWORKDIR /w\nENV A=1\nARG B=2 C\nRUN x", C="3", HTTP_PROXY="p", https_proxy="q")
    assert (found.user, found.working_dir) == ("joe", "/w")
    assert found.env[1:] == ("A=1", "B=2", "C=3")
    assert found.proxy_env == ("HTTP_PROXY=p", "http_proxy=p", "HTTPS_PROXY=q", "https_proxy=q")
    assert found.config.history[-1].created_by == "RUN |2 B=2 C=3 /bin/sh -c x # buildkit"
    assert not any("PROXY" in entry for entry in found.config.env)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/a", BindMount(BuildContext(), "/", "/a")),
        ("type=bind,source=x/../y,target=b,rw", BindMount(BuildContext(), "/y", "/w/b", is_read_only=False)),
        ("type=bind,src=../x,dst=/b,readonly=false", BindMount(BuildContext(), "/x", "/b", is_read_only=False)),
        ("type=bind,rw=false,destination=/b", BindMount(BuildContext(), "/", "/b")),
        ("TYPE=CACHE,target=/c/./d", CacheMount("/c/d", "/c/d", Scratch(AMD64))),
        (
            "type=cache,id=i,target=c,sharing=LOCKED,mode=0700,uid=7,gid=8,ro,source=s",
            CacheMount("i", "/w/c", Scratch(AMD64), "/s", "locked", True, 0o700, 7, 8),
        ),
        ("type=cache,target=$T", CacheMount("/t", "/t", Scratch(AMD64))),
        ("type=cache,target=rel", CacheMount("rel", "/w/rel", Scratch(AMD64))),
        ("type=tmpfs,target=/t", TmpfsMount("/t")),
        ("type=tmpfs,target=/t,size=1.5m", TmpfsMount("/t", 1_572_864)),
        ("type=tmpfs,target=/t,size=10GiB", TmpfsMount("/t", 10 * 2**30)),
        ("type=secret,id=s", SecretMount("s", "/run/secrets/s")),
        ("type=secret,id=a/s,required", SecretMount("a/s", "/run/secrets/s", is_required=True)),
        ("type=secret,target=/x/y", SecretMount("y", "/x/y")),
        ("type=secret,source=s,target=/x,mode=0440,uid=1,required=true", SecretMount("s", "/x", None, True, 0o440, 1)),
        ("type=secret,id=s,env=TOKEN", SecretMount("s", None, "TOKEN")),
        ("type=secret,id=s,env=", SecretMount("s", None, "s")),
        ("type=secret,id=s,env=TOKEN,target=/f", SecretMount("s", "/f", "TOKEN")),
        ("type=ssh", SshMount("default")),
        ("type=ssh,id=k,target=/s,required,mode=0600,uid=5", SshMount("k", "/s", True, 0o600, 5)),
        ('"type=bind","source=a,b","target=/""q"""', BindMount(BuildContext(), "/a,b", "/q")),
    ],
)  # fmt: skip
def test_every_kind_of_mount(text: str, mount: Mount) -> None:
    assert run(f"ENV T=/t\nWORKDIR /w\nRUN --mount='{text}' x").mounts == (mount,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type=bnd,target=/x", "did you mean bind?"),
        ("tye=bind", "did you mean type?"),
        ("type=bind,target", "has no value"),
        ("type=bind", "cannot stand at /"),
        ("type=bind,target=/", "cannot stand at /"),
        ("type=cache,target=/x,sharing=all", "not a way of sharing"),
        ("type=bind,target=/x,sharing=shared", "no option 'sharing'"),
        ("type=bind,target=/x,mode=0700", "no option 'mode'"),
        ("type=tmpfs,target=/x,uid=1", "no option 'uid'"),
        ("type=cache,target=/x,size=1", "no option 'size'"),
        ("type=bind,target=/x,required", "no option 'required'"),
        ("type=bind,target=/x,env=A", "no option 'env'"),
        ("required,type=secret,id=a", "type=secret or type=ssh"),
        ("type=secret,id=a,from=b", "no option 'from'"),
        ("type=secret", "has no name"),
        ("type=secret,id=a,source=b", "both source and id"),
        ("type=ssh,source=a", "no option 'source'"),
        ("type=cache,target=/x,mode=9", "an octal number"),
        ("type=cache,target=/x,mode=77777", "an octal number"),
        ("type=cache,target=/x,uid=-1", "is a number"),
        ("type=cache,target=/x,uid=4294967296", "is a number"),
        ("type=tmpfs,target=/x,size=big", "is no size"),
        ("type=tmpfs,target=/x,size=99999999999g", "is no size"),
        ("type=bind,target=/x,ro=maybe", "true or false"),
        ('type=bind,"target=/x', "is not closed"),
        ('type=bind,"target=/x"y', "is not closed"),
        ('type=bind,target=/"x', "a quote stands inside"),
    ],
)
def test_mounts_that_mean_nothing_are_refused(text: str, said: str) -> None:
    error = refusal(f"FROM scratch\nRUN --mount='{text}' x")
    assert said in error.message
    assert error.metadata["line"] == "2"


@pytest.mark.parametrize(
    ("path", "destination"),
    [
        ("/x", "/x"),
        ("/x/", "/x/"),
        ("x", "/w/x"),
        ("x/", "/w/x/"),
        (".", "/w/"),
        ("./", "/w/"),
        ("x/.", "/w/x/"),
        ("..", "/"),
        ("../../..", "/"),
        ("/../x", "/x"),
        ("/", "/"),
        ("$D/x", "/d/x"),
    ],
)
def test_b15_where_a_copy_goes(path: str, destination: str) -> None:
    assert copy(f"ENV D=/d\nWORKDIR /w\nCOPY a {path}").destination == destination


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("COPY a /x", PathSource("/a")),
        ("COPY ./a/../b/ /x", PathSource("/b")),
        ("COPY ../../etc/passwd /x", PathSource("/etc/passwd")),
        ("COPY /../a /x", PathSource("/a")),
        ("COPY *.c /x", PathSource("/*.c", is_required=False)),
        ("COPY a[bc] /x", PathSource("/a[bc]", is_required=False)),
        ("COPY . /x", PathSource("/")),
        ("COPY $V /x", PathSource("/v")),
        ('COPY ["a b", "/x"]', PathSource("/a b")),
        ("COPY --parents a/b /x", PathSource("/", "a/b")),
        ("COPY --parents a/./b/*.c /x", PathSource("/a", "b/*.c", is_required=False)),
        ("COPY <<F /x\n$V '$V' \\$V\nF", InlineSource("F", "v 'v' $V\n")),
        ("COPY <<'F' /x\n$V\nF", InlineSource("F", "$V\n")),
        ("COPY <<-F /x\n\ta\n\tF", InlineSource("F", "a\n")),
        ("ADD a.tar /x", PathSource("/a.tar")),
        ("ADD https://e.org/a/f.tar?q#z /x", HttpSource("https://e.org/a/f.tar?q#z", "f.tar")),
        ("ADD http://e.org /x", HttpSource("http://e.org", "__unnamed__")),
        (f"ADD --checksum={DIGEST} http://e.org/f /x", HttpSource("http://e.org/f", "f", DIGEST)),
        ("ADD https://e.org/r.git /x", GitSource("https://e.org/r.git")),
        ("ADD https://e.org/r.git#v1:sub/./d /x", GitSource("https://e.org/r.git", "v1", "sub/d")),
        ("ADD git@e.org:o/r.git#v1 /x", GitSource("git@e.org:o/r.git", "v1")),
        ("ADD --keep-git-dir=true ssh://git@e.org/r /x", GitSource("ssh://git@e.org/r", keeps_git_dir=True)),
        ("ADD --checksum=abc123 https://e.org/r.git /x", GitSource("https://e.org/r.git", checksum="abc123")),
        (
            "ADD https://e.org/r.git?tag=v1&subdir=d&submodules=false&keep-git-dir /x",
            GitSource("https://e.org/r.git", "refs/tags/v1", "d", keeps_git_dir=True, with_submodules=False),
        ),
        ("ADD https://e.org/r.git?branch=b /x", GitSource("https://e.org/r.git", "refs/heads/b")),
        ("ADD github.com/o/r /x", PathSource("/github.com/o/r")),
        ("ADD ./git@e:x /x", PathSource("/git@e:x")),
    ],
)
def test_what_is_copied(text: str, source: FileSource) -> None:
    assert copy(f"ENV V=v\n{text}").sources == (source,)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("COPY https://e.org/r.git /x", "no source that is a git repository"),
        ("COPY git@e.org:o/r /x", "no source that is a git repository"),
        ("ADD --checksum=sha256:ab http://e.org/f /x", "is no digest"),
        (f"ADD --checksum={DIGEST} f /x", "for URLs and git repositories"),
        (f"ADD --checksum={DIGEST} http://e/f http://e/g /x", "for one source"),
        ("ADD --checksum=xyz https://e.org/r.git /x", "is no commit"),
        ("ADD https://e.org/r.git?nope=1 /x", "no option of a git address"),
        ("ADD https://e.org/r.git?ref= /x", "has no value"),
        ("ADD https://e.org/r.git?ref=a#b /x", "several refs"),
        ("ADD https://e.org/r.git?ref=a&ref=b /x", "stands twice"),
        ("ADD --keep-git-dir=false https://e.org/r.git?keep-git-dir=1 /x", "do not agree"),
        ("COPY --chmod=07777777 a /x", "not octal"),
        ("COPY --chmod=rwx a /x", "is no mode"),
        ("COPY --chmod=u+q a /x", "is no mode"),
    ],
)
def test_sources_that_mean_nothing_are_refused(text: str, said: str) -> None:
    error = refusal(f"FROM scratch\n{text}")
    assert said in error.message
    assert error.metadata["line"] == "2"


def test_owner_mode_and_unpacking() -> None:
    found = copy("ENV U=7 M=u=rwX,go=rX\nCOPY --chown=$U:$U --chmod=$M --link a /x")
    assert (found.chown, found.chmod, found.is_linked, found.unpacks_local) == ("7:7", "u=rwX,go=rX", True, False)
    assert [copy(f"ADD {flag} a /x").unpacks_local for flag in ("", "--unpack", "--unpack=false")] == [
        True,
        True,
        False,
    ]
    assert [copy(f"ADD {flag} a /x").unpacks_remote for flag in ("", "--unpack", "--unpack=false")] == [
        False,
        True,
        False,
    ]


def test_b10_a_working_directory_belongs_to_the_user() -> None:
    (_, step) = steps("FROM scratch\nUSER app\nWORKDIR /w/../v")
    assert isinstance(step, WorkdirStep)
    assert (step.path, step.user) == ("/v", "app")
    assert not isinstance(steps("FROM scratch\nWORKDIR /")[0], WorkdirStep)


def test_titles_show_what_is_known_and_hide_secrets() -> None:
    shown = [step.title for step in steps("FROM scratch\nENV A=1\nrun  echo $A \"$B\" '$A'\nCOPY $A /x\nCMD $A")]
    assert shown == ["ENV A=1", "RUN  echo 1 \"$B\" '$A'", "COPY 1 /x", "CMD 1"]
    masked = run("ENV T=x\nRUN --mount=type=secret,id=s,env=T echo $T").title
    assert masked.endswith("echo ****")
    assert len(run("RUN " + "x" * 5000).title) == 1024
