"""Alembic through Flask-Migrate."""

from pathlib import Path

from alembic.config import Config
from flask import Flask
from flask_migrate import Migrate

from shared.models import db
from shared.models.types import MYSQL

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def init_app(app: Flask) -> None:
    """Register the migration commands for the models' metadata."""
    migrate = Migrate(app, db, directory=str(MIGRATIONS), compare_type=True)
    migrate.configure(_choose)


def _choose(config: Config) -> Config:
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(versions(db.engine.dialect.name)))
    return config


def versions(dialect: str) -> Path:
    """Where the migrations of a kind of database are."""
    return MIGRATIONS / "mysql" / "versions" if dialect in MYSQL else MIGRATIONS / "versions"
