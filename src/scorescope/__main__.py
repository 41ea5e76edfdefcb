"""``python -m scorescope``: the same as the ``scorescope`` command, for launchers such as torchrun."""

from scorescope.cli import main

if __name__ == "__main__":
    main()
