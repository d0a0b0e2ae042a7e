"""ams.v1: what was done with the service in a period, for administrators and for project admins."""

from __future__ import annotations

from collections.abc import Collection

from ams_grpc.auth.ports import Accounts, Clock
from ams_grpc.auth.principals import Principal
from ams_grpc.auth.roles import PROJECT_ADMIN
from ams_grpc.broker.errors import NotFound, Unauthenticated
from ams_grpc.broker.figures import Figures
from ams_grpc.pb.ams.v1 import metrics_pb2 as pb
from ams_grpc.services.ams.days import Period, period
from ams_grpc.services.ams.metrics import NodeMetrics
from ams_grpc.services.callers import caller
from ams_grpc.services.frame import Context


class Reports:
    """Of ams.v1.Service, the report on virtual access; of ams.v1.Users, the usage report."""

    def __init__(
        self, figures: Figures, accounts: Accounts, clock: Clock, nodes: NodeMetrics
    ) -> None:
        self._figures = figures
        self._accounts = accounts
        self._clock = clock
        self._nodes = nodes

    async def GetReport(self, request: pb.ReportRequest, _context: Context) -> pb.Report:
        when = self._period(request)
        wanted = _listed(request.projects)
        known = {each.name for each in await self._accounts.projects()} if wanted else set()
        for name in wanted:
            if name not in known:
                raise NotFound(f"Project {name} doesn't exist")
        return await self._report(wanted or None, when)

    async def GetUsageReport(self, request: pb.ReportRequest, _context: Context) -> pb.UsageReport:
        """Of projects that the caller administers: others that are asked for are passed over."""
        own = _administered(_known_caller())
        when = self._period(request)
        wanted = _listed(request.projects)
        projects = [name for name in own if name in wanted] if wanted else own
        if not projects:
            return _of_nothing()
        return pb.UsageReport(
            va_metrics=await self._report(projects, when),
            operational_metrics=await self._nodes.read(),
        )

    def _period(self, request: pb.ReportRequest) -> Period:
        return period(request.start_date, request.end_date, self._clock.now_us())

    async def _report(self, projects: Collection[str] | None, when: Period) -> pb.Report:
        found = await self._figures.period(projects, when.first_day, when.last_day)
        averages = [_average_in_hundredths(each.messages, when.days) for each in found]
        return pb.Report(
            projects_metrics=pb.ProjectsReport(
                projects=[
                    pb.ProjectReport(
                        project=each.project,
                        message_count=each.messages,
                        average_daily_messages=average / 100,
                        topics_count=each.topics,
                        subscriptions_count=each.subscriptions,
                        users_count=each.users,
                    )
                    for each, average in zip(found, averages, strict=True)
                ],
                total_message_count=sum(each.messages for each in found),
                average_daily_messages=sum(averages) / 100,
            ),
            total_users_count=sum(each.users for each in found),
            total_topics_count=sum(each.topics for each in found),
            total_subscriptions_count=sum(each.subscriptions for each in found),
        )


def _average_in_hundredths(messages: int, days: int) -> int:
    """AMS: rounded up."""
    return -(-messages * 100 // days)


def _listed(projects: str) -> list[str]:
    """AMS: names are separated by commas, and not trimmed."""
    return list(dict.fromkeys(projects.split(","))) if projects else []


def _known_caller() -> Principal:
    """Raises Unauthenticated, also for a token that belongs to no user."""
    try:
        who = caller()
    except LookupError:
        raise Unauthenticated("Unauthorized") from None
    if not who.uuid:
        raise Unauthenticated("Unauthorized")
    return who


def _administered(who: Principal) -> list[str]:
    """AMS: project_admin as a role in the project counts, and nothing else."""
    return [name for name, roles in (who.by_project or {}).items() if PROJECT_ADMIN in roles]


def _of_nothing() -> pb.UsageReport:
    return pb.UsageReport(
        va_metrics=pb.Report(projects_metrics=pb.ProjectsReport()),
        operational_metrics=pb.MetricList(),
    )
