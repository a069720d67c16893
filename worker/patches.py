"""What must be patched before the first connection of a gevent worker.

The ``celery`` command monkey-patches the standard library for ``-P gevent``
before it imports the app; psycopg2 waits in C and needs its own hook.
"""

from gevent import monkey


def patch_drivers() -> None:
    """Make psycopg2 yield to other greenlets; does nothing in the other pools."""
    if monkey.is_module_patched("socket"):
        from psycogreen.gevent import patch_psycopg

        patch_psycopg()
