"""What the command line answers with `--json`, and the functions behind it return. Imports pydantic only."""
