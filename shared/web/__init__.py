"""What an application of yours mounts: Flask blueprints over the producer calls."""
