"""Damage for tests: flipped bits, full disks."""

from pathlib import Path

from purejaxrl.running import checkpoint


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path: Path, byte: int, bit: int) -> None:
    """Flip one bit of a file."""
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


def fail_at(monkeypatch, stage: str, folder: Path) -> None:
    """Make saving to this folder fail when it writes the arrays or the manifest, or moves it."""
    if stage == "arrays":
        monkeypatch.setattr(checkpoint.ocp, "save", full_disk)
    elif stage == "manifest":
        monkeypatch.setattr(checkpoint, "write_atomically", full_disk)
    else:
        replace = checkpoint.os.replace

        def moves_all_but_the_new_checkpoint(source, target):
            is_new = Path(source).name == f".{folder.name}.partial"
            return full_disk() if is_new else replace(source, target)

        monkeypatch.setattr(checkpoint.os, "replace", moves_all_but_the_new_checkpoint)
