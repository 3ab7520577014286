"""Where reports live: an SQLite file, or a DynamoDB table when there is one."""

import os
import secrets
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel


class Report(BaseModel):
    id: str
    status: Literal["pending", "ready"]
    content: str | None = None


class Reports(Protocol):
    """Every method blocks, so call them from sync routes and sync tasks: Starlette runs those in threads."""

    def add(self) -> Report: ...
    def finish(self, report_id: str, content: str) -> bool:
        """Make a report ready; False if there is none of this id."""
        ...

    def get(self, report_id: str) -> Report | None: ...
    def latest(self, limit: int) -> list[Report]: ...


def open_reports() -> Reports:
    if table := os.environ.get("REPORTS_TABLE"):
        import boto3  # costs a cold start a few hundred milliseconds, so only where it is used

        return DynamoReports(boto3.client("dynamodb"), table)
    # Lambda's current folder is read-only and its /tmp belongs to one environment: there, give it a table.
    folder = Path.cwd() if os.access(".", os.W_OK) else Path(tempfile.gettempdir())
    return SQLiteReports(os.environ.get("REPORTS_FILE") or folder / "reports.sqlite3")


def new_report() -> Report:
    """Ids sort by time, so that both stores can list the latest by key; the tail keeps them from being guessed."""
    return Report(id=f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(8)}", status="pending")


class SQLiteReports:
    """One connection per call: calls come from many threads and, locally, from many environments at once."""

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._run("CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY, status TEXT NOT NULL, content TEXT)")

    def add(self) -> Report:
        report = new_report()
        self._run("INSERT INTO reports (id, status) VALUES (?, ?)", report.id, report.status)
        return report

    def finish(self, report_id: str, content: str) -> bool:
        sql = "UPDATE reports SET status = 'ready', content = ? WHERE id = ? RETURNING *"
        return bool(self._run(sql, content, report_id))

    def get(self, report_id: str) -> Report | None:
        found = self._run("SELECT * FROM reports WHERE id = ?", report_id)
        return found[0] if found else None

    def latest(self, limit: int) -> list[Report]:
        return self._run("SELECT * FROM reports ORDER BY id DESC LIMIT ?", limit)

    def _run(self, sql: str, *values: str | int) -> list[Report]:
        with closing(sqlite3.connect(self.path, timeout=10)) as connection, connection:
            rows = connection.execute(sql, values).fetchall()
        return [Report(id=id_, status=status, content=content) for id_, status, content in rows]


class DynamoReports:
    """Partition key `kind`, sort key `id`. One partition for all reports makes "the latest" one query; it also caps
    writes at about a thousand a second, plenty for an example."""

    KIND = {"S": "report"}

    def __init__(self, client: Any, table: str) -> None:
        self.client = client
        self.table = table

    def add(self) -> Report:
        report = new_report()
        item = {"kind": self.KIND, "id": {"S": report.id}, "status": {"S": report.status}}
        self.client.put_item(TableName=self.table, Item=item)
        return report

    def finish(self, report_id: str, content: str) -> bool:
        try:
            self.client.update_item(
                TableName=self.table,
                Key={"kind": self.KIND, "id": {"S": report_id}},
                ConditionExpression="attribute_exists(id)",
                UpdateExpression="SET #status = :ready, content = :content",
                ExpressionAttributeNames={"#status": "status"},  # a reserved word of DynamoDB's
                ExpressionAttributeValues={":ready": {"S": "ready"}, ":content": {"S": content}},
            )
        except self.client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def get(self, report_id: str) -> Report | None:
        key = {"kind": self.KIND, "id": {"S": report_id}}
        # Consistent, because a page asks for its report right after the function has written it.
        item = self.client.get_item(TableName=self.table, Key=key, ConsistentRead=True).get("Item")
        return self._report(item) if item else None

    def latest(self, limit: int) -> list[Report]:
        found = self.client.query(
            TableName=self.table,
            KeyConditionExpression="kind = :kind",
            ExpressionAttributeValues={":kind": self.KIND},
            ScanIndexForward=False,
            Limit=limit,
        )
        return [self._report(item) for item in found["Items"]]

    def _report(self, item: dict[str, dict[str, str]]) -> Report:
        return Report.model_validate({name: value["S"] for name, value in item.items() if name != "kind"})
