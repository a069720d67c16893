"""Celery as producers and workers both need it."""
