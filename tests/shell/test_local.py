"""The embedded broker and Redis, for real: started, killed, damaged, left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from worker.local import Kafka, LocalError, Stack, Valkey, at_hand, jars, probing
from worker.local.valkey import binary

pytestmark = pytest.mark.skipif(binary() is None, reason="needs the embedded Redis, which this platform doesn't have")


def is_alive(pid: int) -> bool:
    """Running, and not a zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, what: str, seconds: float = 30.0) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def kafka_call(port: int, api: int, version: int, body: bytes) -> bytes:
    """One request of Kafka's protocol, so that these tests need no client: its answer after the correlation id."""
    head = api.to_bytes(2) + version.to_bytes(2) + (7).to_bytes(4) + (4).to_bytes(2) + b"test"
    with socket.create_connection(("127.0.0.1", port), 5) as link:
        link.sendall(len(head + body).to_bytes(4) + head + body)
        stream = link.makefile("rb")
        answer = stream.read(int.from_bytes(stream.read(4)))
    assert answer[:4] == (7).to_bytes(4)
    return answer[4:]


def create_topic(port: int, name: str) -> None:
    """CreateTopics (19) version 2: one partition, one replica."""
    text = name.encode()
    one = len(text).to_bytes(2) + text + (1).to_bytes(4) + (1).to_bytes(2) + bytes(4) + bytes(4)
    kafka_call(port, 19, 2, (1).to_bytes(4) + one + (5000).to_bytes(4) + b"\0")


def has_topic(port: int, name: str) -> bool:
    """Metadata (3) version 4 of all topics: whether this one is among them."""
    text = name.encode()
    return len(text).to_bytes(2) + text in kafka_call(port, 3, 4, (2**32 - 1).to_bytes(4) + b"\0")


def port_of(url: str) -> int:
    return int(url.removesuffix("/0").rpartition(":")[2])


def listeners(pid: int) -> set[str]:
    """The addresses at which this process listens, from the kernel's tables, as hex."""
    sockets = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = str(entry.readlink())
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in sockets:
                found.add(columns[1].partition(":")[0])
    return found


def test_both_answer_and_a_stop_leaves_no_process(tmp_path):
    with Stack(tmp_path, say=print) as stack:
        assert probing.kafka_answers(port_of(stack.kafka_url))
        assert probing.valkey_answers(port_of(stack.redis_url))
        pids = stack.kafka.pid, stack.valkey.pid
        assert all(map(is_alive, pids))
    assert not any(map(is_alive, pids))
    assert not probing.kafka_answers(port_of(stack.kafka_url))


def test_what_it_says_tells_where_it_listens_and_where_the_data_is(tmp_path):
    said = []
    with Kafka(tmp_path / "apart", say=said.append), Stack(tmp_path, say=said.append) as stack:
        pass
    assert any(stack.kafka_url in line and str(tmp_path) in line for line in said)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: the kernel's socket tables tell who listens where")
def test_nobody_listens_beyond_loopback(tmp_path):
    with Stack(tmp_path, say=print) as stack:
        addresses = listeners(stack.kafka.pid) | listeners(stack.valkey.pid)
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same as IPv6 writes it
    assert addresses
    assert addresses <= loopback


def test_two_do_not_share_a_folder_and_the_second_is_told_who_has_it(tmp_path):
    second = textwrap.dedent(f"""
        from pathlib import Path
        from worker.local import Valkey, LocalError
        try:
            Valkey(Path({str(tmp_path)!r}), say=print).start()
        except LocalError as error:
            print(error)
    """)
    with Valkey(tmp_path, say=print) as first:
        told = subprocess.run([sys.executable, "-c", second], capture_output=True, text=True, check=True).stdout
        assert f"process {os.getpid()}" in told
        assert str(tmp_path) in told
        assert "SLA_DATA_DIR" in told
        assert first.alive
    with Valkey(tmp_path, say=print) as later:  # given back: free again
        assert later.alive


def test_a_broker_killed_with_9_starts_again_on_its_port_with_its_data(tmp_path):
    with Kafka(tmp_path, say=print) as kafka:
        url, port = kafka.url, port_of(kafka.url)
        create_topic(port, "kept-through-a-kill")
        wait_for(lambda: has_topic(port, "kept-through-a-kill"), "the topic is made")
        kafka.kill()
        assert not kafka.alive
        assert not probing.kafka_answers(port)
        kafka.start()
        assert kafka.url == url
        assert has_topic(port, "kept-through-a-kill")
    with Kafka(tmp_path, say=print) as next_day:
        assert has_topic(port_of(next_day.url), "kept-through-a-kill")


def test_a_missing_topic_stays_missing(tmp_path):
    with Kafka(tmp_path, say=print) as kafka:
        name = b"nobody-made-this"
        asked = (1).to_bytes(4) + len(name).to_bytes(2) + name + b"\1"  # allowed to be made, says the client
        kafka_call(port_of(kafka.url), 3, 4, asked)
        assert not has_topic(port_of(kafka.url), name.decode())


OWNER = """
import sys, threading, time
from pathlib import Path
from worker.local import {server}
server = {server}(Path({folder!r}), say=lambda line: None)
starter = threading.Thread(target=server.start)  # a thread that ends: the child must not end with it
starter.start()
starter.join()
time.sleep(0.3)
print(server.pid, server.alive, flush=True)
time.sleep(600)
"""


def owner_of(server: str, folder: Path) -> tuple[subprocess.Popen, int]:
    """Another process that owns such a server: it and the server's pid."""
    code = OWNER.format(server=server, folder=str(folder))
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pid, alive = owner.stdout.readline().split()
    owner.stdout.close()
    assert alive == "True"
    return owner, int(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: elsewhere the next start ends what was left behind")
def test_when_its_owner_is_killed_with_9_the_broker_dies_too_and_the_folder_is_free(tmp_path):
    owner, broker = owner_of("Kafka", tmp_path)
    owner.kill()
    owner.wait()
    wait_for(lambda: not is_alive(broker), "the broker died with its owner")
    with Kafka(tmp_path, say=print) as kafka:
        assert kafka.pid != broker


def test_a_server_that_was_left_behind_is_ended_before_the_next_one(tmp_path):
    # What macOS leaves after a kill -9: the server runs, its pid file lies there, nobody has the lock.
    command = [str(binary()), "--port", "0", "--dir", str(tmp_path), "--set-proc-title", "no"]
    left = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    (tmp_path / "pid").write_text(f"{left.pid}\n")
    with Valkey(tmp_path, say=print) as valkey:
        assert left.wait(5) is not None
        assert valkey.pid != left.pid


def test_a_pid_that_belongs_to_somebody_else_by_now_is_left_alone(tmp_path):
    bystander = subprocess.Popen(["sleep", "600"])
    (tmp_path / "pid").write_text(f"{bystander.pid}\n")
    try:
        with Valkey(tmp_path, say=print):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_cannot_start_says_why_and_frees_the_folder(tmp_path):
    (tmp_path / "appendonlydir").write_text("a file where a folder must be")
    with pytest.raises(LocalError, match=r"Valkey ended while starting[\s\S]*appendonly"):
        Valkey(tmp_path, say=print).start()
    (tmp_path / "appendonlydir").unlink()
    with Valkey(tmp_path, say=print) as valkey:
        assert valkey.alive


def test_it_stops_on_sigterm_within_its_patience_even_when_it_hangs(tmp_path):
    with Valkey(tmp_path, say=print) as valkey:
        pid = valkey.pid
        os.kill(pid, signal.SIGSTOP)  # SIGTERM will not be heard
    assert not is_alive(pid)


def some_jar() -> jars.Jar:
    return next(jar for jar in jars.pinned() if jar.coordinate.startswith("org.slf4j:slf4j-api:"))


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 cut short", None], ids=["empty", "cut short", "one bit turned"])
def test_a_damaged_jar_is_noticed_and_fetched_again(tmp_path, damage):
    jar = some_jar()
    jars.class_path(print, folder=tmp_path, jars=[jar])
    file = tmp_path / jar.file_name
    whole = file.read_bytes()
    file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:] if damage is None else damage)
    said = []
    jars.class_path(said.append, folder=tmp_path, jars=[jar])
    assert file.read_bytes() == whole
    assert any(jar.file_name in line and "damaged" in line for line in said)
    assert not list(tmp_path.glob(".fetching-*"))


def test_a_sound_cache_is_not_fetched_again(tmp_path):
    jar = some_jar()
    jars.class_path(print, folder=tmp_path, jars=[jar])
    said = []
    assert jars.class_path(said.append, folder=tmp_path, jars=[jar]) == str(tmp_path / jar.file_name)
    assert said == []


def test_a_jar_with_another_checksum_is_refused_and_the_way_out_is_named(tmp_path):
    jar = some_jar()
    altered = jars.Jar(jar.coordinate, "0" * 64, jar.size)
    with pytest.raises(LocalError) as refused:
        jars.class_path(print, folder=tmp_path, jars=[altered])
    for word in (jar.coordinate, "checksum", str(tmp_path / jar.file_name), "KAFKA_URL"):
        assert word in str(refused.value)
    assert not (tmp_path / jar.file_name).exists()


def test_every_pinned_jar_has_a_checksum_and_the_broker_and_its_client_are_of_one_version():
    pinned = jars.pinned()
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in pinned)
    versions = {jar.coordinate.rpartition(":")[2] for jar in pinned if jar.coordinate.startswith("org.apache.kafka:")}
    assert versions == {jars.KAFKA_VERSION}


def test_a_command_beside_it_finds_the_server_that_runs_and_none_that_has_ended(tmp_path):
    assert at_hand(tmp_path / "never") == {}
    with Valkey(tmp_path / "valkey", say=print) as server:
        assert at_hand(tmp_path) == {"REDIS_URL": server.url}
        server.kill()
        assert at_hand(tmp_path) == {}  # its name is still there, it does not answer
    assert at_hand(tmp_path) == {}
