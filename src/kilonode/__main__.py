"""``python -m kilonode`` is ``kilonode``."""

from kilonode.cli import main

if __name__ == "__main__":
    main()
