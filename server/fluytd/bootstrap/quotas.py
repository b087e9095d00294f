"""Bounds of volumes and writable layers: one range of projects for both."""

import logging

from fluytd.bootstrap.base import Base
from fluytd.errors import EngineError
from fluytd.host.projects import Projects
from fluytd.host.quotas import ProjectQuotas

_log = logging.getLogger(__name__)


def quotas_of(base: Base) -> ProjectQuotas:
    """No project is held before volumes and containers tell theirs."""
    projects = Projects(base.config.quota_first_project_id, base.config.quota_project_count)
    return ProjectQuotas(str(base.config.data_root), projects)


async def swept_bounds(base: Base, quotas: ProjectQuotas) -> None:
    """No bound is left of what an earlier daemon was making or deleting; called once every record is known. A failure
    is logged: what is left hinders nobody."""
    try:
        count = await base.workers.run(quotas.sweep, quotas.projects.held())
    except EngineError as error:
        _log.warning("bounds that nothing is left of could not be looked for: %s", error)
        return
    if count:
        _log.info("%d bounds were taken away that nothing was left of", count)
