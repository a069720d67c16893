"""A dataset says which vector store its index is in, and can be moved to another.

Revision: 0026, after 0025
"""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

# What the rows themselves say. A dataset with vectors in both is left to VECTOR_STORE.
WHERE_VECTORS_ARE = """
    UPDATE datasets SET vector_store = CASE WHEN places.in_database THEN 'pgvector' ELSE 'qdrant' END
    FROM (
        SELECT dataset.id,
               EXISTS (
                   SELECT FROM documents AS document
                   JOIN segment_vectors AS vector ON vector.document_id = document.id
                   WHERE document.dataset_id = dataset.id
                     AND vector.version = document.active_version
                     AND vector.generation = dataset.index_generation
               ) AS in_database,
               EXISTS (
                   SELECT FROM documents AS document
                   JOIN vector_writes AS write ON write.document_id = document.id
                   WHERE document.dataset_id = dataset.id
                     AND write.version = document.active_version
                     AND write.generation = dataset.index_generation AND write.is_live
               ) AS in_qdrant
        FROM datasets AS dataset
        WHERE dataset.indexing_technique = 'high_quality'
    ) AS places
    WHERE places.id = datasets.id AND places.in_database <> places.in_qdrant
"""


def upgrade() -> None:
    for table in ("datasets", "dataset_index_builds"):
        op.add_column(table, sa.Column("vector_store", sa.String(length=16), nullable=True))
        op.create_check_constraint(
            op.f(f"ck_{table}_vector_store"), table, "vector_store IN ('pgvector', 'qdrant')"
        )
    for name in ("samples", "batch_segments"):
        op.add_column("dataset_index_builds", sa.Column(name, sa.Integer(), nullable=True))
    op.add_column(
        "dataset_index_builds", sa.Column("requested_by", sa.String(length=255), nullable=True)
    )
    op.add_column(
        "index_build_documents", sa.Column("verified_token", sa.BigInteger(), nullable=True)
    )
    op.add_column("index_build_documents", sa.Column("vectors", sa.Integer(), nullable=True))
    op.execute(WHERE_VECTORS_ARE)


def downgrade() -> None:
    for name in ("vectors", "verified_token"):
        op.drop_column("index_build_documents", name)
    for name in ("requested_by", "batch_segments", "samples"):
        op.drop_column("dataset_index_builds", name)
    for table in ("dataset_index_builds", "datasets"):
        op.drop_constraint(op.f(f"ck_{table}_vector_store"), table)
        op.drop_column(table, "vector_store")
