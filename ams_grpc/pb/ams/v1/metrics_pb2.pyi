# mypy: ignore-errors
from ams_grpc.pb.ams.v1 import options_pb2 as _options_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Point(_message.Message):
    __slots__ = ("timestamp", "value")
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    timestamp: str
    value: float
    def __init__(self, timestamp: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Metric(_message.Message):
    __slots__ = ("metric", "metric_type", "value_type", "resource_type", "resource_name", "timeseries", "description")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    METRIC_TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_TYPE_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_NAME_FIELD_NUMBER: _ClassVar[int]
    TIMESERIES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    metric: str
    metric_type: str
    value_type: str
    resource_type: str
    resource_name: str
    timeseries: _containers.RepeatedCompositeFieldContainer[Point]
    description: str
    def __init__(self, metric: _Optional[str] = ..., metric_type: _Optional[str] = ..., value_type: _Optional[str] = ..., resource_type: _Optional[str] = ..., resource_name: _Optional[str] = ..., timeseries: _Optional[_Iterable[_Union[Point, _Mapping]]] = ..., description: _Optional[str] = ...) -> None: ...

class MetricList(_message.Message):
    __slots__ = ("metrics",)
    METRICS_FIELD_NUMBER: _ClassVar[int]
    metrics: _containers.RepeatedCompositeFieldContainer[Metric]
    def __init__(self, metrics: _Optional[_Iterable[_Union[Metric, _Mapping]]] = ...) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("start_date", "end_date", "projects")
    START_DATE_FIELD_NUMBER: _ClassVar[int]
    END_DATE_FIELD_NUMBER: _ClassVar[int]
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    start_date: str
    end_date: str
    projects: str
    def __init__(self, start_date: _Optional[str] = ..., end_date: _Optional[str] = ..., projects: _Optional[str] = ...) -> None: ...

class ProjectReport(_message.Message):
    __slots__ = ("project", "message_count", "average_daily_messages", "topics_count", "subscriptions_count", "users_count")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_DAILY_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOPICS_COUNT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTIONS_COUNT_FIELD_NUMBER: _ClassVar[int]
    USERS_COUNT_FIELD_NUMBER: _ClassVar[int]
    project: str
    message_count: int
    average_daily_messages: float
    topics_count: int
    subscriptions_count: int
    users_count: int
    def __init__(self, project: _Optional[str] = ..., message_count: _Optional[int] = ..., average_daily_messages: _Optional[float] = ..., topics_count: _Optional[int] = ..., subscriptions_count: _Optional[int] = ..., users_count: _Optional[int] = ...) -> None: ...

class ProjectsReport(_message.Message):
    __slots__ = ("projects", "total_message_count", "average_daily_messages")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_MESSAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_DAILY_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[ProjectReport]
    total_message_count: int
    average_daily_messages: float
    def __init__(self, projects: _Optional[_Iterable[_Union[ProjectReport, _Mapping]]] = ..., total_message_count: _Optional[int] = ..., average_daily_messages: _Optional[float] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("projects_metrics", "total_users_count", "total_topics_count", "total_subscriptions_count")
    PROJECTS_METRICS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_USERS_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TOPICS_COUNT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SUBSCRIPTIONS_COUNT_FIELD_NUMBER: _ClassVar[int]
    projects_metrics: ProjectsReport
    total_users_count: int
    total_topics_count: int
    total_subscriptions_count: int
    def __init__(self, projects_metrics: _Optional[_Union[ProjectsReport, _Mapping]] = ..., total_users_count: _Optional[int] = ..., total_topics_count: _Optional[int] = ..., total_subscriptions_count: _Optional[int] = ...) -> None: ...

class UsageReport(_message.Message):
    __slots__ = ("va_metrics", "operational_metrics")
    VA_METRICS_FIELD_NUMBER: _ClassVar[int]
    OPERATIONAL_METRICS_FIELD_NUMBER: _ClassVar[int]
    va_metrics: Report
    operational_metrics: MetricList
    def __init__(self, va_metrics: _Optional[_Union[Report, _Mapping]] = ..., operational_metrics: _Optional[_Union[MetricList, _Mapping]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("details",)
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    details: bool
    def __init__(self, details: _Optional[bool] = ...) -> None: ...

class PushServer(_message.Message):
    __slots__ = ("endpoint", "status")
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    endpoint: str
    status: str
    def __init__(self, endpoint: _Optional[str] = ..., status: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("status", "push_servers", "push_functionality")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PUSH_SERVERS_FIELD_NUMBER: _ClassVar[int]
    PUSH_FUNCTIONALITY_FIELD_NUMBER: _ClassVar[int]
    status: str
    push_servers: _containers.RepeatedCompositeFieldContainer[PushServer]
    push_functionality: str
    def __init__(self, status: _Optional[str] = ..., push_servers: _Optional[_Iterable[_Union[PushServer, _Mapping]]] = ..., push_functionality: _Optional[str] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("build_time", "golang", "compiler", "os", "architecture", "release", "distro", "hostname")
    BUILD_TIME_FIELD_NUMBER: _ClassVar[int]
    GOLANG_FIELD_NUMBER: _ClassVar[int]
    COMPILER_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    DISTRO_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    build_time: str
    golang: str
    compiler: str
    os: str
    architecture: str
    release: str
    distro: str
    hostname: str
    def __init__(self, build_time: _Optional[str] = ..., golang: _Optional[str] = ..., compiler: _Optional[str] = ..., os: _Optional[str] = ..., architecture: _Optional[str] = ..., release: _Optional[str] = ..., distro: _Optional[str] = ..., hostname: _Optional[str] = ...) -> None: ...
