"""The tables of `<data_root>/state.db` and how an older file becomes a present one.

    containers ──image_id──> images <──image_id── image_names, image_repo_digests

    containers    one row a container, written through from memory; `record` is JSON (spec, state, exit, ...)
    images        one row an image that is whole: its blobs and layers were published before the row was written;
                  `record` is JSON (manifest, indexes it came by, config, layers with their sizes)
    image_names   a reference in full -> the images it names now, one a platform, and the index or manifest that it was
                  resolved to; an image without a name is dangling
    image_repo_digests  `<repository>@<digest>` that images came by
    image_uses    when an image was last used, to the minute, and whether it is pinned; no row for one never used
    volumes       one row a volume, written before its directory is made and removed after it has gone; which containers
                  have it stands in their records
    cni_attachments  one row a container on a network by plugins, written before the first is executed and removed after
                  the last has taken its part away
    networks      one row a network, written before its bridge is made and removed after it has gone; what a container
                  has on it stands in the container's record
    events        the numbered log, trimmed at its old end
    operations    pulls, loads, ...; ended ones are kept up to a bound
    execs         one row a further process of a container, ended ones up to a bound; they go with their container
    build_cache   the result of a build's step under its key: a layer, visible before the row was written, or none
    request_ids   what a request id was used for and what it was answered

An image's row is the last thing that a pull writes and the first that a deletion removes, so that at any instant each
row stands for content that is whole; what no row and no work in flight needs is swept by `gc`.
"""

from typing import Final

#: Each entry brings the file from version i to i + 1 (PRAGMA user_version). An entry that was released never changes.
MIGRATIONS: Final = (
    """
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        image_id TEXT NOT NULL,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        create_time_unix_nanos INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE images (
        id TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        create_time_unix_nanos INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE image_names (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_names_by_image ON image_names(image_id);

    CREATE TABLE image_repo_digests (
        reference TEXT PRIMARY KEY,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX image_repo_digests_by_image ON image_repo_digests(image_id);

    CREATE TABLE events (
        sequence INTEGER PRIMARY KEY,
        time_unix_nanos INTEGER NOT NULL,
        actor TEXT NOT NULL,
        subject TEXT NOT NULL,
        labels TEXT NOT NULL,
        fact TEXT NOT NULL,
        record TEXT NOT NULL
    ) STRICT;
    CREATE INDEX events_by_time ON events(time_unix_nanos);

    CREATE TABLE operations (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        create_time_unix_nanos INTEGER NOT NULL,
        request_id TEXT,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX operations_by_request ON operations(request_id) WHERE request_id IS NOT NULL;
    CREATE INDEX operations_by_time ON operations(create_time_unix_nanos);

    CREATE TABLE request_ids (
        request_id TEXT PRIMARY KEY,
        method TEXT NOT NULL,
        request_digest BLOB NOT NULL,
        response BLOB,
        create_time_unix_nanos INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX request_ids_by_time ON request_ids(create_time_unix_nanos);
    """,
    # Uses and pins of images.
    """
    CREATE TABLE image_uses (
        image_id TEXT PRIMARY KEY REFERENCES images(id) ON DELETE CASCADE,
        last_use_unix_nanos INTEGER NOT NULL,
        is_pinned INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # A reference names the images of several platforms.
    """
    CREATE TABLE new_image_names (
        reference TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        target TEXT NOT NULL,
        PRIMARY KEY (reference, image_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO new_image_names
        SELECT reference, image_id, 0, json_extract(record, '$.target.digest')
        FROM image_names JOIN images ON images.id = image_id;
    DROP TABLE image_names;
    ALTER TABLE new_image_names RENAME TO image_names;
    CREATE INDEX image_names_by_image ON image_names(image_id);

    CREATE TABLE new_image_repo_digests (
        reference TEXT NOT NULL,
        image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE,
        PRIMARY KEY (reference, image_id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO new_image_repo_digests SELECT reference, image_id FROM image_repo_digests;
    DROP TABLE image_repo_digests;
    ALTER TABLE new_image_repo_digests RENAME TO image_repo_digests;
    CREATE INDEX image_repo_digests_by_image ON image_repo_digests(image_id);
    """,
    # Further processes of containers.
    """
    CREATE TABLE execs (
        id TEXT PRIMARY KEY,
        container_id TEXT NOT NULL,
        create_time_unix_nanos INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX execs_by_container ON execs(container_id);
    """,
    # Volumes.
    """
    CREATE TABLE volumes (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        version INTEGER NOT NULL,
        create_time_unix_nanos INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # Results of build steps.
    """
    CREATE TABLE build_cache (
        key TEXT PRIMARY KEY,
        description TEXT NOT NULL,
        create_time_unix_nanos INTEGER NOT NULL,
        use_time_unix_nanos INTEGER NOT NULL,
        use_count INTEGER NOT NULL,
        layer TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # Networks.
    """
    CREATE TABLE networks (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        version INTEGER NOT NULL,
        record TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    """,
    # What CNI plugins gave containers.
    """
    CREATE TABLE cni_attachments (
        container_id TEXT NOT NULL,
        network_id TEXT NOT NULL,
        record TEXT NOT NULL,
        PRIMARY KEY (container_id, network_id)
    ) STRICT, WITHOUT ROWID;
    """,
)

#: The version that this engine reads and writes.
VERSION: Final = len(MIGRATIONS)
