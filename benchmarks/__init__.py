"""Side-by-side measurements of this project and what users would pick instead. Run from the project's root: `python -m benchmarks --help`.

```
cli.py            the command line
datasets.py       one set of photographs in every layout that a contender reads
photographs.py    photographs of ImageNet's size distribution, for runs without a folder of one's own
tasks/            what is measured: the task's description, its reference and its verification
peers/            who is measured, one file a contender; each runs as a process of its own
probes/           what is held against limits instead of peers, one program a task
limits.py         starts probes, a fresh process a round
servers.py        a server of objects, for tasks that need one
environments.py   a virtual environment for contenders whose needs clash with the project's
harness.py        starts contenders, interleaves their rounds, survives their failures
machine.py        hardware and versions
report.py         the document, the table and the plot
results/          kept runs (`--save`)
```
"""
