"""Settings of documents: storage, limits, and impossible combinations."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.settings import ROOT, load_settings
from laneway.platform.errors import ConfigError
from tests.fixtures.platform import Environment

S3 = {
    "STORAGE_URL": "s3://bucket/some/prefix",
    "STORAGE_ACCESS_KEY_ID": "k",
    "STORAGE_SECRET_ACCESS_KEY": "hidden-word",
}


@pytest.fixture(autouse=True)
def _clean(environment: Environment) -> None:
    """Ignore the settings of this machine."""


def test_without_a_setting_objects_are_files_in_the_data_folder() -> None:
    documents = load_settings().documents

    assert not documents.on_s3
    assert documents.folder(Path("/data")) == Path("/data/objects")
    assert (documents.max_bytes, documents.max_text_bytes) == (200 * 1024**2, 10 * 1024**2)


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("/srv/objects", Path("/srv/objects")),
        ("file:///srv/my%20objects", Path("/srv/my objects")),
        ("in", ROOT / "in"),
    ],
)
def test_a_folder_may_be_named(environment: Environment, given: str, folder: Path) -> None:
    environment(STORAGE_URL=given)

    assert load_settings().documents.folder(Path("/data")) == folder


def test_a_bucket_has_a_name_and_an_optional_prefix(environment: Environment) -> None:
    environment(**S3)

    documents = load_settings().documents

    assert documents.on_s3
    assert documents.bucket_and_prefix == ("bucket", "some/prefix")


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"STORAGE_URL": "s3://bucket"}, "STORAGE_ACCESS_KEY_ID and STORAGE_SECRET_ACCESS_KEY"),
        ({**S3, "STORAGE_SECRET_ACCESS_KEY": ""}, "STORAGE_SECRET_ACCESS_KEY"),
        ({**S3, "STORAGE_URL": "s3://"}, "s3://bucket"),
        ({**S3, "STORAGE_URL": "s3://bucket?x=1"}, "s3://bucket"),
        ({**S3, "STORAGE_ENDPOINT_URL": "localhost:9000"}, "STORAGE_ENDPOINT_URL"),
        ({**S3, "STORAGE_URL": "/srv"}, "STORAGE_ACCESS_KEY_ID, STORAGE_SECRET_ACCESS_KEY needs"),
        ({"STORAGE_ENDPOINT_URL": "https://r2.example.com"}, "STORAGE_ENDPOINT_URL needs a STORAGE_URL"),
        ({"STORAGE_URL": "gs://bucket"}, "STORAGE_URL must be"),
        ({"STORAGE_URL": "file://host/folder"}, "STORAGE_URL must be"),
        ({"DOCUMENT_MAX_TEXT_BYTES": str(51 * 1024**2)}, "DOCUMENT_MAX_TEXT_BYTES"),
        ({"DOCUMENT_CPU_SECONDS": "80"}, "TASK_SOFT_TIME_LIMIT"),
        ({"DOCUMENT_CPU_SECONDS": "10", "TASK_SOFT_TIME_LIMIT": "30"}, "TASK_SOFT_TIME_LIMIT"),
    ],
)
def test_an_impossible_setting_is_refused_by_name(environment: Environment, given: dict[str, str], named: str) -> None:
    environment(**given)

    with pytest.raises(ConfigError) as refused:
        load_settings()

    assert named in str(refused.value)
    assert "hidden-word" not in str(refused.value)


def test_reading_ends_within_the_time_limit_of_the_task(environment: Environment) -> None:
    environment(TASK_SOFT_TIME_LIMIT="40")

    assert load_settings().extraction_seconds == 10
