"""Who is measured: one file a contender. Each is run as `python -m benchmarks.peers.NAME` and speaks `benchmarks.peers.protocol`."""
