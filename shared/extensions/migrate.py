"""Alembic through Flask-Migrate."""

from pathlib import Path

from flask import Flask
from flask_migrate import Migrate

from shared.models import db

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def init_app(app: Flask) -> None:
    """Register the migration commands for the models' metadata."""
    Migrate(app, db, directory=str(MIGRATIONS), compare_type=True)
