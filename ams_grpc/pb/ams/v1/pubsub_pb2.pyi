# mypy: ignore-errors
import datetime

from ams_grpc.pb.ams.v1 import metrics_pb2 as _metrics_pb2
from ams_grpc.pb.ams.v1 import options_pb2 as _options_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import empty_pb2 as _empty_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AccessList(_message.Message):
    __slots__ = ("authorized_users",)
    AUTHORIZED_USERS_FIELD_NUMBER: _ClassVar[int]
    authorized_users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, authorized_users: _Optional[_Iterable[str]] = ...) -> None: ...

class Topic(_message.Message):
    __slots__ = ("name", "schema", "created_on")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    CREATED_ON_FIELD_NUMBER: _ClassVar[int]
    name: str
    schema: str
    created_on: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., schema: _Optional[str] = ..., created_on: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class TopicPage(_message.Message):
    __slots__ = ("topics", "next_page_token", "total_size")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedCompositeFieldContainer[Topic]
    next_page_token: str
    total_size: int
    def __init__(self, topics: _Optional[_Iterable[_Union[Topic, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class TopicRequest(_message.Message):
    __slots__ = ("project", "topic")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    project: str
    topic: str
    def __init__(self, project: _Optional[str] = ..., topic: _Optional[str] = ...) -> None: ...

class TopicSchemaRequest(_message.Message):
    __slots__ = ("project", "topic", "schema")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    project: str
    topic: str
    schema: str
    def __init__(self, project: _Optional[str] = ..., topic: _Optional[str] = ..., schema: _Optional[str] = ...) -> None: ...

class ListTopicsRequest(_message.Message):
    __slots__ = ("project", "page_size", "page_token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: str
    page_size: int
    page_token: str
    def __init__(self, project: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class SubscriptionNames(_message.Message):
    __slots__ = ("subscriptions",)
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, subscriptions: _Optional[_Iterable[str]] = ...) -> None: ...

class ModifyTopicAclRequest(_message.Message):
    __slots__ = ("project", "topic", "authorized_users")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZED_USERS_FIELD_NUMBER: _ClassVar[int]
    project: str
    topic: str
    authorized_users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., topic: _Optional[str] = ..., authorized_users: _Optional[_Iterable[str]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("message_id", "attributes", "data", "publish_time")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    PUBLISH_TIME_FIELD_NUMBER: _ClassVar[int]
    message_id: str
    attributes: _containers.ScalarMap[str, str]
    data: str
    publish_time: _timestamp_pb2.Timestamp
    def __init__(self, message_id: _Optional[str] = ..., attributes: _Optional[_Mapping[str, str]] = ..., data: _Optional[str] = ..., publish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("project", "topic", "messages")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    project: str
    topic: str
    messages: _containers.RepeatedCompositeFieldContainer[Message]
    def __init__(self, project: _Optional[str] = ..., topic: _Optional[str] = ..., messages: _Optional[_Iterable[_Union[Message, _Mapping]]] = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("message_ids",)
    MESSAGE_IDS_FIELD_NUMBER: _ClassVar[int]
    message_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, message_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class AuthorizationHeader(_message.Message):
    __slots__ = ("type", "value")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    type: str
    value: str
    def __init__(self, type: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class RetryPolicy(_message.Message):
    __slots__ = ("type", "period")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PERIOD_FIELD_NUMBER: _ClassVar[int]
    type: str
    period: int
    def __init__(self, type: _Optional[str] = ..., period: _Optional[int] = ...) -> None: ...

class PushConfig(_message.Message):
    __slots__ = ("type", "push_endpoint", "max_messages", "authorization_header", "retry_policy", "verification_hash", "verified", "mattermost_url", "mattermost_username", "mattermost_channel", "base64_decode")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    PUSH_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_HEADER_FIELD_NUMBER: _ClassVar[int]
    RETRY_POLICY_FIELD_NUMBER: _ClassVar[int]
    VERIFICATION_HASH_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    MATTERMOST_URL_FIELD_NUMBER: _ClassVar[int]
    MATTERMOST_USERNAME_FIELD_NUMBER: _ClassVar[int]
    MATTERMOST_CHANNEL_FIELD_NUMBER: _ClassVar[int]
    BASE64_DECODE_FIELD_NUMBER: _ClassVar[int]
    type: str
    push_endpoint: str
    max_messages: int
    authorization_header: AuthorizationHeader
    retry_policy: RetryPolicy
    verification_hash: str
    verified: bool
    mattermost_url: str
    mattermost_username: str
    mattermost_channel: str
    base64_decode: bool
    def __init__(self, type: _Optional[str] = ..., push_endpoint: _Optional[str] = ..., max_messages: _Optional[int] = ..., authorization_header: _Optional[_Union[AuthorizationHeader, _Mapping]] = ..., retry_policy: _Optional[_Union[RetryPolicy, _Mapping]] = ..., verification_hash: _Optional[str] = ..., verified: _Optional[bool] = ..., mattermost_url: _Optional[str] = ..., mattermost_username: _Optional[str] = ..., mattermost_channel: _Optional[str] = ..., base64_decode: _Optional[bool] = ...) -> None: ...

class Subscription(_message.Message):
    __slots__ = ("name", "topic", "push_config", "ack_deadline_seconds", "push_status", "created_on")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    PUSH_CONFIG_FIELD_NUMBER: _ClassVar[int]
    ACK_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PUSH_STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATED_ON_FIELD_NUMBER: _ClassVar[int]
    name: str
    topic: str
    push_config: PushConfig
    ack_deadline_seconds: int
    push_status: str
    created_on: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., topic: _Optional[str] = ..., push_config: _Optional[_Union[PushConfig, _Mapping]] = ..., ack_deadline_seconds: _Optional[int] = ..., push_status: _Optional[str] = ..., created_on: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SubscriptionPage(_message.Message):
    __slots__ = ("subscriptions", "next_page_token", "total_size")
    SUBSCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    subscriptions: _containers.RepeatedCompositeFieldContainer[Subscription]
    next_page_token: str
    total_size: int
    def __init__(self, subscriptions: _Optional[_Iterable[_Union[Subscription, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_size: _Optional[int] = ...) -> None: ...

class SubscriptionRequest(_message.Message):
    __slots__ = ("project", "subscription")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ...) -> None: ...

class ListSubscriptionsRequest(_message.Message):
    __slots__ = ("project", "page_size", "page_token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: str
    page_size: int
    page_token: str
    def __init__(self, project: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class CreateSubscriptionRequest(_message.Message):
    __slots__ = ("project", "subscription", "topic", "ack_deadline_seconds", "push_config")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    ACK_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PUSH_CONFIG_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    topic: str
    ack_deadline_seconds: int
    push_config: PushConfig
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., topic: _Optional[str] = ..., ack_deadline_seconds: _Optional[int] = ..., push_config: _Optional[_Union[PushConfig, _Mapping]] = ...) -> None: ...

class PullRequest(_message.Message):
    __slots__ = ("project", "subscription", "max_messages", "wait")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MAX_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    max_messages: int
    wait: bool
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., max_messages: _Optional[int] = ..., wait: _Optional[bool] = ...) -> None: ...

class ReceivedMessage(_message.Message):
    __slots__ = ("ack_id", "message")
    ACK_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ack_id: str
    message: Message
    def __init__(self, ack_id: _Optional[str] = ..., message: _Optional[_Union[Message, _Mapping]] = ...) -> None: ...

class PullReply(_message.Message):
    __slots__ = ("received_messages",)
    RECEIVED_MESSAGES_FIELD_NUMBER: _ClassVar[int]
    received_messages: _containers.RepeatedCompositeFieldContainer[ReceivedMessage]
    def __init__(self, received_messages: _Optional[_Iterable[_Union[ReceivedMessage, _Mapping]]] = ...) -> None: ...

class AcknowledgeRequest(_message.Message):
    __slots__ = ("project", "subscription", "ack_ids")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ACK_IDS_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    ack_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., ack_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class ModifyAckDeadlineRequest(_message.Message):
    __slots__ = ("project", "subscription", "ack_deadline_seconds")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    ACK_DEADLINE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    ack_deadline_seconds: int
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., ack_deadline_seconds: _Optional[int] = ...) -> None: ...

class ModifyPushConfigRequest(_message.Message):
    __slots__ = ("project", "subscription", "push_config")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PUSH_CONFIG_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    push_config: PushConfig
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., push_config: _Optional[_Union[PushConfig, _Mapping]] = ...) -> None: ...

class Offsets(_message.Message):
    __slots__ = ("max", "min", "current")
    MAX_FIELD_NUMBER: _ClassVar[int]
    MIN_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    max: int
    min: int
    current: int
    def __init__(self, max: _Optional[int] = ..., min: _Optional[int] = ..., current: _Optional[int] = ...) -> None: ...

class ModifyOffsetRequest(_message.Message):
    __slots__ = ("project", "subscription", "offset")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    offset: int
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., offset: _Optional[int] = ...) -> None: ...

class TimeToOffsetRequest(_message.Message):
    __slots__ = ("project", "subscription", "time")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    time: str
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., time: _Optional[str] = ...) -> None: ...

class Offset(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class ModifySubscriptionAclRequest(_message.Message):
    __slots__ = ("project", "subscription", "authorized_users")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIPTION_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZED_USERS_FIELD_NUMBER: _ClassVar[int]
    project: str
    subscription: str
    authorized_users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, project: _Optional[str] = ..., subscription: _Optional[str] = ..., authorized_users: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteSubscriptionReply(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...
