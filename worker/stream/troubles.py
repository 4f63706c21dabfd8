"""What goes wrong with a lane: what kind of trouble it is, and how it is told. How a lane goes on is its own affair."""

from __future__ import annotations

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTimestampError,
    KafkaError,
    KafkaTimeoutError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from worker.settings import Settings
from worker.sla.rows import RowDamaged, RowFromFuture
from worker.stream import ledger, rights
from worker.stream.opening import SourceGap
from worker.stream.position import PositionDamaged, PositionFromFuture

#: What only a person mends: the lane stays shut, says why, and looks again now and then.
_STANDING = (
    RowFromFuture,
    RowDamaged,
    PositionFromFuture,
    PositionDamaged,
    ledger.LedgerGap,
    SourceGap,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    InvalidTimestampError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


def kind_of(error: Exception) -> str:
    """`fenced`: somebody else owns the partition; `shut`: only a person mends it; `away`: the broker, or the way to it, is
    missing, and nothing is wrong with the lane; `failed`: anything else.
    """
    if isinstance(error, ProducerFenced):
        return "fenced"
    if isinstance(error, _STANDING):
        return "shut"
    # aiokafka does not call its own time-outs retriable: a partition without a leader answers no question about offsets.
    away = (isinstance(error, KafkaError) and bool(error.retriable)) or isinstance(
        error, (KafkaTimeoutError, OSError, TimeoutError)
    )
    return "away" if away else "failed"


def sentence(error: Exception, settings: Settings) -> str:
    """What is wrong, for a person."""
    if isinstance(error, InvalidTimestampError):
        return "this host's clock is further ahead than the broker takes (an hour by its default): set the clock right"
    told = rights.told(error, settings)
    return told if told != str(error) or isinstance(error, _STANDING) else f"{type(error).__name__}: {error}"
