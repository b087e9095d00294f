"""References by Docker's rules, digests, ids. Source of the reference table: distribution/reference tests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluytd.errors import DigestInvalid, FieldInvalid, ReferenceInvalid
from fluytd.ids import ContainerId, Digest, ImageReference

D = "sha256:" + "a" * 64

NORMALISED = [
    ("busybox", "docker.io/library/busybox", "busybox"),
    ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
    (f"busybox@{D}", f"docker.io/library/busybox@{D}", f"busybox@{D}"),
    (f"busybox:1@{D}", f"docker.io/library/busybox:1@{D}", f"busybox:1@{D}"),
    ("user/app", "docker.io/user/app", "user/app"),
    ("library/user/app", "docker.io/library/user/app", "library/user/app"),
    ("docker.io/app", "docker.io/library/app", "app"),
    ("index.docker.io/app", "docker.io/library/app", "app"),
    ("index.docker.io/library/app:t", "docker.io/library/app:t", "app:t"),
    ("localhost/app", "localhost/app", "localhost/app"),
    ("localhost:5000/app:v1.2", "localhost:5000/app:v1.2", "localhost:5000/app:v1.2"),
    ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c"),
    ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
    ("example.com/a__b/c--d.e_f", "example.com/a__b/c--d.e_f", "example.com/a__b/c--d.e_f"),
    ("Upper/app", "Upper/app", "Upper/app"),
    ("host/app", "docker.io/host/app", "host/app"),
    ("xn--n3h.com/app", "xn--n3h.com/app", "xn--n3h.com/app"),
]


@pytest.mark.parametrize(("text", "full", "familiar"), NORMALISED)
def test_a_reference_is_normalised_as_docker_does(text: str, full: str, familiar: str) -> None:
    reference = ImageReference.parse(text)
    assert (str(reference), reference.familiar) == (full, familiar)
    assert ImageReference.parse(full) == reference
    assert ImageReference.parse(familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "@",
        "/",
        "a" * 64,
        "Busybox",
        "a/B",
        "a//b",
        "/a",
        "a/",
        "docker.io/",
        "docker.io",
        "a:",
        "a:-x",
        "a:.x",
        "a:" + "x" * 129,
        "a@sha256:123",
        f"a@{D}@{D}",
        f"a@md5:{'a' * 32}",
        f"a@sha256:{'A' * 64}",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "a b",
        "a\n",
        "ä",
        "a:ä",
        "host:port/app",
        "host:999999/app",
        "-h.com/app",
        "http://a/b",
        "a/" + "b" * 256,
        "x" * 5000,
        "../../etc/passwd",
        "a/../b",
        "a:\u0661",
    ],
)
def test_what_is_no_reference_is_refused_with_its_rule(text: str) -> None:
    if text == "docker.io":
        # Without a slash it is a repository of the default registry, as in Docker.
        assert str(ImageReference.parse(text)) == "docker.io/library/docker.io"
        return
    with pytest.raises(ReferenceInvalid) as caught:
        ImageReference.parse(text)
    assert caught.value.metadata["rule"]


@given(st.text(max_size=200))
def test_any_text_is_refused_or_stable(text: str) -> None:
    try:
        reference = ImageReference.parse(text)
    except ReferenceInvalid:
        return
    assert ImageReference.parse(str(reference)) == reference
    assert ImageReference.parse(reference.familiar) == reference


def test_the_digest_wins_over_the_tag() -> None:
    assert ImageReference.parse(f"a:1@{D}").registry_reference == D
    assert ImageReference.parse("a").registry_reference == "latest"
    assert ImageReference.parse("a").with_default_tag().familiar == "a:latest"
    assert ImageReference.parse(f"a@{D}").with_default_tag().tag is None


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:../../x", "sha256:" + "a" * 63, "sha256:" + "A" * 64, "md5:" + "a" * 32, D + "\n", 7],
)
def test_r04_a_malformed_digest_is_refused_before_use(text: object) -> None:
    with pytest.raises(DigestInvalid):
        Digest.parse(text)
    assert Digest.parse(D).hex == "a" * 64


def test_a_container_id_is_64_digits_and_never_looks_like_a_number() -> None:
    made = ContainerId.new()
    assert ContainerId.parse(made) == made
    assert not made.short.isdecimal()
    for text in ("", "g" * 64, "a" * 63, "A" * 64):
        with pytest.raises(FieldInvalid):
            ContainerId.parse(text)
