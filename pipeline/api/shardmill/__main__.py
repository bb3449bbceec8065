"""The command `shardmill`, which pyproject.toml installs, and `python -P -m shardmill`: the path is put in order before anything
else is imported, so that nothing that lies in the working folder ever is."""

from importlib import import_module

from pipeline.process.own_code import leave_out_working_folder


def main() -> None:
    """Runs the command line and exits."""
    leave_out_working_folder()
    import_module("pipeline.cli.main").main()   # the roof, which this room does not look at


if __name__ == "__main__":
    main()
