//! The engine of rainband without Python, sockets, clocks or threads.
