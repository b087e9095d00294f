"""Dockerfiles of common kinds, on a busybox base, with what their images print."""

import io
import tarfile
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Sample:
    """A Dockerfile with its folder, and what its image prints."""

    dockerfile: str
    prints: str
    files: dict[str, str | bytes] = field(default_factory=dict)
    build_args: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    #: The Dockerfile of `real/parent:1`, which is built before.
    parent: str = ""


def archive(name: str, content: bytes, mode: Literal["w:", "w:gz"]) -> bytes:
    """A tar of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


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
    "an app whose packages come in a stage of their own": Sample(
        """
        # syntax=docker/dockerfile:1
        FROM busybox:1 AS base
        WORKDIR /app
        FROM base AS deps
        COPY package.json package-lock.jso[n] ./
        RUN --mount=type=cache,id=packages,target=/root/.npm,sharing=locked \\
            mkdir -p node_modules/left-pad && cp package.json /root/.npm/ && echo pad > node_modules/left-pad/index.js
        FROM deps AS test
        COPY . .
        RUN test -e node_modules/left-pad/index.js && touch /tested
        FROM base AS release
        ENV NODE_ENV=production PORT=8080
        COPY --from=deps /app/node_modules node_modules
        COPY --from=test /tested /tmp/
        COPY src src
        RUN echo 'node:x:1001:1001::/app:/bin/sh' >> /etc/passwd
        USER node
        EXPOSE $PORT
        CMD ["sh", "-c", "id -un; cat src/index.js node_modules/left-pad/index.js; echo $NODE_ENV"]
        """,
        "node\nmain\npad\nproduction\n",
        {"package.json": "{}", "src/index.js": "main\n", "README.md": "not copied"},
    ),
    "next to nothing but one program and its user": Sample(
        """
        FROM busybox:1 AS build
        RUN mkdir -p /root-of/etc /root-of/tmp && chmod 1777 /root-of/tmp \\
         && echo 'nonroot:x:65532:65532::/:/sbin/nologin' > /root-of/etc/passwd
        FROM scratch
        COPY --from=build /root-of/ /
        COPY --link --from=busybox:1 --chmod=755 /bin/busybox /bin/stat
        USER nonroot
        WORKDIR /tmp
        ENTRYPOINT ["/bin/stat"]
        CMD ["-c", "%a %u", "/tmp"]
        """,
        "1777 0\n",
    ),
    "a child of a parent that says what its children do": Sample(
        """
        FROM real/parent:1
        RUN echo "$(cat /app/where)" > /app/seen
        CMD ["cat", "/app/seen", "/app/name"]
        """,
        "/app\nshop\n",
        {"name": "shop\n"},
        parent="""
        FROM busybox:1
        ONBUILD WORKDIR /app
        ONBUILD COPY . .
        ONBUILD RUN pwd > where
        """,
    ),
    "a service with a script before it": Sample(
        """
        FROM busybox:1
        RUN echo 'db:x:70:70::/:/bin/sh' >> /etc/passwd && mkdir -p /var/lib/db && chown db:70 /var/lib/db
        ENV DATA=/var/lib/db
        VOLUME /var/lib/db
        COPY --chmod=755 entrypoint.sh /usr/local/bin/
        ENTRYPOINT ["/usr/local/bin/entrypoint.sh"]
        STOPSIGNAL SIGINT
        CMD ["serve", "--port", "5432"]
        """,
        "serve --port 5432 of 70\n",
        {"entrypoint.sh": '#!/bin/sh\nset -e\n[ "$1" = serve ] && echo "$@" of "$(stat -c %u $DATA)"\n'},
    ),
    "arguments of the platform and of the caller": Sample(
        """
        ARG BASE=busybox:0
        FROM --platform=$BUILDPLATFORM ${BASE} AS build
        ARG TARGETOS TARGETARCH
        ARG VERSION=0.0.0
        ARG COMMIT
        RUN echo "$TARGETOS/$TARGETARCH ${VERSION#v} ${COMMIT:+at $COMMIT}" | sed 's/amd64/x/; s/arm64/x/' > /stamp
        FROM ${BASE}
        ARG VERSION
        LABEL version="${VERSION}"
        COPY --from=build /stamp /stamp
        CMD ["cat", "/stamp"]
        """,
        "linux/x 1.2.3 at abc\n",
        build_args={"BASE": "busybox:1", "VERSION": "v1.2.3", "COMMIT": "abc"},
    ),
    "an app that owns its folder": Sample(
        """
        FROM busybox:1
        RUN echo 'app:x:100:101::/:/bin/sh' >> /etc/passwd && echo 'app:x:101:' >> /etc/group
        WORKDIR /srv/app
        RUN chown app:app .
        COPY --chown=app:app conf conf
        USER app
        RUN echo mine > state && umask 077 && echo key > conf/key
        CMD ["sh", "-c", "stat -c '%U %a %n' . state conf/key conf/app.conf"]
        """,
        "app 755 .\napp 644 state\napp 600 conf/key\napp 644 conf/app.conf\n",
        {"conf/app.conf": "x=1\n"},
    ),
    "a secret that no layer keeps": Sample(
        """
        FROM busybox:1
        RUN --mount=type=secret,id=token,required=true,mode=0400 \\
            test "$(cat /run/secrets/token)" = s3cret && echo fetched > /package
        RUN --mount=type=secret,id=token,env=TOKEN test "$TOKEN" = s3cret
        CMD ["sh", "-c", "cat /package; ls /run/secrets 2>/dev/null; env | grep -c TOKEN || true"]
        """,
        "fetched\n0\n",
        secrets={"token": b"s3cret"},
    ),
    "a root file system from archives": Sample(
        """
        FROM scratch
        ADD rootfs.tar.gz /
        ADD --chown=7:8 more.tar /opt/
        COPY rootfs.tar.gz /kept.tar.gz
        COPY --from=busybox:1 /bin /bin
        CMD ["/bin/sh", "-c", "cat /etc/os-release; stat -c '%u:%g %s' /opt/more; [ -s /kept.tar.gz ] && echo kept"]
        """,
        "ID=made\n7:8 5\nkept\n",
        {
            "rootfs.tar.gz": archive("etc/os-release", b"ID=made\n", "w:gz"),
            "more.tar": archive("more", b"12345", "w:"),
        },
    ),
    "a folder of which little is sent": Sample(
        """
        FROM busybox:1
        WORKDIR /src
        COPY . .
        COPY --exclude=*.tmp docs /docs/
        CMD find . /docs -type f | sort
        """,
        "./Dockerfile.dev\n./docs/a.md\n./docs/b.tmp\n./logs/keep.log\n./main\n/docs/a.md\n",
        {
            ".dockerignore": "# what stays at home\n**/*.log\n!logs/keep.log\n.git\nnode_modules/\n.dockerignore\n",
            ".git/config": "x",
            "node_modules/a/index.js": "x",
            "logs/keep.log": "x",
            "logs/other.log": "x",
            "deep/down/a.log": "x",
            "docs/a.md": "x",
            "docs/b.tmp": "x",
            "Dockerfile.dev": "x",
            "main": "x",
        },
    ),
    "many packages in one repository": Sample(
        """
        FROM busybox:1 AS manifests
        WORKDIR /repo
        COPY --parents package.json packages/*/package.json ./
        FROM busybox:1
        COPY --from=manifests /repo /repo
        COPY --parents packages/./web/src /web/
        CMD cd / && find repo web -type f | sort
        """,
        "repo/package.json\nrepo/packages/api/package.json\nrepo/packages/web/package.json\nweb/web/src/index.ts\n",
        {
            "package.json": "{}",
            "packages/api/package.json": "{}",
            "packages/api/src/main.ts": "x",
            "packages/web/package.json": "{}",
            "packages/web/src/index.ts": "x",
        },
    ),
    "a virtual machine's program with options of the environment": Sample(
        """
        FROM busybox:1
        ENV HOME_OF_VM=/opt/vm \\
            OPTIONS="-Xmx64m -Dname='a b'"
        ENV PATH=$HOME_OF_VM/bin:$PATH LEVEL=${LEVEL:-info} EMPTY=
        RUN mkdir -p $HOME_OF_VM/bin && printf '#!/bin/sh\\nfor a; do echo "<$a>"; done\\n' > $HOME_OF_VM/bin/vm \\
         && chmod +x $HOME_OF_VM/bin/vm
        ENTRYPOINT exec vm $OPTIONS -level "$LEVEL" ${EMPTY:+never} -jar app.jar
        """,
        "<-Xmx64m>\n<-Dname='a>\n<b'>\n<-level>\n<info>\n<-jar>\n<app.jar>\n",
    ),
    "steps without a network, in memory, by strict shells": Sample(
        """
        FROM busybox:1
        SHELL ["/bin/sh", "-euo", "pipefail", "-c"]
        RUN --network=none --mount=type=tmpfs,target=/scratch \\
            ls /sys/class/net > /links; df /scratch | grep -q tmpfs; echo x > /scratch/gone
        RUN (false | true) || echo strict > /strict
        CMD ["cat", "/links", "/strict"]
        """,
        "lo\nstrict\n",
    ),
    "tools of one stage used by another without a copy": Sample(
        """
        FROM busybox:1 AS tools
        RUN mkdir /tools && printf '#!/bin/sh\\ntr a-z A-Z\\n' > /tools/upper && chmod +x /tools/upper
        FROM busybox:1
        RUN --mount=type=bind,from=tools,source=/tools,target=/usr/local/tools \\
            --mount=type=bind,source=text,target=/in \\
            /usr/local/tools/upper < /in > /out && ! touch /usr/local/tools/x 2> /dev/null
        CMD ["sh", "-c", "cat /out; ls /usr/local/tools 2> /dev/null | wc -l"]
        """,
        "LOUD\n0\n",
        {"text": "loud\n"},
    ),
    "long lines, quotes and another escape": Sample(
        """\
        # escape=`
        FROM busybox:1
        LABEL org.opencontainers.image.title="A `"title`"" `
              org.opencontainers.image.description='two words'
        ENV A=one`
        two B="x  y" `
            C=c\\d
        # a remark
        RUN echo $A > /a && `
            # and one within
            echo "$B" >> /a
        CMD cat /a; echo "$C"
        """,
        "onetwo\nx  y\nc\\d\n",
    ),
}
