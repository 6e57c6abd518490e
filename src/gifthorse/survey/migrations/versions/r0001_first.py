"""People and their answers."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "study",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("checksum", sa.String(64), nullable=False),
    )
    op.create_table(
        "people",
        sa.Column("number", sa.String(16), primary_key=True),
        sa.Column("person", sa.String(64), nullable=False, unique=True),
        sa.Column("token", sa.String(64), nullable=False, unique=True),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("consent", sa.String(64), nullable=False),
        sa.Column("began", sa.Float, nullable=False),
        sa.Column("pages", sa.Text, nullable=False),
    )
    op.create_table(
        "answers",
        sa.Column("number", sa.String(16), sa.ForeignKey("people.number", ondelete="CASCADE"), primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("question", sa.String(64), nullable=False),
        sa.Column("choice", sa.String(16), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.UniqueConstraint("number", "question", name="one_answer_per_question"),
    )


def downgrade() -> None:
    """Drop the tables."""
    for name in ("answers", "people", "study"):
        op.drop_table(name)
