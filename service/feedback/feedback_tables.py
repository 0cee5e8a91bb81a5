"""The table of feedback: one row per answer and person; a second thumb replaces the first."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Index, String, Table, Text

from service.database.metadata import METADATA, UtcTime

FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("answer", String(64), nullable=False),  # ans_…, the journal's req_… with another prefix
    Column("user", String(256), nullable=False),
    Column("time", UtcTime, nullable=False),
    Column("rating", String(8), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("comment", Text, nullable=False),
    Column("correction", Text, nullable=False),
    Column("consent", Boolean, nullable=False),  # to be used for training
    Column("messages", Text, nullable=False),  # JSON: the conversation up to the answer; with consent only
    Column("text", Text, nullable=False),  # the answer; with consent only
    Column("titles", Text, nullable=False),  # JSON: the sections that were cited
    Column("version", String(256), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reviewer", String(256), nullable=False),
    Column("reviewed", UtcTime),
    Index("feedback_by_answer", "tenant", "answer", "user", unique=True),
    Index("feedback_by_state", "tenant", "state", "time"),
)
