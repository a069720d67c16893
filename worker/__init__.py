"""What only a worker process and its operator run."""
