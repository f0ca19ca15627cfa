"""One suite for the storage of objects: a local folder and an S3 service."""

from __future__ import annotations

import errno
import gzip
import io
import os
import pickle
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, cast
from uuid import uuid4

import pytest
from pydantic import SecretStr

from app.core.settings import DocumentSettings
from app.services.integrations.storage import (
    BLOCK,
    BadObjectKey,
    ObjectMissing,
    ObjectTooLarge,
    Storage,
    StorageRefused,
    StorageUnavailable,
    make_storage,
)
from app.services.integrations.storage_folder import Folder
from laneway.platform.errors import PlatformError
from tests.fixtures.http_peer import HttpPeer, HttpReply
from tests.fixtures.s3 import S3Server
from tests.fixtures.valkey import free_port

MOST = 100 * 1024 * 1024
PREFIX = "in/here"
TIMEOUT = 1.0


@dataclass(frozen=True)
class Store:
    """A storage, and a function that puts objects into it."""

    storage: Storage
    put: Callable[[str, bytes], None]


def local_store(root: Path) -> Store:
    def put(key: str, content: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    return Store(local_storage(root), put)


def local_storage(root: Path) -> Storage:
    return make_storage(DocumentSettings.model_validate({"storage_url": str(root)}), data_dir=Path("/nowhere"))


def s3_store(server: S3Server) -> Store:
    bucket = f"b-{uuid4().hex[:12]}"
    server.put(bucket)

    def put(key: str, content: bytes) -> None:
        server.client().put_object(Bucket=bucket, Key=f"{PREFIX}/{key}", Body=content)

    return Store(s3_storage(server, f"{bucket}/{PREFIX}"), put)


def s3_storage(server: S3Server, place: str, **given: object) -> Storage:
    values = {
        "storage_url": f"s3://{place}",
        "endpoint_url": server.url,
        "access_key_id": SecretStr(server.key_id),
        "secret_access_key": SecretStr(server.secret),
        "storage_timeout": 20,
        **given,
    }
    return make_storage(DocumentSettings.model_validate(values), data_dir=Path("/nowhere"))


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return local_store(tmp_path / "objects")
    return s3_store(request.getfixturevalue("s3_server"))


def fetched(storage: Storage, key: str, *, most: int = MOST) -> bytes:
    into = io.BytesIO()
    size = storage.fetch(key, into, max_bytes=most, progress=lambda _done, _of: None)
    assert size == len(into.getvalue())
    return into.getvalue()


def refused(storage: Storage, key: str, kind: type[PlatformError], *, most: int = MOST) -> PlatformError:
    with pytest.raises(kind) as raised:
        fetched(storage, key, most=most)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)  # noqa: S301
    return raised.value


@pytest.mark.parametrize(
    "key", ["a.txt", "up/load s/Grüße #1?x=%41+&*[0].txt", "versions?versionId=7", "dots...txt", "…", "-rf"]
)
def test_an_object_is_fetched_unchanged_whatever_its_key(store: Store, key: str) -> None:
    store.put(key, b"content\0\xff")

    assert fetched(store.storage, key) == b"content\0\xff"


def test_an_object_with_a_content_encoding_is_fetched_as_it_is_stored(s3_server: S3Server) -> None:
    bucket, packed = f"b-{uuid4().hex[:12]}", gzip.compress(b"content" * 1000)
    s3_server.put(bucket)
    s3_server.client().put_object(Bucket=bucket, Key="in/here/a", Body=packed, ContentEncoding="gzip")

    assert fetched(s3_storage(s3_server, f"{bucket}/{PREFIX}"), "a") == packed


def test_an_empty_object_has_no_bytes(store: Store) -> None:
    store.put("empty", b"")

    assert fetched(store.storage, "empty") == b""


@pytest.mark.parametrize("key", ["none", "folder/none", "folder", "folder/a/b"])
def test_a_path_without_an_object_is_missing(store: Store, key: str) -> None:
    store.put("folder/a", b"x")

    assert "none" in str(refused(store.storage, "none", ObjectMissing))
    assert not refused(store.storage, key, ObjectMissing).retryable


@pytest.mark.parametrize(
    "key",
    [
        "../a",
        "a/../../b",
        "a/..",
        "..",
        ".",
        "./a",
        "/etc/passwd",
        "a//b",
        "",
        "a/",
        "a\0b",
        "a\nb",
        "a\\..\\b",
        "a\ud800",
        "k" * 1025,
        "ü" * 513,
    ],
)
def test_a_key_that_could_lead_out_is_refused(store: Store, key: str) -> None:
    assert not refused(store.storage, key, BadObjectKey).retryable


def test_an_object_of_exactly_the_limit_passes_and_a_byte_more_does_not(store: Store) -> None:
    store.put("just", b"x" * 1000)
    store.put("more", b"x" * 1001)

    assert len(fetched(store.storage, "just", most=1000)) == 1000
    assert "more" in str(refused(store.storage, "more", ObjectTooLarge, most=1000))


def test_a_large_object_needs_the_memory_of_a_few_blocks_and_reports_progress(store: Store) -> None:
    size = 48 * BLOCK + 1
    store.put("small", b"")
    store.put("large", bytes(size))
    told: list[int] = []

    fetched(store.storage, "small")  # The first fetch imports modules and opens connections, which must not count.
    tracemalloc.start()
    with Path(os.devnull).open("wb") as into:
        store.storage.fetch("large", into, max_bytes=size, progress=lambda done, _of: told.append(done))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert told == sorted(told)
    assert told[-1] == size
    assert len(told) >= 48
    assert peak < 8 * BLOCK, f"{peak / 1024**2:.0f} MB"


def test_an_error_of_the_progress_function_ends_the_transfer(store: Store) -> None:
    store.put("large", bytes(3 * BLOCK))

    def stop(done: int, _of: int | None) -> None:
        if done > BLOCK:
            raise KeyError(done)

    with pytest.raises(KeyError):
        store.storage.fetch("large", io.BytesIO(), max_bytes=MOST, progress=stop)


# --- A folder -------------------------------------------------------------------------------------------------------


def test_a_link_out_of_the_folder_is_missing_and_one_inside_is_followed(tmp_path: Path) -> None:
    store = local_store(tmp_path / "objects")
    store.put("a", b"mine")
    (tmp_path / "secret").write_bytes(b"not mine")
    root = tmp_path / "objects"
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    (root / "relative").symlink_to("../secret")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nothing")
    (root / "inside").symlink_to("a")

    for key in ("out", "up/secret", "relative", "loop", "dangling"):
        refused(store.storage, key, ObjectMissing)
    assert fetched(store.storage, "inside") == b"mine"


@pytest.mark.parametrize("swapped", ["sub", "sub/a"])
def test_a_link_created_during_the_open_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    store, outside = local_store(tmp_path / "objects"), tmp_path / "outside"
    store.put("sub/a", b"mine")
    outside.mkdir()
    (outside / "a").write_bytes(b"not mine")
    here, aside, opened = tmp_path / "objects" / swapped, tmp_path / "aside", os.open

    def swapping(path: str | Path, *args: Any, **more: Any) -> int:
        """The link exists only during the open."""
        here.rename(aside)
        here.symlink_to(outside / swapped.removeprefix("sub").lstrip("/"))
        try:
            return opened(path, *args, **more)
        finally:
            here.unlink()
            aside.rename(here)

    monkeypatch.setattr(os, "open", swapping)
    with suppress(ObjectMissing):
        assert fetched(store.storage, "sub/a") == b"mine"


def test_an_unreadable_file_is_a_permanent_error_without_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = local_store(tmp_path / "objects")
    store.put("a", b"x")

    def denied(path: str, *_args: object, **_more: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / path))

    monkeypatch.setattr(os, "open", denied)  # Root may read every file.
    error = refused(store.storage, "a", StorageRefused)

    assert "denied" in str(error)
    assert str(tmp_path) not in str(error)


def test_a_file_that_grows_while_it_is_read_is_rejected(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    store.put("a", bytes(BLOCK + 1))

    def grow(_done: int, _of: int | None) -> None:
        with (tmp_path / "a").open("ab") as file:
            file.write(b"more")

    into = io.BytesIO()
    with pytest.raises(StorageUnavailable):
        store.storage.fetch("a", into, max_bytes=MOST, progress=grow)
    assert len(into.getvalue()) == BLOCK


def test_the_file_system_of_a_folder_opens_for_reading_only(tmp_path: Path) -> None:
    with pytest.raises(NotImplementedError):
        cast("Any", Folder(str(tmp_path))).open(str(tmp_path / "a"), "wb")


def test_a_named_pipe_is_missing_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    refused(local_storage(tmp_path), "pipe", ObjectMissing)


def test_without_the_folder_every_object_is_missing(tmp_path: Path) -> None:
    refused(local_storage(tmp_path / "none"), "a", ObjectMissing)


# --- An S3 service --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"secret_access_key": SecretStr("wrong")}, {"access_key_id": SecretStr("NOBODY")}])
def test_wrong_keys_are_a_permanent_error_that_names_the_settings(
    s3_server: S3Server, given: dict[str, SecretStr]
) -> None:
    s3_server.put("locked", a=b"x")

    error = refused(s3_storage(s3_server, "locked", **given), "a", StorageRefused)

    assert not error.retryable
    assert "STORAGE_" in str(error)
    assert s3_server.secret not in str(error)


def test_a_missing_bucket_is_a_permanent_error(s3_server: S3Server) -> None:
    assert "bucket" in str(refused(s3_storage(s3_server, "no-such-bucket"), "a", StorageRefused))


def at(url: str, *, timeout: float = TIMEOUT) -> Storage:
    return s3_storage(S3Server(url, "key", "secret"), "bucket", storage_timeout=timeout)


def test_an_unreachable_server_is_retryable() -> None:
    assert refused(at(f"http://127.0.0.1:{free_port()}"), "a", StorageUnavailable).retryable


@pytest.mark.parametrize(
    "script",
    [
        [HttpReply(503), HttpReply(503)],
        [HttpReply(500), HttpReply(500)],
        [HttpReply(503, {}, "<Error><Code>SlowDown</Code></Error>"), HttpReply(503)],
        [HttpReply(200, delay=30), HttpReply(200, delay=30)],
        [HttpReply(200, {}, b"x" * 10, drip=0.3)],
        [HttpReply(200, {}, b"x" * 10, stall_after=5)],
        [HttpReply(hang_up=True), HttpReply(hang_up=True)],
    ],
    ids=["503", "500", "slow down", "silent", "dripping", "stalled", "hung up"],
)
def test_a_failing_server_is_retryable_within_bounded_time(http_peer: HttpPeer, script: list[HttpReply]) -> None:
    http_peer.reply_with(*script)
    http_peer.always = HttpReply(503)
    before = monotonic()

    assert refused(at(http_peer.url), "a", StorageUnavailable).retryable
    assert monotonic() - before < 10 * TIMEOUT


def test_a_response_without_a_size_is_refused_by_name(http_peer: HttpPeer) -> None:
    http_peer.reply_with(HttpReply(200, {"Transfer-Encoding": "chunked"}, b"1\r\nx\r\n0\r\n\r\n"))

    assert "does not report the object's size" in str(refused(at(http_peer.url, timeout=20), "a", StorageRefused))
