"""Files from their official places: fetched once, checked, resumed where a transfer broke off."""

import os
import shutil
from pathlib import Path
from typing import Any

import platformdirs


def cache_folder() -> Path:
    """$TINYTORCH_HOME/cache if it is set, else the user's own cache folder."""
    home = os.environ.get("TINYTORCH_HOME")
    return Path(home) / "cache" if home else platformdirs.user_cache_path("tinytorch")


def fetch(url: str, sha256: str, name: str, progress: bool = True) -> Path:
    """The file `name` in the cache, downloaded from `url` unless it is there with this SHA-256.

    An interrupted transfer is resumed. If the resumed file has the wrong checksum, the transfer
    begins anew. Raises OSError if the file cannot be fetched, or if a complete transfer has the
    wrong checksum.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    target = cache_folder() / name
    part = target.with_name(f"{target.name}.part")
    doing = f"fetching {target.name}"

    def resume(url: str, temporary: str, _: Any) -> None:
        _resume(url, part, doing, progress)
        shutil.move(part, temporary)

    while True:
        resumed = part.exists()
        try:
            path = pooch.retrieve(
                url, f"sha256:{sha256}", fname=target.name, path=target.parent, downloader=resume
            )
            return Path(path)
        except ValueError as error:
            if not resumed:
                raise OSError(f"what {url} sent has the wrong checksum") from error
            doing = f"the partial {target.name} was damaged: fetching it anew"
        except requests.RequestException as error:
            if part.exists():
                message = f"{url} broke off: the next time goes on from there"
            else:
                message = f"{url} cannot be reached"
            raise OSError(message) from error


def _resume(url: str, part: Path, doing: str, progress: bool) -> None:
    """Download `url` to `part`, from where an earlier attempt stopped if the server can."""
    import requests
    from tqdm import tqdm

    have = part.stat().st_size if part.exists() else 0
    # A compressed transfer could not be resumed: its bytes differ from the file's.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=(5, 30)) as answer:
        if answer.status_code == 416:  # Nothing is missing any more; the checksum judges it.
            return
        answer.raise_for_status()
        if have and answer.status_code != 206:
            have, doing = 0, f"{doing} from its beginning"
        size = answer.headers.get("Content-Length")  # not every server says
        total = have + int(size) if size else None
        with (
            part.open("r+b" if have else "wb") as f,
            tqdm(
                desc=doing, total=total, initial=have,
                unit="B", unit_scale=True, leave=False, disable=not progress,
            ) as bar,
        ):  # fmt: skip
            f.seek(have)
            for block in answer.iter_content(1 << 16):
                bar.update(f.write(block))
            if total and f.tell() < total:
                raise requests.ConnectionError(f"{total - f.tell()} bytes of {url} are missing")
