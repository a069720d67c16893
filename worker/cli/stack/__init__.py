"""The servers and processes of a development stack, started and stopped as one."""
