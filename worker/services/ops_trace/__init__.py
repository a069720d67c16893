"""The ops_trace queue's logic arrives with its tasks."""
