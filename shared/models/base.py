"""The declarative base, the Flask-SQLAlchemy object, and columns every table shares."""

from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID, uuid4

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import MetaData, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shared.models.types import ID, MOMENT

NAMING_CONVENTION = {
    "ix": "ix_%(column_0_N_label)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

Timestamp = Annotated[datetime, mapped_column(MOMENT)]


class Base(DeclarativeBase):
    """All tables; usable with a plain SQLAlchemy session, no Flask needed."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map: ClassVar = {UUID: ID}


class Identified:
    """A random primary key, made by the application so that a producer knows it at once."""

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)


class Created:
    """When the row was written, by the database's clock."""

    created_at: Mapped[Timestamp] = mapped_column(MOMENT, server_default=func.now())


db = SQLAlchemy(metadata=Base.metadata)
