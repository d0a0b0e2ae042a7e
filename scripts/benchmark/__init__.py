"""The service under load: what it costs beside an empty gRPC handler, on this machine.

``scripts/bench`` is the command. How the parts hang together:

    cli        arguments in, table out
    runner     interleaved rounds of a workload over the servers
    servers    the service, the floor and Google's emulator as subprocesses
    floor      the floor server itself
    loops      which event loop floor and load run on
    process    CPU time and memory of a process family, from /proc
    wire       protobuf classes, ready-made bodies, method paths
    api        the few unary calls that set a trial up and clear it away
    publishing, publish_load, consuming, official     load
    trial      one workload on one server in one round: what a workload gets to work with
    workloads/ one module per kind of load
    figures, targets, report    figures to medians, marks, text and JSON

The bench process and the floor never import the official client: it registers the same protobuf
symbols as the service's generated code. Only ``official`` does, in a subprocess of its own.
"""
