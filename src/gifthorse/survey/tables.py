"""The tables, as SQLAlchemy Core; `migrations` makes them."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()

study = Table(
    "study",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("checksum", String(64), nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("number", String(16), primary_key=True),
    Column("person", String(64), nullable=False, unique=True),
    Column("token", String(64), nullable=False, unique=True),
    Column("slot", Integer, nullable=False),
    Column("consent", String(64), nullable=False),
    Column("began", Float, nullable=False),
    Column("pages", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("number", String(16), ForeignKey("people.number", ondelete="CASCADE"), primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("question", String(64), nullable=False),
    Column("choice", String(16), nullable=False),
    Column("at", Float, nullable=False),
    UniqueConstraint("number", "question", name="one_answer_per_question"),
)
