"""The dataset queue: files become searchable segments."""
