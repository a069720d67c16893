"""The delivery contract: nothing accepted is lost, doubled or stuck."""
