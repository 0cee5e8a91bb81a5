"""The wire formats as pydantic models, which /openapi.json is made from."""
