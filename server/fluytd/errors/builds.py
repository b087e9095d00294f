"""Catalogue entries about Dockerfiles and builds."""

from fluytd.errors.base import Code, EngineError, HostUnsupported, InvalidInput, NotFound, Upstream, WrongState


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


class BuildStepFailed(
    WrongState,
    reason="BUILD_STEP_FAILED",
    keys="step stage instruction file line exit_code cause detail",
    text="{file}:{line}: step {step} of {stage} failed: {instruction}: {detail}",
    next_step="Read the step's output, mend the instruction or what it works on, then build again.",
):
    """A step that did not do what it should; `exit_code` is that of its command, where it had one."""


class BuildBaseUnavailable(
    WrongState,
    reason="BUILD_BASE_UNAVAILABLE",
    keys="file line instruction cause detail fix",
    text="{file}:{line}: {instruction}: {detail}",
    next_step="Against the cause: {fix}.",
):
    """What a stage is FROM cannot be had; `cause` is the reason why, `fix` what helps against that."""


class BuildCommandFailed(
    WrongState,
    reason="BUILD_COMMAND_FAILED",
    keys="exit_code",
    text="the command ended with exit code {exit_code}",
    next_step="Read the step's output.",
):
    """A command of RUN that ended with another code than 0; it is the cause of BUILD_STEP_FAILED."""


class BuildPlatformNotRun(
    WrongState,
    reason="BUILD_PLATFORM_NOT_RUN",
    keys="platform",
    text="this host runs no programs of {platform}, which RUN needs",
    next_step="Use a stage FROM --platform=$BUILDPLATFORM, or register an emulator with binfmt_misc (flag F).",
):
    """A RUN for a platform that neither this processor nor an emulator runs; it is the cause of BUILD_STEP_FAILED."""


class BuildEntitlementMissing(
    EngineError,
    reason="BUILD_ENTITLEMENT_MISSING",
    code=Code.PERMISSION_DENIED,
    keys="file line instruction entitlement",
    text="{file}:{line}: {instruction} needs the entitlement {entitlement}, which this build was not given",
    next_step="If you trust the Dockerfile with it, build with --allow {entitlement} (`entitlements` of the API).",
):
    """A step that asks for more than its confinement, of a build whose caller did not give that."""


class BuildEntitlementForbidden(
    EngineError,
    reason="BUILD_ENTITLEMENT_FORBIDDEN",
    code=Code.PERMISSION_DENIED,
    keys="file line instruction entitlement",
    text="{file}:{line}: {instruction} needs the entitlement {entitlement}, which this engine gives to no build",
    next_step=(
        "Whoever runs the engine can permit it: add {entitlement} to the setting build_entitlements and start the "
        "daemon anew; a build then asks for it with --allow {entitlement}."
    ),
):
    """A step that asks for more than its confinement, under an engine whose settings do not permit that."""


class BuildSourceNotFound(
    NotFound,
    reason="BUILD_SOURCE_NOT_FOUND",
    keys="path tree",
    text="{path!r} is not in {tree}",
    next_step="Check the spelling, the context's ignore file, and which folder or stage the instruction reads.",
):
    """What COPY, ADD, a mount or the request itself names and what is not there."""


class BuildCopyRejected(
    InvalidInput,
    reason="BUILD_COPY_REJECTED",
    keys="path rule",
    text="{path!r}: {rule}",
    next_step="Choose another destination, or another source.",
):
    """A copy that would change what a file is, or that names what cannot be copied."""


class BuildSecretMissing(
    NotFound,
    reason="BUILD_SECRET_MISSING",
    keys="id",
    text="the build has no secret {id!r}, which the step requires",
    next_step="Give it with the request (--secret id={id},src=FILE).",
):
    """A required secret that the caller did not send."""


class BuildCacheGone(
    NotFound,
    reason="BUILD_CACHE_GONE",
    keys="id",
    text="what build {id} stands on is not known any more",
    next_step="Build again: what is cached is not carried out anew. The daemon knows its last 100 that succeeded.",
):
    """A cache asked for of a build that did not succeed under this daemon, or too long ago."""


class ContextInvalid(
    InvalidInput,
    reason="CONTEXT_INVALID",
    keys="entry rule",
    text="context entry {entry!r}: {rule}",
    next_step="Send paths relative to the context, as UploadContext describes them.",
):
    """An entry of a context that breaks a rule."""


class ContextNotFound(
    NotFound,
    reason="CONTEXT_NOT_FOUND",
    keys="id",
    text="there is no context {id}",
    next_step="Upload it again: contexts are kept for an hour after their last use.",
):
    """A context that was never uploaded, or that has gone."""


class ContextIncomplete(
    WrongState,
    reason="CONTEXT_INCOMPLETE",
    keys="id missing_count",
    text="context {id} is not whole: {missing_count} chunks are missing",
    next_step="Call UploadContext for it again and send what it says is missing.",
):
    """A context whose chunks are not all here, or are damaged."""


class BuildSourceUnavailable(
    Upstream,
    reason="BUILD_SOURCE_UNAVAILABLE",
    keys="source detail",
    text="{source} could not be fetched: {detail}",
    next_step="Check the address, the ref and what the server asks for; a token goes in as the secret GIT_AUTH_TOKEN.",
):
    """A repository that could not be cloned, or a file that could not be downloaded."""


class BuildSourceChanged(
    WrongState,
    reason="BUILD_SOURCE_CHANGED",
    keys="source expected actual",
    text="{source} is {actual}, not {expected}",
    next_step="Find out why it changed; if it may, write the new checksum.",
):
    """A download or a commit with another checksum than the one that was asked for."""


class ProgramMissing(
    HostUnsupported,
    reason="PROGRAM_MISSING",
    keys="program purpose",
    text="the engine's host has no {program}, and {purpose}",
    next_step="Install {program} on the engine's host.",
):
    """A program of the host that a step needs."""


class BuildAgentMissing(
    NotFound,
    reason="BUILD_AGENT_MISSING",
    keys="id purpose",
    text="the build has no ssh agent {id!r}, which {purpose}",
    next_step="Serve it with the build (--ssh {id}, or --ssh {id}=SOCKET).",
):
    """An ssh agent that a step requires and the caller does not serve."""


class BuildAgentGone(
    WrongState,
    reason="BUILD_AGENT_GONE",
    keys="id",
    text="the caller that served ssh agent {id!r} has gone",
    next_step="Build again, and let the caller serve it until the build has ended.",
):
    """A caller that ended its session while a step had, or was to have, an agent of it."""


class BuildAgentSessionNotFound(
    NotFound,
    reason="BUILD_AGENT_SESSION_NOT_FOUND",
    keys="id",
    text="there is no session {id} of ServeBuildAgents",
    next_step="Call ServeBuildAgents, keep the call open, and name the id that it answers with.",
):
    """A session that has ended, that never was, or that is another caller's."""


class BuildHostKeyUnknown(
    WrongState,
    reason="BUILD_HOST_KEY_UNKNOWN",
    keys="host detail",
    text="the host key of {host} is not among the known hosts of this build: {detail}",
    next_step=(
        "Add it to ~/.ssh/known_hosts (`ssh-keyscan {host}`, compared with what the host's owner publishes), "
        "or send another file with --ssh-known-hosts."
    ),
):
    """A host of git over ssh whose key the caller did not send, or whose key is another one."""
