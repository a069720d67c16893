"""The mail queue's logic arrives with its tasks."""
