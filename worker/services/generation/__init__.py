"""The generation queue's logic arrives with its tasks."""
