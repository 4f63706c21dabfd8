"""A connection that ends while it is written to, on uvloop and a real broker: aiokafka asks again, on our loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient

from worker.stream.loops import Loop


def run(loop: asyncio.AbstractEventLoop, story: Any) -> None:
    try:
        loop.run_until_complete(story)
    finally:
        loop.close()


async def one_whose_connections_end(url: str, ends: list[bool]) -> AIOKafkaClient:
    """A client; its next connections end, or don't, after it has looked at them and before it writes."""
    client = AIOKafkaClient(bootstrap_servers=url)
    await client.bootstrap()
    connect = client._get_conn

    async def found(*node: Any, **more: Any) -> Any:
        connection = await connect(*node, **more)
        if ends and ends.pop(0):
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # the loop lets it go; its reader hears of it a turn later
        return connection

    client._get_conn = found
    return client


def test_aiokafka_fetches_metadata_again_when_a_connection_ended_under_the_question(kafka) -> None:
    async def story() -> None:
        client = await one_whose_connections_end(kafka.url, [True, False])
        try:
            assert await asyncio.wait_for(client.force_metadata_update(), 20) is False
            assert await asyncio.wait_for(client.force_metadata_update(), 20) is True
        finally:
            await client.close()

    run(Loop(), story())


def test_on_uvloop_itself_nobody_ever_answers(kafka) -> None:
    """What our loop is for. When this fails, uvloop or aiokafka has changed, and it can go."""

    async def story() -> None:
        client = await one_whose_connections_end(kafka.url, [True])
        question = client.force_metadata_update()
        await asyncio.wait([client._sync_task])
        assert isinstance(client._sync_task.exception(), RuntimeError)
        assert not question.done()
        client._sync_task = None
        await client.close()

    run(uvloop.new_event_loop(), story())


@pytest.mark.parametrize("write", ["write", "writelines"])
def test_a_connection_that_is_gone_is_reset_for_whoever_writes(write: str) -> None:
    async def story() -> None:
        _, writer = await asyncio.open_connection(*server.getsockname())
        getattr(writer, write)(b"before" if write == "write" else [b"be", b"fore"])
        await writer.drain()
        writer.transport.abort()
        await asyncio.sleep(0)
        with pytest.raises(ConnectionResetError, match="closed"):
            getattr(writer, write)(b"after" if write == "write" else [b"after"])

    with socket.create_server(("127.0.0.1", 0)) as server:
        run(Loop(), story())
