"""Bounds of what volumes and writable layers take, by project quotas of the data root's file system."""

from collections.abc import Sequence

from fluytd import failpoints
from fluytd._core import host
from fluytd.errors import ProjectQuotaUnavailable
from fluytd.host.projects import Projects, inode_bound


class ProjectQuotas:
    """Implements `ports.Quotas`. Every call takes microseconds, but `sweep`."""

    def __init__(self, directory: str, projects: Projects) -> None:
        """`directory`: on the file system in question."""
        self._directory = directory
        self.projects = projects

    def check(self) -> None:
        """See `ports.Quotas.check`."""
        found = host.project_quota(self._directory)
        if not found.is_available:
            raise ProjectQuotaUnavailable(path=self._directory, detail=found.detail)

    def take(self) -> int:
        """See `ports.Quotas.take`."""
        return self.projects.take(lambda number: host.project_usage(self._directory, number)[1] > 0)

    def bind(self, directories: Sequence[str], project_id: int, limit_bytes: int) -> None:
        """See `ports.Quotas.bind`."""
        host.limit_project(directories, project_id, limit_bytes, inode_bound(limit_bytes))

    def usage(self, project_id: int) -> int:
        """See `ports.Quotas.usage`."""
        return host.project_usage(self._directory, project_id)[0]

    def usage_of(self, directory: str) -> int | None:
        """See `ports.Quotas.usage_of`."""
        project_id = host.directory_project(directory)
        if not self.projects.first <= project_id <= self.projects.last:
            return None
        return self.usage(project_id)

    def release(self, project_id: int) -> None:
        """See `ports.Quotas.release`."""
        # A file system that keeps none any more, having been mounted otherwise, has no bound to take away.
        if host.project_quota(self._directory).is_available:
            host.release_project(self._directory, project_id)

    def sweep(self, held: frozenset[int]) -> int:
        """See `ports.Quotas.sweep`."""
        if not host.project_quota(self._directory).is_available:
            return 0
        idle = host.idle_projects(self._directory, self.projects.first, self.projects.last)
        left = [number for number in idle if number not in held]
        for number in left:
            failpoints.hit("host.quota.sweep")
            host.release_project(self._directory, number)
        return len(left)
