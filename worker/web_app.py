"""What gunicorn names: ``worker.web_app:app``."""

from worker.web import create_web_app

app = create_web_app()
