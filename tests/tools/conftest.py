"""Kits for the tests of the tools, each with a flash of its own."""

import pytest

from tito.board.repl import Repl
from tito.errors import TitoError
from tito.kits.firmware import find_firmware
from tito.kits.open import open_kit


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A new TINYTORCH_HOME."""
    monkeypatch.setenv("TINYTORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def virtual_kit(home):
    with open_kit("virtual") as kit:
        yield kit


@pytest.fixture(scope="session")
def firmware():
    """The Pico firmware image, which no test downloads."""
    try:
        return find_firmware(download=False)
    except TitoError as error:
        pytest.skip(f"no Pico firmware image: {error}")


@pytest.fixture
def pico_kit(home, firmware):
    with open_kit("pico", firmware) as kit:
        yield kit


@pytest.fixture(params=["virtual", "pico"])
def kit(request):
    """Each kit in turn."""
    return request.getfixturevalue(f"{request.param}_kit")


@pytest.fixture(scope="module", params=["virtual", "pico"])
def shared_kit(request, tmp_path_factory):
    """Each kit in turn, one for all tests of a file: these leave its flash as they found it."""
    firmware = request.getfixturevalue("firmware") if request.param == "pico" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYTORCH_HOME", str(tmp_path_factory.mktemp("home")))
        with open_kit(request.param, firmware) as kit:
            yield kit


@pytest.fixture
def repl(shared_kit):
    """The raw REPL of each kit in turn, with a fresh heap."""
    with Repl(shared_kit.port, shared_kit.timeout_scale) as repl:
        repl.enter()
        yield repl
