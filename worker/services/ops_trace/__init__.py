"""The ops_trace queue: traces on their way to providers, and their clean-up."""
