"""IAM's permissions and AMS's actions: which stands for which. One truth, two vocabularies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ams_grpc.broker.iam import PERMISSIONS

ACTION_OF: Final[Mapping[str, str]] = {
    "pubsub.topics.create": "topics:create",
    "pubsub.topics.get": "topics:show",
    "pubsub.topics.list": "topics:list",
    "pubsub.topics.update": "topics:create",
    "pubsub.topics.delete": "topics:delete",
    "pubsub.topics.publish": "topics:publish",
    "pubsub.topics.attachSubscription": "subscriptions:create",
    "pubsub.topics.detachSubscription": "subscriptions:delete",
    "pubsub.topics.getIamPolicy": "topics:acl",
    "pubsub.topics.setIamPolicy": "topics:modifyAcl",
    "pubsub.subscriptions.create": "subscriptions:create",
    "pubsub.subscriptions.get": "subscriptions:show",
    "pubsub.subscriptions.list": "subscriptions:list",
    "pubsub.subscriptions.update": "subscriptions:create",
    "pubsub.subscriptions.delete": "subscriptions:delete",
    "pubsub.subscriptions.consume": "subscriptions:pull",
    "pubsub.subscriptions.getIamPolicy": "subscriptions:acl",
    "pubsub.subscriptions.setIamPolicy": "subscriptions:modifyAcl",
    "pubsub.snapshots.create": "subscriptions:create",
    "pubsub.snapshots.get": "subscriptions:show",
    "pubsub.snapshots.list": "subscriptions:list",
    "pubsub.snapshots.update": "subscriptions:create",
    "pubsub.snapshots.delete": "subscriptions:delete",
    "pubsub.snapshots.seek": "subscriptions:modifyOffset",
    "pubsub.snapshots.getIamPolicy": "subscriptions:acl",
    "pubsub.snapshots.setIamPolicy": "subscriptions:modifyAcl",
    "pubsub.schemas.create": "schemas:create",
    "pubsub.schemas.get": "schemas:show",
    "pubsub.schemas.list": "schemas:list",
    "pubsub.schemas.listRevisions": "schemas:show",
    "pubsub.schemas.commit": "schemas:update",
    "pubsub.schemas.rollback": "schemas:update",
    "pubsub.schemas.delete": "schemas:delete",
    "pubsub.schemas.validate": "schemas:validateMessage",
    "pubsub.schemas.attach": "topics:attachSchema",
    "pubsub.schemas.getIamPolicy": "schemas:show",
    "pubsub.schemas.setIamPolicy": "schemas:update",
}
"""The action that includes each permission; what AMS does not have is given with what it has."""

_ALL: Final = frozenset().union(*PERMISSIONS.values())
_READS: Final = ("get", "list", "listRevisions", "validate")
_VIEWER: Final = frozenset(each for each in _ALL if each.rpartition(".")[2] in _READS)
_EDITOR: Final = frozenset(each for each in _ALL if not each.endswith("IamPolicy"))

PUBLISHER_ROLE: Final = "roles/pubsub.publisher"
SUBSCRIBER_ROLE: Final = "roles/pubsub.subscriber"

IAM_ROLES: Final[Mapping[str, frozenset[str]]] = {
    PUBLISHER_ROLE: frozenset({"pubsub.topics.publish"}),
    SUBSCRIBER_ROLE: frozenset(
        {
            "pubsub.subscriptions.consume",
            "pubsub.snapshots.seek",
            "pubsub.topics.attachSubscription",
        }
    ),
    "roles/pubsub.viewer": _VIEWER,
    "roles/pubsub.editor": _EDITOR,
    "roles/pubsub.admin": _ALL,
    "roles/viewer": _VIEWER,
    "roles/editor": _EDITOR,
    "roles/owner": _ALL,
}
"""Pub/Sub: the permissions of each role."""

LIST_ROLES: Final[Mapping[str, str]] = {
    "topics": PUBLISHER_ROLE,
    "subscriptions": SUBSCRIBER_ROLE,
}
"""The role whose unconditional bindings are a resource's access list of AMS."""
