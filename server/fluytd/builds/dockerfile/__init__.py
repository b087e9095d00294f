"""The Dockerfile language: from bytes to steps that an engine can run. Pure: no file, socket, clock or process.

An engine calls it in three steps, of which only the second waits for anything:

    parsed = parse(text, file)                      # DOCKERFILE_INVALID, LIMIT_EXCEEDED
    plan = make_plan(parsed, Request(...))          # the same, BUILD_TARGET_NOT_FOUND
    bases: dict[Base, ImageConfig] = {}
    while missing := missing_bases(plan, bases):    # what FROM needs of registries, for the stages that are needed
        bases.update(await fetch(missing))
    build = resolve(plan, bases)                    # every word expanded, every step of every needed stage

with

    parse.py    parse(text: bytes, file: str = "Dockerfile") -> ParsedFile
    plan.py     make_plan(parsed: ParsedFile, request: Request) -> Plan
    resolve.py  missing_bases(plan: Plan, bases: Mapping[Base, ImageConfig]) -> tuple[Image | NamedContext, ...]
                resolve(plan: Plan, bases: Mapping[Base, ImageConfig]) -> ResolvedBuild

The values are in model.py (what is written), origins.py and steps.py (what runs). A named context that is a folder has
the config `config.empty(platform)`.

Nothing in `build` depends on what steps do when they run, so that every error of the Dockerfile comes before the
first step. All calls are bounded by the limits of `limits.py` and take well below a second at those; they never wait,
and are to be called from a worker thread for that second.
"""
