"""`dataplane demo`: the whole way from a folder of pictures to answers over HTTP, with a crash in between, and a report of it."""

from train.demo.command import demo

__all__ = ["demo"]
