//! Links between the workers of a topology: ZeroMQ sockets and the thread that owns them. Bytes and peers, no Python.
