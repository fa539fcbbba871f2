"""The firmware image of the emulated Pico: found, checked, fetched."""

import hashlib
import struct
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tito.errors import TitoError, UsageError
from tito.kits import firmware

DOCUMENT = struct.pack("<I24xI", 0x0A324655, 0xE48BFF56).ljust(512, b"\x00")


@pytest.fixture
def empty(home, monkeypatch):
    """No image anywhere."""
    monkeypatch.delenv("TINYTORCH_PICO_FIRMWARE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "nothing"))
    monkeypatch.setenv("HOME", str(home / "nobody"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def place():
    """A web server on this computer that has one file; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path.endswith("firmware.uf2")
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(DOCUMENT) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(DOCUMENT)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_given_image_is_taken(empty, tmp_path, monkeypatch):
    image = tmp_path / "mine.uf2"
    image.write_bytes(DOCUMENT)
    assert firmware.find_firmware(image) == image
    monkeypatch.setenv("TINYTORCH_PICO_FIRMWARE", str(image))
    assert firmware.find_firmware() == image


def test_an_image_that_cannot_be(empty, tmp_path):
    image = tmp_path / "image.uf2"
    with pytest.raises(UsageError, match=r"There is no firmware image .*image\.uf2"):
        firmware.find_firmware(image)
    image.write_bytes(b"not a firmware image")
    with pytest.raises(UsageError, match="not a firmware image in the UF2 format"):
        firmware.find_firmware(image)
    image.write_bytes(struct.pack("<I24xI", 0x0A324655, 0xE48BFF59).ljust(512))
    with pytest.raises(UsageError, match="another chip"):
        firmware.find_firmware(image)


def test_the_cache_is_filled_once(empty, place, monkeypatch, home):
    monkeypatch.setattr(firmware, "SHA256", hashlib.sha256(DOCUMENT).hexdigest())
    image = firmware.find_firmware(url=f"{place}/firmware.uf2")
    assert image == home / "cache" / "firmware" / firmware.NAME
    assert image.read_bytes() == DOCUMENT
    assert firmware.find_firmware(url="http://127.0.0.1:1/gone") == image


def test_a_damaged_image_in_the_cache_is_not_booted(empty, home):
    image = home / "cache" / "firmware" / firmware.NAME
    image.parent.mkdir(parents=True)
    image.write_bytes(DOCUMENT)
    with pytest.raises(TitoError, match="no Pico firmware image"):
        firmware.find_firmware(download=False)


def test_a_wrong_checksum(empty, place, home):
    with pytest.raises(TitoError, match="wrong checksum.*--firmware"):
        firmware.find_firmware(url=f"{place}/firmware.uf2")
    assert not list(home.rglob("*.uf2*"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/firmware.uf2", "{place}/nothing"])
def test_without_internet_one_sentence_says_what_to_do(empty, place, url):
    with pytest.raises(TitoError) as error:
        firmware.find_firmware(url=url.format(place=place))
    sentence = str(error.value)
    assert "cannot be reached" in sentence
    assert firmware.URL in sentence
    assert "--firmware FILE or TINYTORCH_PICO_FIRMWARE" in sentence
