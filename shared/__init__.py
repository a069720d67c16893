"""What producers and workers both import."""
