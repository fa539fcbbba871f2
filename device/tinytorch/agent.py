"""The board's end of the wire: `serve()` answers the requests of tinytorch_core.link.

The laptop starts it through the REPL. It returns to the REPL at BYE or after a timeout.
"""

import gc
import json
import select
import struct
import sys
import time

import micropython

from tinytorch import boards, store
from tinytorch_core import link


class _Agent:
    """The state between requests, and a method that answers each kind of them."""

    def __init__(self):
        self.transfer = None
        self.model = None
        self.verified = None  # (name, sha256) of a new model that may become the active one
        self.session = None  # tinytorch.session.ListenSession

    def info(self, _):
        gc.collect()
        about = boards.describe()
        about["free_ram"] = gc.mem_free()
        about["free_flash"] = store.free()
        about["models"] = store.models()
        return about

    def put(self, request):
        self.close()
        self.transfer = store.Transfer(request["name"], request["size"], request["fresh"])
        return {"at": self.transfer.at, "crc": self.transfer.crc}

    def data(self, payload):
        return self.under_way().write(struct.unpack_from("<I", payload)[0], payload[4:])

    def end(self, request):
        self.under_way().end(request["crc"])
        self.transfer = None

    def load(self, request):
        from tinytorch.runtime import Model

        name = request["name"]
        path = store.new_path(name) if request["new"] else store.path(name)
        self.stop_listening()
        self.model = self.verified = None
        gc.collect()
        before = gc.mem_alloc()
        gc.disable()  # so that what load and run leave behind counts: this is their peak
        try:
            try:
                model, us = _load(Model, path)
            except MemoryError:  # garbage included it was too much: collect, and try again
                gc.enable()
                gc.collect()
                model, us = _load(Model, path)
            peak = gc.mem_alloc() - before
        finally:
            gc.enable()
        gc.collect()
        kept = gc.mem_alloc() - before
        vectors = model.verify()
        self.model = model
        if request["new"]:
            self.verified = name, model.sha256
        return {"sha256": model.sha256, "vectors": vectors, "us": us, "peak": peak, "kept": kept}

    def activate(self, request):
        if not self.verified or self.verified[0] != request["name"]:
            raise ValueError("Load and verify the new model first.")
        store.activate(*self.verified)
        self.verified = None

    def run(self, payload):
        model = self.loaded()
        at = struct.unpack_from("<I", payload)[0]
        end = at + len(payload) - 4
        if end > len(model.input):
            raise ValueError("The model takes %d bytes and got more." % len(model.input))
        model.input[at:end] = payload[4:]
        if end < len(model.input):
            return b""
        us = _time(model.run)
        return struct.pack("<I", us) + bytes(model.output)

    def profile(self, _):
        model = self.loaded()
        times = []
        for kernel, at in model._steps:
            times.append(_time(kernel, model._arena, model._program, at))
        model.reset()  # it was a step of no stream
        return times

    def loaded(self):
        if not self.model:
            raise ValueError("No model is loaded.")
        return self.model

    def stop_listening(self):
        if self.session:
            self.session.source.close()
            self.session = None

    def delete(self, request):
        self.close()
        store.delete(request["name"])

    def bye(self, _):
        return b""

    def under_way(self):
        if not self.transfer:
            raise ValueError("No transfer is under way: begin again.")
        return self.transfer

    def close(self):
        if self.transfer:
            self.transfer.close()
            self.transfer = None

    def drop(self):
        if self.transfer:
            self.transfer.drop()
            self.transfer = None


def _time(call, *args):
    """The duration of a call in microseconds."""
    start = time.ticks_us()
    call(*args)
    return time.ticks_diff(time.ticks_us(), start)


def _load(Model, path):
    model = Model(path)
    return model, _time(model.run)


_ANSWERS = {
    link.INFO: _Agent.info,
    link.PUT: _Agent.put,
    link.END: _Agent.end,
    link.LOAD: _Agent.load,
    link.ACTIVATE: _Agent.activate,
    link.DELETE: _Agent.delete,
    link.RUN: _Agent.run,
    link.PROFILE: _Agent.profile,
    link.BYE: _Agent.bye,
}


def _answer(agent, kind, seq, payload):
    """The reply to a request, a frame: OK, ACK or ERROR."""
    try:
        if kind == link.DATA:
            return link.frame(link.ACK, seq, struct.pack("<I", agent.data(payload)))
        if link.LISTEN <= kind <= link.STOP_LISTENING:
            from tinytorch import session

            reply = session.answer(agent, kind, payload)
        else:
            request = payload if kind == link.RUN or not payload else json.loads(payload)
            reply = _ANSWERS[kind](agent, request)
        if not isinstance(reply, (bytes, bytearray)):
            reply = json.dumps(reply).encode()
        return link.frame(link.OK, seq, reply)
    except MemoryError:
        gc.collect()
        text = (
            "The model needs more memory than the %d bytes that the board has free." % gc.mem_free()
        )
    except OSError as error:
        agent.drop()
        if error.errno == 28:
            text = (
                "The board's flash has no room for it (%d bytes are free): "
                "delete a model or other files." % store.free()
            )
        else:
            text = "The board's file system failed with error %d." % error.errno
    except Exception as error:
        text = str(error)
        if not isinstance(error, ValueError):
            text = "The board's agent failed (%s: %s)." % (type(error).__name__, text)
    return link.frame(link.ERROR, seq, text.encode())


def serve(timeout=60000):
    """Answer requests on the REPL's line until BYE, or until `timeout` ms pass without one."""
    stdin, write = sys.stdin.buffer, sys.stdout.buffer.write
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)

    def readinto(view):
        for _ in poll.ipoll(timeout):
            return stdin.readinto(view)
        return 0

    agent, reader = _Agent(), link.Reader()
    last, reply = 0, None
    micropython.kbd_intr(-1)  # a byte 3 is data now
    try:
        write(link.frame(link.READY))
        while reader.read(readinto):
            kind, seq = reader.kind, reader.seq
            if kind == link.DATA:
                write(_answer(agent, kind, seq, reader.payload))
                continue
            # A request that comes again, because its answer was lost, is not carried out again.
            if seq != last or not reply:
                reply = _answer(agent, kind, seq, reader.payload)
                last = seq
            write(reply)
            if kind == link.BYE:
                break
    finally:
        agent.close()
        agent.stop_listening()
        micropython.kbd_intr(3)
