"""Who asks: callers, keys, tenants, roles, limits."""
