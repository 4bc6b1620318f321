"""What machines share: PostgreSQL and a bucket. Each has a disk of its own."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import boto3  # type: ignore[import-untyped]
import psycopg2
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem  # type: ignore[import-untyped]

from dbt_orchestration.settings import postgres
from tests.e2e.running import free_port
from tests.postgres.server import Server, postgresql

# What stands in the environment of each machine, and nowhere else.
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAMACHINES", "AWS_SECRET_ACCESS_KEY": "b0cket-s3cret"}


@dataclass
class Bucket:
    """S3, which can be stopped; ``host`` is where machines look for it."""

    name: str = "dagster"
    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    server: ThreadedMotoServer | None = None

    @property
    def variables(self) -> Mapping[str, str]:
        """Of each machine's environment."""
        return {
            **KEYS,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": f"http://{self.host}:{self.port}",
            # What cannot be reached is not tried for long.
            "AWS_MAX_ATTEMPTS": "1",
        }

    @property
    def instance(self) -> dict[str, Any]:
        """The dagster.yaml of each machine."""
        return {
            "storage": dict(postgres.STORAGE),
            "defs_state_storage": {
                "module": "dagster",
                "class": "UPathDefsStateStorage",
                "config": {"base_path": f"s3://{self.name}/states"},
            },
        }

    @property
    def client(self) -> Any:
        names = ("aws_access_key_id", "aws_secret_access_key")
        keys = dict(zip(names, KEYS.values(), strict=True))
        url = self.variables["AWS_ENDPOINT_URL"]
        return boto3.client("s3", "eu-west-1", endpoint_url=url, **keys)

    @property
    def stored(self) -> list[str]:
        """The keys of what is in it."""
        listed = self.client.list_objects_v2(Bucket=self.name)
        return [each["Key"] for each in listed.get("Contents", ())]

    def start(self) -> None:
        self.server = ThreadedMotoServer("0.0.0.0", self.port, verbose=False)
        self.server.start()

    def stop(self) -> None:
        """What is in it stays."""
        assert self.server
        self.server.stop()

    def make(self) -> None:
        place = {"LocationConstraint": "eu-west-1"}
        self.client.create_bucket(Bucket=self.name, CreateBucketConfiguration=place)

    def lose(self) -> None:
        self.client.delete_bucket_policy(Bucket=self.name)
        for key in self.stored:
            self.client.delete_object(Bucket=self.name, Key=key)
        self.client.delete_bucket(Bucket=self.name)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with postgresql() as server:
        yield server


@pytest.fixture(scope="module")
def database(server: Server) -> str:
    """The URL of a new one."""
    made = f"dagster_{uuid4().hex}"
    with closing(psycopg2.connect(server.url)) as connection:
        connection.autocommit = True
        connection.cursor().execute(f"create database {made}")
    return postgres.with_driver(server.url).replace("/postgres", f"/{made}")


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    S3FileSystem.clear_instance_cache()  # it would ask where an earlier bucket was
    bucket = Bucket()
    bucket.start()
    bucket.make()
    yield bucket
    bucket.lose()
    bucket.stop()
