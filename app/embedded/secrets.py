"""Development secrets, created once per data folder, so that tokens and PINs survive a restart."""

import contextlib
import os
import secrets
from pathlib import Path

NAMES = ("jwt_secret", "session_secret", "pin_pepper")
BYTES = 48


def development_secrets(data_dir: Path) -> dict[str, str]:
    """The secrets of a data folder by settings field, from files that only their owner can read."""
    folder = data_dir / "secrets"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {name: _read_or_create(folder / name) for name in NAMES}


def _read_or_create(path: Path) -> str:
    """Read or create a secret. A new file is linked into place, so no reader sees half of it."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(BYTES), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # another process was faster; its secret is used
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="ascii")
