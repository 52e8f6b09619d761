"""A whole cluster in one process on a virtual clock, driven by one seed.

The product's own code runs: handlers and objects layer of gateways, operations and group commit of
the metadata service, fragment stores, workers, the frames between them. What is simulated is the
world: the event loop's time, threads, the network, disks, RocksDB, clocks and random numbers. The
same seed gives the same run, event for event. source  the simulator of FoundationDB
"""
