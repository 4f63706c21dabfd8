"""The board's store in Redis. So far: does it answer?"""

from __future__ import annotations

import redis

_PATIENCE_S = 3.0


def unreachable(url: str) -> str | None:
    """Why the Redis of this URL does not answer, or None when it does."""
    client: redis.Redis | None = None
    try:
        client = redis.Redis.from_url(url, socket_timeout=_PATIENCE_S, socket_connect_timeout=_PATIENCE_S)
        client.ping()
    except (redis.RedisError, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        if client is not None:
            client.close()
    return None
