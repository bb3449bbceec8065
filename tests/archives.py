"""Members of tars as bytes."""

import tarfile


def member_bytes(archive: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    """What a member holds that is a file."""
    file = archive.extractfile(member)
    assert file is not None, f"{member} is no file"
    return file.read()
