"""Catalogue entries about Dockerfiles and builds."""

from fluytd.errors.base import InvalidInput, NotFound, WrongState


class DockerfileInvalid(
    InvalidInput,
    reason="DOCKERFILE_INVALID",
    keys="file line column rule fix",
    text="{file}:{line}:{column}: {rule}",
    next_step="Mend it: {fix}.",
):
    """A Dockerfile that cannot be built, with the place and the fix."""


class DockerfileChecksFailed(
    WrongState,
    reason="DOCKERFILE_CHECKS_FAILED",
    keys="file line rules",
    text="{file}:{line}: build checks found {rules}, and the file asks for an error in that case",
    next_step="Mend what they point at, or take error=true out of the check directive.",
):
    """Findings of build checks in a file with `# check=error=true`."""


class IgnoreFileInvalid(
    InvalidInput,
    reason="IGNORE_FILE_INVALID",
    keys="line pattern rule",
    text="line {line} of the ignore file, {pattern!r}: {rule}",
    next_step="Mend the line in .dockerignore, or in the file of that ending beside the Dockerfile.",
):
    """A pattern of an ignore file that means nothing."""


class BuildTargetNotFound(
    NotFound,
    reason="BUILD_TARGET_NOT_FOUND",
    keys="target stages",
    text="the Dockerfile has no stage {target!r}; it has: {stages}",
    next_step="Name one of these stages, or give a stage a name with AS.",
):
    """A target that no stage of the file is called."""
