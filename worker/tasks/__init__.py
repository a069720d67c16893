"""Tasks: thin; one module a queue."""
