"""What ``celery -A`` names for plain Celery; see ``benchmarks.noop``."""

from gevent import monkey

from benchmarks.noop import plain_app_of_environment

if monkey.is_module_patched("socket"):
    from psycogreen.gevent import patch_psycopg

    # psycopg2 waits in C and would stop all greenlets.
    patch_psycopg()

app = plain_app_of_environment()
