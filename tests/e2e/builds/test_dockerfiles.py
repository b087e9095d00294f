"""Dockerfiles of common kinds, on a busybox base: each is built, and run afterwards."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.builds.steps import build, context
from tests.support.engine import Engine


@dataclass(frozen=True)
class Sample:
    """A Dockerfile with its folder, and what its image prints."""

    dockerfile: str
    prints: str
    files: dict[str, str | bytes] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    build_args: dict[str, str] = field(default_factory=dict)


SAMPLES = {
    "an app whose packages are fetched into a cache": Sample(
        """
        # syntax=docker/dockerfile:1
        FROM busybox:1
        WORKDIR /app
        COPY requirements.txt .
        RUN --mount=type=cache,target=/root/.cache \\
            while read -r name; do echo "$name" >> /root/.cache/fetched; mkdir -p site/$name; done < requirements.txt
        COPY . .
        ENV APP_HOME=/app
        CMD ["sh", "-c", "ls $APP_HOME/site && cat main.py"]
        """,
        "flask\nhttpx\nprint('hi')\n",
        {"requirements.txt": "flask\nhttpx\n", "main.py": "print('hi')\n"},
    ),
    "a program that is made in one stage and shipped without it": Sample(
        """
        FROM busybox:1 AS make
        WORKDIR /src
        COPY go.mod go.sum ./
        RUN --mount=type=bind,target=. cat go.mod > /tmp/seen
        COPY . .
        RUN printf '#!/bin/sh\\necho made of %s\\n' "$(cat main.go)" > /out && chmod +x /out
        FROM scratch
        COPY --from=make /bin/busybox /bin/sh
        COPY --from=make /out /program
        USER 65532:65532
        ENTRYPOINT ["/program"]
        """,
        "made of source\n",
        {"go.mod": "module x\n", "go.sum": "", "main.go": "source"},
    ),
    "a site of static files": Sample(
        """
        FROM busybox:1 AS site
        COPY --chmod=0644 pages /site
        RUN sed -i 's/@TITLE@/Fluyt/' /site/*.html
        FROM busybox:1
        COPY --from=site --chown=33:33 /site /var/www
        EXPOSE 80/tcp
        HEALTHCHECK --interval=30s CMD true
        STOPSIGNAL SIGQUIT
        CMD ["sh", "-c", "cat /var/www/index.html; stat -c %u:%g%a /var/www/index.html"]
        """,
        "<h1>Fluyt</h1>\n33:33644\n",
        {"pages/index.html": "<h1>@TITLE@</h1>\n"},
    ),
    "packages that are installed and cleaned up in one step": Sample(
        """
        FROM busybox:1
        SHELL ["/bin/sh", "-eo", "pipefail", "-c"]
        RUN mkdir -p /var/lib/lists /usr/share/pkg \\
         && echo index > /var/lib/lists/index \\
         && echo tool > /usr/share/pkg/tool \\
         # a remark in between
         && rm -rf /var/lib/lists
        CMD ls /usr/share/pkg /var/lib
        """,
        "/usr/share/pkg:\ntool\n\n/var/lib:\n",
    ),
    "scripts in here-documents": Sample(
        """
        FROM busybox:1
        ARG NAME=world
        COPY <<EOF /etc/greeting
        hello ${NAME}
        EOF
        COPY <<'EOF' /bin/greet
        #!/bin/sh
        exec cat /etc/greeting "$@"
        EOF
        RUN <<EOF
        set -eu
        chmod +x /bin/greet
        /bin/greet
        EOF
        ENTRYPOINT ["greet"]
        """,
        "hello ship\n",
        build_args={"NAME": "ship"},
    ),
    "one stage of several by an argument": Sample(
        """
        ARG FLAVOUR=plain
        ARG TAG=1
        FROM busybox:${TAG} AS base
        FROM base AS plain
        RUN echo plain > /flavour
        FROM base AS rich
        ARG EXTRA
        RUN echo rich "${EXTRA:-nothing}" > /flavour
        FROM ${FLAVOUR}
        ARG FLAVOUR
        LABEL flavour=$FLAVOUR
        CMD ["cat", "/flavour"]
        """,
        "rich sugar\n",
        build_args={"FLAVOUR": "rich", "EXTRA": "sugar"},
    ),
}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_it_is_built_and_runs(engine: Engine, tmp_path: Path, sample: Sample) -> None:
    folder = context(tmp_path, sample.files)
    built = build(engine, folder, sample.dockerfile, build_args=sample.build_args)
    out, err, ended = engine.run(built.reference, *sample.args)
    assert (out.decode(), err, ended.exit_code) == (sample.prints, b"", 0)
