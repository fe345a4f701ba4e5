//! The front over real loopback sockets, as clients and upstreams see it: byte for byte.

mod balancing;
mod rig;
