"""Models in the board's flash, updated atomically: the last good one is never touched.

/models/NAME.a.tt, NAME.b.tt    two slots; the one that is not active takes the next model
/models/NAME.json               manifest: the active slot, the model's sha256, its bytes
/models/NAME.[ab].tt.new        a transfer under way, or cut short, to be resumed

Every step that counts is an `os.rename`, which littlefs does atomically, also at a power failure.
"""

import binascii
import json
import os

FOLDER = "/models"
_FLUSH = 16384  # bytes that a power failure may cost; each flush costs a block
_SPARE = 5 * 4096  # for the file system's own blocks, and for the manifest


def _file(name, end):
    return "%s/%s.%s" % (FOLDER, name, end)


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        pass


def free():
    """Bytes of flash that are free."""
    stat = os.statvfs("/")
    return stat[0] * stat[3]


def manifest(name):
    """The active model's slot, sha256 and bytes (dict), or None; None for a foreign file, too."""
    try:
        with open(_file(name, "json")) as f:
            active = json.load(f)
        return active if active["slot"] in ("a", "b") else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def path(name):
    """The file of the active model of this name. Raises ValueError where there is none."""
    active = manifest(name)
    if not active:
        raise ValueError("There is no model '%s' on this board: send it with 'tito deploy'." % name)
    return _file(name, active["slot"] + ".tt")


def new_slot(name):
    """The slot that takes the next model of this name: "a" or "b"."""
    active = manifest(name)
    return "a" if not active or active["slot"] == "b" else "b"


def new_path(name):
    """The file of the next model, before it becomes the active one."""
    return _file(name, new_slot(name) + ".tt")


def models():
    """The active models: a list of dicts of name, slot, sha256, bytes."""
    active = []
    for entry in _entries():
        if entry.endswith(".json"):
            model = manifest(entry[:-5])
            if model:
                model["name"] = entry[:-5]
                active.append(model)
    return active


def activate(name, sha256):
    """Make the new model the active one. It must be there, and have been verified."""
    slot = new_slot(name)
    new = _file(name, "json.new")
    with open(new, "w") as f:
        size = os.stat(new_path(name))[6]
        json.dump({"slot": slot, "sha256": sha256, "bytes": size}, f)
    os.rename(new, new[:-4])


def delete(name):
    """Remove the model of this name and its partial transfers."""
    _remove(_file(name, "json"))
    for end in ("a.tt", "b.tt", "a.tt.new", "b.tt.new"):
        _remove(_file(name, end))


def _entries():
    try:
        return os.listdir(FOLDER)
    except OSError:
        return []


def _measure(path):
    """The length and CRC-32 of a file, read back from flash; (0, 0) where there is none."""
    view = memoryview(bytearray(512))
    at = crc = 0
    try:
        with open(path, "rb") as f:
            while True:
                n = f.readinto(view)
                if not n:
                    break
                crc = binascii.crc32(view[:n], crc)
                at += n
    except OSError:
        pass
    return at, crc


class Transfer:
    """Receives a new model of `size` bytes into the slot that is not active.

    `at` and `crc`: length and CRC-32 of what is there already, from a transfer that was cut short
    or from the slot's earlier model. The sender compares them with the head of the new file and,
    where they differ, begins again with fresh=True.

    Raises OSError(28) where the flash has no room for the rest; what has arrived stays.
    """

    def __init__(self, name, size, fresh):
        self._path = new_path(name)
        self._new = self._path + ".new"
        if not _entries():
            try:
                os.mkdir(FOLDER)
            except OSError:
                pass  # it is there, and empty
        for entry in _entries():
            entry = FOLDER + "/" + entry
            if entry == self._path:
                os.rename(entry, self._new)
            elif entry.endswith(".new") and entry != self._new:
                os.remove(entry)
        if fresh:
            _remove(self._new)
        self.at, self.crc = _measure(self._new)
        if size - self.at > free() - _SPARE:
            raise OSError(28)
        self._f = open(self._new, "ab")

    def write(self, at, data):
        """Write data if it continues the file. Returns the position up to which all is written."""
        if at == self.at:
            self._f.write(data)
            self.at += len(data)
            if at // _FLUSH != self.at // _FLUSH:
                self._f.flush()
        return self.at

    def end(self, crc):
        """Close the file, and put it into its slot if the flash gives back what was sent."""
        self._f.close()
        if _measure(self._new)[1] != crc:
            os.remove(self._new)
            raise ValueError(
                "The flash gave back other bytes than were sent: send again, and if that does not "
                "help, the flash is worn out."
            )
        os.rename(self._new, self._path)

    def close(self):
        """Stop, and keep what has arrived, to be resumed."""
        try:
            self._f.close()
        except OSError:
            pass

    def drop(self):
        """Stop, and free the flash that the transfer took."""
        self.close()
        _remove(self._new)
