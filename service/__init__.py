"""The assistant behind HTTP: keys, tenants, policy, journal, tools, a page. Stands on assistant."""
