"""Which handler answers an operation. What is not in here is 501 NotImplemented."""

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from gateway.s3.codec import OPERATIONS_BY_NAME

Handler = Callable[[Any, Any], Awaitable[Any]]


def method_name(operation: str) -> str:
    """`ListObjectsV2` is answered by the method list_objects_v2."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower()


def collect(resources: Iterable[object]) -> dict[str, Handler]:
    """The handlers of all operations that some resource class has a method for."""
    registry: dict[str, Handler] = {}
    for resource in resources:
        for operation in OPERATIONS_BY_NAME:
            handler = getattr(resource, method_name(operation), None)
            if handler is not None:
                assert operation not in registry, f"two handlers for {operation}"
                registry[operation] = handler
    return registry
