"""Start, drain and stop: the service in one process or in several."""
