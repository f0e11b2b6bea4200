"""Development secrets: made once per data folder, so that tokens and PINs outlive a restart."""

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
    return {name: _kept(folder / name) for name in NAMES}


def _kept(path: Path) -> str:
    """Read a secret, or make it; written aside and linked into place, so that nobody ever reads half of one."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(BYTES), encoding="ascii")
        with contextlib.suppress(FileExistsError):  # somebody else was quicker: theirs counts
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="ascii")
