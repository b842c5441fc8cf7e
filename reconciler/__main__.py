"""`python -m reconciler`: the command line."""


def main() -> None:
    """Run the command line."""
    from reconciler.cli import main as command_line  # noqa: PLC0415  so that importing this module costs nothing

    command_line()


if __name__ == "__main__":
    main()
