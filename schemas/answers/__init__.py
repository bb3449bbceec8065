"""What the command line answers with `--json`, what the service answers, and what the functions behind both return. Imports
pydantic only."""
