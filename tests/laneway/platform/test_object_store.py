"""The two places for large payloads keep the same promises: a folder, and an S3 service."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from laneway.platform.errors import ConfigError
from laneway.platform.object_store import FolderStore, FsspecStore, ObjectStore, StorageUnavailable, object_store
from laneway.platform.settings import TaskSettings
from tests.fixtures.s3 import S3Server


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    if request.param == "folder":
        (tmp_path / "payloads").mkdir()
        return object_store(f"file://{tmp_path}/payloads")
    server: S3Server = request.getfixturevalue("s3_server")
    bucket = f"payloads-{tmp_path.name.lower().replace('_', '-')}"[:60].strip("-")
    server.client().create_bucket(Bucket=bucket)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return object_store(f"s3://{bucket}/platform")


def test_contents_are_written_read_listed_and_deleted(store: ObjectStore) -> None:
    assert store.read("a/1") is None
    store.write("a/1", b"one")
    store.write("a/2", b"two" * 100_000)
    store.write("b/1", b"three")
    assert (store.read("a/1"), store.read("b/1")) == (b"one", b"three")
    assert sorted(store.names(older_than=-5)) == ["a/1", "a/2", "b/1"]
    assert sorted(store.names("a", older_than=-5)) == ["a/1", "a/2"]
    assert list(store.names(older_than=3600)) == []
    store.write("a/1", b"new")
    assert store.read("a/1") == b"new"
    store.delete(["a/1", "a/2", "none/none"])
    assert list(store.names(older_than=-5)) == ["b/1"]
    assert store.read("a/1") is None


def test_only_our_user_reads_what_lies_in_a_folder(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        FolderStore(tmp_path).write("a/1", b"one")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "1").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_is_not_there_has_lost_nothing(tmp_path: Path) -> None:
    away = FolderStore(tmp_path / "not-mounted")
    with pytest.raises(StorageUnavailable, match="No such file"):
        away.read("a/1")


def test_a_folder_that_refuses_a_write_keeps_nothing_half(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailable, match="PAYLOAD_STORAGE"):
        FolderStore(tmp_path).write("a/1", b"one")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_service_that_is_away_is_named_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(StorageUnavailable, match="PAYLOAD_STORAGE"):
        FsspecStore("s3", "bucket").write("a/1", b"one")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("url", ["", "folder", "s3://", "://x"])
def test_an_address_that_cannot_be_one_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="PAYLOAD_STORAGE"):
        object_store(url).write("a/1", b"")


def test_a_kind_of_storage_that_is_not_installed_is_named() -> None:
    with pytest.raises((ConfigError, StorageUnavailable), match="PAYLOAD_STORAGE"):
        object_store("nosuch://bucket/x").write("a/1", b"")


def test_settings_refuse_an_address_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("folder", "s3://", "://x"):
        monkeypatch.setenv("PAYLOAD_STORAGE", url)
        with pytest.raises(ValidationError, match="PAYLOAD_STORAGE must be an address"):
            TaskSettings()  # pyright: ignore[reportCallIssue] - its fields come from the environment
