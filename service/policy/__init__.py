"""Policies: Cedar for who may do what, YAML for what texts may say, per tenant, reloaded when the files change."""
