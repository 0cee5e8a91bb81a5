"""What every route of the service shares: reading bodies strictly, errors, limits, streams."""
