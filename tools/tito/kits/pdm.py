"""Boards with PDM microphones, and what to use instead.

MicroPython reads none of them on the RP2040 and the ESP32: machine.I2S is standard (Philips) I2S
(docs.micropython.org, machine.I2S; github.com/micropython/micropython, discussion 9284 and pull
requests 8016 and 14176, neither of which was merged).
"""

# Board, its microphone if known, and the name of MicroPython's build for it.
PDM = (
    ("Arduino Nano RP2040 Connect", "MP34DT06", "Arduino Nano RP2040 Connect"),
    ("Seeed XIAO ESP32S3 Sense", "", "Seeed XIAO ESP32S3"),
    ("M5Stack Atom Echo", "SPM1423", "M5Stack ATOM"),
    ("M5Stack AtomU", "SPM1423", "M5Stack ATOM"),
    ("M5Stack AtomS3U", "SPM1423", ""),
    ("M5StickC", "SPM1423", ""),
    ("M5Stack Cardputer", "SPM1423", ""),
    ("LilyGO T-Watch 2020 V3", "", ""),
    ("52Pi PicoMate", "ZTS6531S", ""),
    ("Adafruit PDM microphone breakout", "MP34DT01", ""),
)
INSTEAD = (
    "connect an INMP441 on three pins (--source i2s), on an RP2040 an analog microphone on an ADC "
    "pin (--source adc), or let the laptop listen (--source wire)"
)


def advice(board: str) -> str:
    """A sentence on the PDM microphone of a board of this name (Device.info), or ""."""
    names = [name for name, _, build in PDM if build and board.startswith(f"{build} with ")]
    if not names:
        return ""
    return (
        f"The microphone of the {' and the '.join(names)} speaks PDM, which stock MicroPython does "
        f"not read: {INSTEAD}."
    )


def table() -> str:
    """A sentence on all of these boards."""
    names = ", ".join(name + (chip and f" ({chip})") for name, chip, _ in PDM)
    return f"Stock MicroPython does not read PDM microphones: {names}; {INSTEAD}."
