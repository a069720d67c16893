"""Where we keep things."""
