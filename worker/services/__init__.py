"""The logic, one folder a queue; no folder knows another."""
