"""Producers: validate, write the row, enqueue."""
