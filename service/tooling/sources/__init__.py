"""Tools that read what the operator names: databases and pages."""
