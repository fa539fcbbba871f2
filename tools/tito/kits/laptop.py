"""The laptop's own microphone, as a source of samples like any other."""

import time
from contextlib import suppress

from tito.closing import Closing
from tito.errors import TitoError, UsageError


class LaptopMicrophone(Closing):
    """The system's default microphone, at `rate` Hz, one channel.

    `lost` counts the samples that came while nobody read. Needs the package sounddevice. Raises
    UsageError where that is missing, and TitoError where there is no PortAudio or no microphone.
    """

    channels = 1

    def __init__(self, rate: int) -> None:
        try:
            import sounddevice
        except ImportError:
            raise UsageError(
                "The laptop's microphone needs the package sounddevice: "
                "install it with `pip install tinytorch[mic]`."
            ) from None
        except OSError:
            raise TitoError(
                "The laptop's microphone needs the library PortAudio: install it, on Debian and "
                "Ubuntu with `sudo apt install libportaudio2`."
            ) from None
        self.rate, self.lost = rate, 0
        self._errors = sounddevice.PortAudioError
        try:
            self._stream = sounddevice.RawInputStream(
                samplerate=rate, channels=1, dtype="int16", latency="high"
            )
            self._stream.start()
        except self._errors as error:
            raise TitoError(
                f"This computer has no microphone that gives {rate} Hz ({error.args[0]}): plug one "
                "in, and choose it in the system's settings."
            ) from None
        self._start, self._read = time.monotonic(), 0

    def readinto(self, buffer: "bytearray | memoryview") -> int:
        """Fill `buffer` with int16 samples and return the bytes read.

        Raises TitoError if the microphone goes away.
        """
        try:
            data, overflowed = self._stream.read(len(buffer) // 2)
            waiting = self._stream.read_available
        except self._errors as error:
            raise TitoError(
                f"The microphone gives no more sound ({error.args[0]}): plug it in again."
            ) from None
        self._read += len(data) // 2
        buffer[: len(data)] = data
        if overflowed:
            # How many they were is not told, but by the clock.
            due = int((time.monotonic() - self._start) * self.rate)
            self.lost = max(self.lost + 1, due - self._read - waiting)
        return len(data)

    def close(self) -> None:
        with suppress(self._errors):
            self._stream.abort()
            self._stream.close()
