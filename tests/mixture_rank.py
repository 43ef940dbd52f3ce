"""Ranks as processes of their own: `python -m tests.mixture_rank LAKE SOCKET…`. Each socket, a file descriptor, tells one rank what
to do, line by line. They are forked once everything is imported, which takes longer than all that they do.

A line is JSON: rank, world, batch_size, threads, state (None at the beginning) and steps. What was delivered comes back as one line: a
list of (epoch, position, component, its epoch, key, digest of all arrays), and the state.
"""

import json
import os
import socket
import sys
import warnings
from contextlib import closing
from itertools import islice

from blake3 import blake3

from dataplane import Lake
from tests.mixtures import everything, loader_of


def told(batches, names):
    """Plain JSON of what was delivered."""
    found = []
    for batch in batches:
        for i, position in enumerate(batch.positions.tolist()):
            digest = blake3(b"".join(batch[name][i].tobytes() for name in sorted(batch))).hexdigest(16)
            component = names[batch.components[i]]
            found.append([batch.epoch, position, component, int(batch.component_epochs[i]), batch.sample_keys[i], digest])
    return found


def serve(data, lines):
    """What one rank is told."""
    for line in lines:
        order = json.loads(line)
        state, steps = order.pop("state"), order.pop("steps")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with loader_of(data, **order) as loader:
                if state is not None:
                    loader.load_state_dict(state)
                batches = list(islice(loader, steps))
                lines.write(json.dumps([told(batches, loader.components), loader.state_dict()]) + "\n")
                lines.flush()


def main(url, numbers):
    """Fork a rank for each socket and wait for them. How many failed."""
    data = everything(Lake(url))
    with loader_of(data, threads=0) as loader:
        next(iter(loader))  # so that what is compiled is loaded too
    sockets, ranks = [socket.socket(fileno=number) for number in numbers], []
    for mine in sockets:
        ranks.append(os.fork())
        if not ranks[-1]:
            for other in sockets:
                if other is not mine:
                    other.close()
            with closing(mine), mine.makefile("rw") as lines:
                serve(data, lines)
            return 0
    for mine in sockets:
        mine.close()
    return sum(os.waitpid(rank, 0)[1] != 0 for rank in ranks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], [int(number) for number in sys.argv[2:]]))
